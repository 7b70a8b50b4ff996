"""What a trained verifier is: the file that travels with its weights and says how it must be asked.

Training writes it, the reward stage reads it: a model is asked with the prompt it was trained with and read as what it
was trained to write, or not at all. Neither verl nor torch is needed here."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from verl_spark.files import replacing
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import prompt_hash, verifier_prompt

FILE = "spark_verifier.json"
"""Name of the file in the model's folder."""


class Identity(BaseModel):
    """A trained verifier. Only the first three fields decide how it is asked; the others say where it comes from."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    """What it writes."""
    prompt: str
    """Name of the prompt it was trained with."""
    prompt_sha256: str
    """Hash of that prompt's wording."""
    base_model: str
    seed: int
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the training and its steps."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Files of the training by split, each with hash and counts."""
    data_card: dict[str, Any] | None = None
    """What Stage I says of the data; None if nobody gave a card."""
    versions: dict[str, str] = Field(default_factory=dict)
    scores: dict[str, Any] = Field(default_factory=dict)
    """Results of evaluations, by name; empty before the first."""

    @classmethod
    def of_kind(cls, kind: Kind, **facts: Any) -> "Identity":
        """The identity of a verifier of this kind that is trained with the prompts of this version."""
        prompt = verifier_prompt(kind)
        return cls(kind=kind, prompt=prompt, prompt_sha256=prompt_hash(prompt), **facts)

    @classmethod
    def of(cls, folder: Path) -> "Identity | None":
        """The identity in a model's folder; None if it has none, as models trained elsewhere.

        Raises `ValueError`, naming the file, for one that cannot be read."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ValueError(f"{path} cannot be read ({faults}); export the model again") from None

    def write(self, folder: Path) -> None:
        """Puts the file into the model's folder, over an older one."""
        with replacing(folder / FILE) as file:
            file.write(self.model_dump_json(indent=2) + "\n")

    def misfit(self, kind: Kind) -> str | None:
        """Why this model must not be asked as a verifier of `kind` by this version; None if it may."""
        if self.kind is not kind:
            return f"{FILE} says that it was trained as {self.kind.value}, and it would be asked as {kind.value}"
        prompt = verifier_prompt(kind)
        if (self.prompt, self.prompt_sha256) == (prompt, prompt_hash(prompt)):
            return None
        made_with = self.versions.get("verl-spark", "another version")
        return (
            f"{FILE} says that it was trained with the prompt {self.prompt} {self.prompt_sha256[:12]}, and it would be "
            f"asked with {prompt} {prompt_hash(prompt)[:12]}; use the verl-spark it was trained with ({made_with}), or "
            "train it again"
        )
