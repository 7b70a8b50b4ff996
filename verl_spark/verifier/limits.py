"""What a model's folder says of its limits, which an engine would refuse to pass: known before one is started."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILE = "config.json"
"""Of `transformers`, in the folder of every model."""


class Limits(NamedTuple):
    """Limits of a model, each None where its config does not say it."""

    positions: int | None = None
    """Tokens of its longest sequence, prompt and reply together."""
    heads: int | None = None
    """Attention heads, which tensor parallelism divides."""

    @classmethod
    def of(cls, folder: Path) -> "Limits":
        """The limits of a local model; of a name on a hub, which is not looked up, nothing is known.

        Raises `ValueError`, naming the file, for one that cannot be read."""
        path = folder / FILE
        if not path.is_file():
            return cls()
        try:
            config = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} cannot be read ({error}); save the model again") from None
        text = config.get("text_config", {})  # of a model that reads more than text
        return cls(*(config.get(key, text.get(key)) for key in ("max_position_embeddings", "num_attention_heads")))

    def undivided(self, model: object, key: str, size: int) -> Iterator[str]:
        """Why the tensor parallel size under `key` cannot divide `model`, and which sizes can; else nothing."""
        if self.heads is not None and self.heads % size:
            fitting = ", ".join(str(size) for size in range(1, self.heads + 1) if self.heads % size == 0)
            yield (
                f"{key}={size} does not divide the {self.heads} attention heads of {model}; set it to one of: {fitting}"
            )
