"""Problems as Stage I sees them: an id, a text and where it was read.

The id and the text are the only columns that are asked for, so no reference can reach a prompt from here."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import PositiveInt

from verl_spark.files import is_writable
from verl_spark.runs.rows import BadRow, Row, SourceSettings, is_id, read_rows


class ProblemSettings(SourceSettings):
    """The problems of a run."""

    text_field: str = "problem"
    """Column with the problem: a text, or chat messages (`prompt` in verl's RL parquet), whose last user turn is
    taken."""
    id_field: str = "id"
    """Column with the problem's id, a text or a number. Where it is missing, a hash of the text is the id."""
    limit: PositiveInt | None = None
    """Stop after this many good problems; null is all of them."""
    on_bad_row: Literal["skip", "stop"] = "skip"
    """What to do about a row that cannot be used: name it in `bad_rows.jsonl` and go on, or stop."""


@dataclass(frozen=True)
class Problem:
    """One problem; never a reference."""

    id: str
    text: str
    source: str
    """Where it was read: file and row, or dataset and row."""


class BadRowError(ValueError):
    """A row cannot be used and `on_bad_row` is `stop`; the message names the row."""


def read_problems(settings: ProblemSettings) -> Iterator[Problem | BadRow]:
    """The problems in order, with a `BadRow` wherever a row cannot be used; a repeated id makes the later row bad.

    Raises `SourceError` for an unreadable source and, with `on_bad_row: stop`, `BadRowError`."""
    seen: set[str] = set()
    for row in read_rows(settings, (settings.id_field, settings.text_field)):
        found = problem_of(row, settings) if isinstance(row, Row) else row
        if isinstance(found, Problem) and found.id in seen:
            found = BadRow(found.source, f"the id {found.id!r} was there before")
        if isinstance(found, Problem):
            seen.add(found.id)
        elif settings.on_bad_row == "stop":
            raise BadRowError(f"{found.place}: {found.reason}; mend it, or set problems.on_bad_row=skip")
        yield found
        if len(seen) == settings.limit:
            return


def problem_of(row: Row, settings: ProblemSettings) -> Problem | BadRow:
    """The problem of one row."""
    text = _text(row.values, settings.text_field)
    if isinstance(text, _Fault):
        return BadRow(row.place, text.reason)
    name = row.values.get(settings.id_field)
    if name is None:
        return Problem(_content_id(text), text, row.place)
    if not is_id(name):
        return BadRow(row.place, f"{settings.id_field}: an id is a text or a whole number, not {name!r:.40}")
    return Problem(str(name), text, row.place)


@dataclass(frozen=True)
class _Fault:
    reason: str


def _text(values: Mapping[str, Any], field: str) -> str | _Fault:
    value = values.get(field)
    if value is None:
        return _Fault(f"{field}: missing")
    if isinstance(value, list):
        turns = [turn for turn in value if isinstance(turn, dict) and turn.get("role") == "user"]
        value = turns[-1].get("content") if turns else value
    if not isinstance(value, str):
        return _Fault(f"{field}: neither a text nor chat messages with a user turn in plain text")
    if not is_writable(value):
        return _Fault(f"{field}: broken UTF-8 (half of a surrogate pair)")
    return value if value.strip() else _Fault(f"{field}: empty")


def _content_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
