"""The rows of SFT files, and what is wrong with each as an example for a verifier of one kind.

Columns are those that Stage I writes: `messages` and, where it is there, `problem_id`, by which splits are kept
apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from verl_spark.settings import SettingsError
from verl_spark.verification import markers
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import asked, verifier_prompt
from verl_spark.verification.reading import read
from verl_spark.verification.steps import numbered_steps
from verl_spark.verification.writing import write

_BATCH = 256
_PROBLEM = "problem_id"


@dataclass(frozen=True)
class Row:
    """One example as it was read."""

    file: Path
    number: int
    """In its file, from 0."""
    messages: Any
    """As the file holds them; `turns` is what an example needs."""
    problem_id: str | None

    @property
    def place(self) -> str:
        """Where it was read."""
        return f"{self.file}, row {self.number}"

    def turns(self) -> tuple[str, str]:
        """The user's message and the reply. Raises `ValueError` for anything but these two turns in plain text."""
        turns = self.messages if isinstance(self.messages, list) else []
        pairs = [(turn.get("role"), turn.get("content")) for turn in turns if isinstance(turn, dict)]
        if [role for role, _ in pairs] != ["user", "assistant"]:
            raise ValueError(f"its turns are {[role for role, _ in pairs]}, not one of user and one of assistant")
        (_, message), (_, reply) = pairs
        if not isinstance(message, str) or not isinstance(reply, str) or not reply.strip():
            raise ValueError("a turn is empty or no plain text")
        return message, reply


def read_rows(files: Sequence[Path], messages_key: str = "messages") -> Iterator[Row]:
    """The rows of parquet files in order. Raises `SettingsError`, naming the file, for one that is no such file."""
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                names = file.schema_arrow.names
                if messages_key not in names:
                    raise SettingsError(
                        [f"{path} has no column {messages_key!r} but {', '.join(names)}; name it in data.messages_key"]
                    )
                columns = [messages_key, *({_PROBLEM} & set(names))]
                number = 0
                for batch in file.iter_batches(_BATCH, columns=columns):
                    for values in batch.to_pylist():
                        yield Row(path, number, values[messages_key], values.get(_PROBLEM))
                        number += 1
        except FileNotFoundError:
            raise SettingsError([f"{path}: there is no such file; set spark.data or data.train_files"]) from None
        except (pa.ArrowException, OSError) as error:
            raise SettingsError([f"{path} is no readable parquet file: {error}"]) from None


def row_count(files: Sequence[Path]) -> int | None:
    """Rows in all files; None if one cannot be read, of which `read_rows` says more."""
    try:
        return sum(int(pq.ParquetFile(path).metadata.num_rows) for path in files)
    except (pa.ArrowException, OSError):
        return None


def problem_of(row: Row, kind: Kind) -> str | None:
    """What tells the row's problem from others: its id, or without one its text; None if neither is known."""
    if row.problem_id is not None:
        return row.problem_id
    try:
        found = asked(kind, row.turns()[0])
    except ValueError:
        return None
    return found[0] if found else None


def fault(row: Row, kind: Kind) -> str | None:
    """Why a row must not train a verifier of this kind; None if it may. SPARK, Stage II: prompt and reply by kind."""
    try:
        message, reply = row.turns()
    except ValueError as error:
        return str(error)
    question = asked(kind, message)
    if question is None:
        return f"its user message is not our prompt {verifier_prompt(kind)}, with which a {kind.value} is asked"
    problem = fault_of_reply(reply, kind)
    if problem is not None:
        other = next((kind.value for kind in Kind if fault_of_reply(reply, kind) is None), None)
        return problem + (f"; it is the reply of another kind, {other}" if other else "")
    marks, spans = read(reply, kind).steps, numbered_steps(question[1])
    if marks is not None and spans is not None and len(marks) != len(spans):
        return f"its reply marks {len(marks)} steps of a solution with {len(spans)}"
    return None


def fault_of_reply(reply: str, kind: Kind) -> str | None:
    """What in a reply is not as a verifier of this kind must write it; None if nothing is."""
    thinking, closed, rest = reply.rpartition(markers.THINK_CLOSE)
    opened = reply.lstrip().startswith(markers.THINK_OPEN)
    if kind is Kind.THINK_PRM and not (opened and closed and thinking.strip() != markers.THINK_OPEN):
        return "its reply does not begin with a thinking part that is closed and not empty"
    if kind is not Kind.THINK_PRM and (opened or closed):
        return "its reply has a thinking part, which belongs to a think_prm only"
    found = read(reply, kind)
    if found.outcome is None:
        return "its reply states no verdict that can be read"
    if kind is not Kind.ORM and found.steps is None:
        return "its reply does not mark every step, numbered 1, 2, …"
    if found.consistent is False:
        return "the verdict of its reply contradicts its marks"
    if kind in (Kind.ORM, Kind.PRM):
        exact = reply.strip() == write(kind, found.steps or (), found.outcome)
    else:
        exact = markers.verdict_of(rest.rstrip().rpartition("\n")[2]) is not None
    return None if exact else "its reply says more than the verdict, or the marks and the verdict"
