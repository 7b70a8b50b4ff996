"""The data set class of the presets, for verl's SFT trainer (`data.custom_cls`, verl 0.9.1).

verl's own class gives each turn to the chat template alone. That trains whatever the template writes behind the end
of a turn (a line break with Qwen's), and it fails or differs from the prompt of the reward stage where a template
treats the last turn in its own way. Here a row is the prompt as the reward stage sends it, the reply, and the end of
the turn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from verl_spark.prm.rows import read_rows
from verl_spark.verifier.chat import Chat


class VerificationDataset(Dataset):  # type: ignore[misc]  # torch's types are not followed
    """Rows of verl's `messages` parquet, one user and one assistant turn each, in an order that `data.seed` decides.

    The signature is verl's (`create_sft_dataset`). `config` is the node `data`; `max_samples` above 0 takes the first
    rows of the files. With `filter_overlong`, rows of more than `max_length` tokens are left out. Raises `ValueError`
    for a tokenizer whose chat template cannot be used, and for another `pad_mode` than `no_padding`."""

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: Any,
        config: Any,
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        if (mode := config.get("pad_mode", "no_padding")) != "no_padding":
            raise ValueError(f"data.pad_mode={mode}: rows are never padded here; set it to no_padding")
        self._chat = Chat(tokenizer)
        self._max_length = config.get("max_length", 1024)
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        rows = read_rows([Path(file).expanduser() for file in files], config.get("messages_key", "messages"))
        turns = [row.turns() for row in rows]
        if max_samples > 0:
            turns = turns[:max_samples]
        if config.get("filter_overlong", False):
            turns = [turn for turn in turns if sum(map(len, self._ids(turn))) <= self._max_length]
        order = np.random.default_rng(config.get("seed")).permutation(len(turns))
        self._turns = [turns[index] for index in order]

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """`input_ids`, `position_ids` and `loss_mask` of one row, each of shape (tokens,); the mask is 1 on the reply
        and the end of its turn. Raises `ValueError` for a row longer than `data.max_length`."""
        prompt, reply = self._ids(self._turns[index])
        length = len(prompt) + len(reply)
        if length > self._max_length:
            raise ValueError(
                f"a row has {length} tokens, and data.max_length={self._max_length}; raise it, or leave such rows out "
                "with data.filter_overlong=True"
            )
        return {
            "input_ids": torch.tensor([*prompt, *reply]),
            "position_ids": torch.arange(length),
            "loss_mask": torch.tensor([0] * len(prompt) + [1] * len(reply)),
        }

    def _ids(self, turns: tuple[str, str]) -> tuple[list[int], list[int]]:
        message, reply = turns
        return self._chat.prompt_ids(message), self._chat.reply_ids(reply)
