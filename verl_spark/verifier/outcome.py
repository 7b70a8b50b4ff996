"""What can come of one verification request.

A judgement is either read (`Judged`) or not (`Undecided`). An undecided one is never a wrong answer: it keeps
its cause, is counted by it, and becomes a *missing* reward."""

from dataclasses import dataclass
from enum import Enum

from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading, is_cut, read


class Cause(str, Enum):
    """Why a verification gave no verdict."""

    FAILED = "failed"
    """No reply within the deadline, after bounded retries, or the server refused the request."""
    CUT = "cut"
    """The reply stopped on its token limit; a cut text is never parsed."""
    UNREADABLE = "unreadable"
    """The reply came whole, but holds no readable verdict."""
    TOO_LONG = "too_long"
    """The prompt does not fit the verifier's context, so it was not asked."""


@dataclass(frozen=True)
class Cost:
    """What a request cost. Seconds are wall time from sending the first attempt to the last byte."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 0


@dataclass(frozen=True)
class Judged:
    """A verification with a verdict. `reading.steps` may still be None (marks unreadable, verdict readable)."""

    reading: Reading
    cost: Cost = Cost()
    reply: str = ""
    """The whole text, where it is known."""


@dataclass(frozen=True)
class Undecided:
    """A verification without a verdict."""

    cause: Cause
    detail: str = ""
    cost: Cost = Cost()
    reply: str = ""
    """The whole text of what came; empty where nothing did."""


Outcome = Judged | Undecided


def outcome_of(text: str, finish_reason: str, kind: Kind, cost: Cost) -> Outcome:
    """What a verifier's reply comes to."""
    if is_cut(finish_reason):
        return Undecided(Cause.CUT, cost=cost, reply=text)
    reading = read(text, kind, finish_reason)
    if reading.outcome is None:
        return Undecided(Cause.UNREADABLE, cost=cost, reply=text)
    return Judged(reading, cost, text)
