"""Read a verification: the verdict and the step marks that a verifier's reply states.

What cannot be read is None, never a No and never a 0. A verdict that is quoted or drafted earlier changes
nothing: the last verdict line counts, and thinking is dropped first. `writing` is the inverse."""

from collections.abc import Sequence
from dataclasses import dataclass

from verl_spark.verification import markers
from verl_spark.verification.kinds import Kind


@dataclass(frozen=True)
class Reading:
    """What a verification states."""

    outcome: bool | None
    """The verdict: True for Yes, False for No, None if there is none."""
    steps: tuple[int, ...] | None
    """One mark per step in order, 1 correct and 0 incorrect; None if any mark is missing or out of order."""

    @property
    def consistent(self) -> bool | None:
        """Whether the verdict is Yes exactly when every step is correct; None if either was not readable."""
        if self.outcome is None or self.steps is None:
            return None
        return self.outcome == all(self.steps)


NOTHING = Reading(outcome=None, steps=None)
"""The reading of a reply that must not be searched: empty, cut, or still thinking."""


def is_cut(finish_reason: str) -> bool:
    """Whether a reply with this finish reason stopped at its token limit."""
    return finish_reason == "length"


def read(text: str, kind: Kind, finish_reason: str = "stop") -> Reading:
    """Verdict and marks in a verifier's reply; never raises.

    A reply cut at the token limit is not parsed, whatever it contains: a cut text is a biased sample of long, hard
    cases. An ORM states no steps.

    >>> reply = "Step 1: Correct\\nStep 2: Incorrect\\n\\nIs the answer correct (Yes/No)? No"
    >>> read(reply, Kind.PRM)
    Reading(outcome=False, steps=(1, 0))
    >>> read(reply, Kind.PRM, finish_reason="length")
    Reading(outcome=None, steps=None)
    """
    reply = "" if is_cut(finish_reason) else without_thinking(text)
    if not reply.strip():
        return NOTHING
    if kind is Kind.ORM:
        return Reading(_one_word(reply), None)
    outcome, lines = _split_at_verdict(reply.splitlines())
    return Reading(outcome, _listed_marks(lines) if kind is Kind.PRM else _section_marks(lines))


def without_thinking(text: str) -> str:
    """What follows the last closing tag of a thinking part; empty if the thinking was never closed.

    The opening tag may be missing: chat templates often put it into the prompt."""
    _, closed, reply = text.rpartition(markers.THINK_CLOSE)
    if not closed and text.lstrip().startswith(markers.THINK_OPEN):
        return ""
    return reply


def _one_word(reply: str) -> bool | None:
    word = markers.core(reply)
    if word.endswith((".", "!")):
        word = markers.core(word[:-1])
    return {"yes": True, "no": False}.get(word.lower())


def _split_at_verdict(lines: Sequence[str]) -> tuple[bool | None, Sequence[str]]:
    """The last verdict and the lines before it; without a verdict, None and all lines."""
    for index in range(len(lines) - 1, -1, -1):
        outcome = markers.verdict_of(lines[index])
        if outcome is not None:
            return outcome, lines[:index]
    return None, lines


def _section_marks(lines: Sequence[str]) -> tuple[int, ...] | None:
    marks: list[tuple[int, int | None]] = []  # (step number, last mark seen in its section)
    for line in lines:
        number = markers.heading_number(line)
        if number is not None:
            marks.append((number, None))
        mark = markers.mark_of(line)
        if mark is not None and marks:
            marks[-1] = (marks[-1][0], mark)
    return _in_order(marks)


def _listed_marks(lines: Sequence[str]) -> tuple[int, ...] | None:
    return _in_order([found for line in lines if (found := markers.listed_mark_of(line)) is not None])


def _in_order(marks: Sequence[tuple[int, int | None]]) -> tuple[int, ...] | None:
    """The marks if they are numbered 1, 2, …, K and none is missing, else None as a whole."""
    vector = tuple(mark for _, mark in marks if mark is not None)
    numbered = [number for number, _ in marks] == list(range(1, len(marks) + 1))
    return vector if numbered and vector and len(vector) == len(marks) else None
