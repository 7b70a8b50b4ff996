"""Which tokens of a row are trained, as the trainer's own data set gives them."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig

from verl_spark.configs import get
from verl_spark.prm.rows import Row
from verl_spark.verifier.chat import Chat

_SHOWN = 400
"""Characters of a row's trained text that are shown."""


@dataclass(frozen=True)
class Trained:
    """The trained tokens of one row."""

    place: str
    """Where the row was read."""
    tokens: int
    """Trained tokens, of `length` in the row."""
    length: int
    first: str
    """The first trained token, as text."""
    last: str
    text: str
    """All trained tokens, decoded."""
    problem: str | None
    """What is wrong with them; None if nothing is."""

    def __str__(self) -> str:
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[: _SHOWN // 2]} … {self.text[-_SHOWN // 2 :]}"
        counts = f"{self.tokens} of {self.length} tokens are trained"
        return f"{self.place}: {counts}, from {self.first!r} to {self.last!r}\n{text}"


def trained_tokens(config: DictConfig, tokenizer: Any, chat: Chat, rows: Sequence[Row]) -> Iterator[Trained]:
    """The trained tokens of each row by the class that `data.custom_cls` names, or verl's own without one."""
    for row in rows:
        try:
            item = _item(config, tokenizer, row)
        except Exception as error:  # a class of anybody's
            said = str(error).strip().partition("\n")[0]
            problem = f"the data set class fails on it: {type(error).__name__}: {said}"
            yield Trained(row.place, 0, 0, "", "", "", problem)
        else:
            yield _trained(row, item, tokenizer, chat)


def _item(config: DictConfig, tokenizer: Any, row: Row) -> Any:
    """The row as the trainer sees it: any class reads files, so it gets a file of this row alone."""
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.utils.import_utils import load_extern_object

    path = get(config, "data.custom_cls.path")
    cls = load_extern_object(path, get(config, "data.custom_cls.name")) if path else MultiTurnSFTDataset
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.parquet"
        pq.write_table(pa.Table.from_pylist([{get(config, "data.messages_key"): row.messages}]), file)
        return cls(parquet_files=str(file), tokenizer=tokenizer, config=config.data, processor=None, max_samples=-1)[0]


def _trained(row: Row, item: Any, tokenizer: Any, chat: Chat) -> Trained:
    ids, mask = item["input_ids"].tolist(), item["loss_mask"].tolist()
    where = [place for place, weight in enumerate(mask) if weight]
    taught = [ids[place] for place in where]
    message, reply = row.turns()
    first, last = ([tokenizer.decode(one) for one in (taught[:1], taught[-1:])]) if taught else ("", "")
    return Trained(
        place=row.place,
        tokens=len(taught),
        length=len(ids),
        first=first,
        last=last,
        text=tokenizer.decode(taught),
        problem=_problem(ids, where, chat.prompt_ids(message), chat.reply_ids(reply), tokenizer),
    )


def _problem(
    ids: Sequence[int], where: Sequence[int], prompt: Sequence[int], reply: Sequence[int], tokenizer: Any
) -> str | None:
    if not where:
        return "no token of it is trained"
    first, last = ids[where[0]], ids[where[-1]]
    if first != reply[0]:
        return f"the first trained token is {_shown(tokenizer, first)}, not the reply's {_shown(tokenizer, reply[0])}"
    if list(ids[: where[0]]) != list(prompt):
        return "what stands before the trained tokens is not the prompt with which the reward stage asks"
    if last != reply[-1]:
        return f"the last trained token is {_shown(tokenizer, last)}, not the turn's end {_shown(tokenizer, reply[-1])}"
    if where[-1] - where[0] + 1 != len(where):
        return "there are untrained tokens within its reply"
    return None


def _shown(tokenizer: Any, token: int) -> str:
    return repr(tokenizer.decode([token]))
