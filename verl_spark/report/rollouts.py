"""The rollouts of a run that a reader is shown: the most suspicious ones, and a sample of all."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict

from verl_spark.rl.dump import FORMAT_KEY, PROBLEM_KEY
from verl_spark.rl.flags import lacks_marks, raised
from verl_spark.rl.row import CAUSE_KEYS, GATE_KEYS, MARKS_KEY, STATE_KEYS, VERIFICATION_KEY, Row, is_missing
from verl_spark.rl.suspects import most_suspicious
from verl_spark.verification.policy_format import get_policy_format


class Shown(BaseModel):
    """One rollout as it is shown. Null is "not known"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    problem: str
    response: tuple[tuple[str, int | None], ...]
    """The whole response in pieces: the text and, for a step, its mark (1 correct, 0 incorrect)."""
    verdict: bool | None
    reward: float | None
    """None: missing."""
    missing: str | None
    """Why the reward is missing."""
    gate: str | None
    """What the gate found, also where it is switched off; `step_limit` for what the design refused."""
    flags: tuple[str, ...]
    accuracy: float | None
    """Of the rule-based checker, which training does not ask."""
    verification: str | None
    """The verifier's reply."""


def shown(row: Row, line: Mapping[str, Any], verification: str | None) -> Shown:
    """A dumped rollout by its row and its line. Raises `KeyError` or `ValueError` for a line without its fields."""
    return Shown(
        step=line["step"],
        problem=_readable(line[PROBLEM_KEY]),
        response=tuple((_readable(text), mark) for text, mark in _pieces(line)),
        verdict=None if row["spark_verdict"] != row["spark_verdict"] else bool(row["spark_verdict"]),
        reward=None if is_missing(row) else row["spark_reward"],
        missing=_missing(row),
        gate=next((reason.value for reason, key in GATE_KEYS.items() if row[key] == 1), _limit(row)),
        flags=raised(row),
        accuracy=None if row["acc"] != row["acc"] else row["acc"],
        verification=None if verification is None else _readable(verification),
    )


def told(line: Mapping[str, Any]) -> str | None:
    """The verifier's reply in a dumped line; None where it has none, or comes from a version that kept none."""
    return line.get(VERIFICATION_KEY) or None


def question(line: Mapping[str, Any]) -> bytes:
    """What a verifier was asked about in a dumped line, in short: equal for equal problems and responses."""
    return sha256(repr((line[PROBLEM_KEY], line["output"])).encode()).digest()


def key_of(line: Mapping[str, Any], number: int) -> str:
    """A dumped rollout's key, the `number`-th of its step: a hash of what it says and no random name of verl, so that
    two runs that are alike show the same rollouts."""
    digest = sha256(str(line["step"]).encode() + question(line)).hexdigest()
    return f"{digest} {number:06}"


def pick(rows: Mapping[str, Row], suspicious: int, sampled: int) -> list[str]:
    """Keys (`key_of`) of the rollouts to show: by the rule of `rl.suspects`, then of the others those with the lowest
    keys, which are a sample. Of equal texts in a step the first alone."""
    firsts: dict[str, str] = {}
    for key in sorted(rows):
        firsts.setdefault(key.split()[0], key)
    rows = {key: rows[key] for key in firsts.values()}
    first = [suspect.key for suspect in most_suspicious(rows, suspicious)]
    return [*first, *sorted(rows.keys() - set(first))[:sampled]]


def _pieces(line: Mapping[str, Any]) -> Iterable[tuple[str, int | None]]:
    """The response cut at the borders of its steps; marks only where there are as many as steps."""
    text, marks = line["output"], line[MARKS_KEY]
    spans = get_policy_format(line[FORMAT_KEY]).step_spans(text) or []
    known = marks if marks is not None and len(marks) == len(spans) else [None] * len(spans)
    end = 0
    for span, mark in zip(spans, known, strict=True):
        if span.start > end:
            yield text[end : span.start], None
        yield text[span.start : span.end], mark
        end = span.end
    if end < len(text):
        yield text[end:], None


def _missing(row: Row) -> str | None:
    if not is_missing(row):
        return None
    causes = [cause.value for cause, key in CAUSE_KEYS.items() if row[key] == 1]
    causes += ["step_mismatch"] if lacks_marks(row) else []
    return next(iter(causes + [state.value for state, key in STATE_KEYS.items() if row[key] == 1]), "unknown")


def _limit(row: Row) -> str | None:
    return "step_limit" if row["spark_step_limit"] == 1 else None


def _readable(text: str) -> str:
    """The text with halves of surrogate pairs spelt out, which no file can hold."""
    return text.encode(errors="backslashreplace").decode()
