"""SFT data for the four kinds of reward model out of records, as verl's `messages` parquet. SPARK, Stage II.

All kinds are shown the same solutions, rendered in the style of RL, and differ in the reply alone. No reply is
written that would not be read as what its record says."""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from verl_spark.data.parquet import MESSAGES, SplitFiles
from verl_spark.data.record import Record
from verl_spark.files import is_writable
from verl_spark.verification import markers, prompts
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading, read, without_thinking
from verl_spark.verification.rendering import render_numbered
from verl_spark.verification.writing import with_thinking, write

NOT_READ_BACK = "not_read_back"
"""A reply would not state the record's verdict and marks; left out for every kind."""
NOT_UTF8 = "not_utf8"
"""A text that no file can hold; left out for every kind."""
NO_THINKING = "no_thinking"
"""The verification has no thinking part for a think-PRM to learn; the other kinds keep the solution."""

_SCHEMA = pa.schema(
    [("messages", MESSAGES), ("problem_id", pa.string()), ("solution_id", pa.string()), ("method", pa.string())]
)


@dataclass
class SftCounts:
    """What became of the kept records for one kind."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows by split."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Records left out, by reason."""


def write_sft(
    records: Iterable[Record], folder: Path, seed: int, validation_share: float, kinds: Sequence[Kind] = tuple(Kind)
) -> dict[Kind, SftCounts]:
    """Writes `<kind>/train.parquet` and `<kind>/validation.parquet` below `folder`; what was written and left out.

    Columns: `messages` (one user and one assistant turn), `problem_id`, `solution_id`, `method`. Records that selection
    dropped are passed over."""
    counts = {kind: SftCounts() for kind in kinds}
    with ExitStack() as opened:
        files = {
            kind: opened.enter_context(SplitFiles(folder / kind.value, _SCHEMA, seed, validation_share))
            for kind in kinds
        }
        for record in records:
            if record.drop is not None:
                continue
            fault = _fault(record)
            solution = render_numbered(record.solution).text
            for kind in kinds:
                reply = None if fault else target(record, kind)
                if reply is None:
                    counts[kind].dropped[fault or NO_THINKING] += 1
                    continue
                row = {
                    "messages": [
                        {"role": "user", "content": prompts.verifier_message(kind, record.problem, solution)},
                        {"role": "assistant", "content": reply},
                    ],
                    "problem_id": record.problem_id,
                    "solution_id": record.solution_id,
                    "method": record.method,
                }
                counts[kind].rows[files[kind].add(record.problem_id, row)] += 1
    return counts


def target(record: Record, kind: Kind) -> str | None:
    """The reply that a model of this kind learns from a kept record; None for a think-PRM without thinking to learn.

    ORM and PRM are written from the record's labels, the others are the picked text. Raises ValueError when the
    labels make no reply."""
    if record.verdict is None or record.marks is None or record.text is None:
        raise ValueError(f"{record.solution_id}: a kept record has verdict, marks and text")
    if kind in (Kind.ORM, Kind.PRM):
        return write(kind, record.marks, record.verdict)
    text = without_thinking(record.text).strip()
    if kind is Kind.PRM_COT:
        return text
    thinking = record.text.rpartition(markers.THINK_CLOSE)[0].lstrip().removeprefix(markers.THINK_OPEN).strip()
    return with_thinking(thinking, text) if thinking else None


def _fault(record: Record) -> str | None:
    if not is_writable(record.problem_id, record.problem, record.solution_id, record.solution, record.text or ""):
        return NOT_UTF8
    try:
        replies = {kind: target(record, kind) for kind in Kind}
    except ValueError:
        return NOT_READ_BACK
    for kind, reply in replies.items():
        expected = Reading(record.verdict, None if kind is Kind.ORM else record.marks)
        if reply is not None and read(reply, kind) != expected:
            return NOT_READ_BACK
    return None
