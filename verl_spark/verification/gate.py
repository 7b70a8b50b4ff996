"""The format gate: whether a whole response has the form that a reward requires. SPARK, format constraints.

It runs once, on the full text and before the verifier is asked, so that no call is paid for a reward that is
then zero. Think and step tags are no part of it. It closes the door on a second, already solved problem
appended to the solution and on a second answer hidden by a line break, a space or a nested box."""

from dataclasses import dataclass
from enum import Enum

from verl_spark.verification.boxes import Box, box_commands, close_box

ANSWER_OPEN = "<answer>"
ANSWER_CLOSE = "</answer>"


class GateReason(str, Enum):
    """Why a response is valid or not: the first rule it breaks."""

    OK = "ok"
    ANSWER_BLOCK = "answer_block"
    """Not exactly one answer block."""
    TEXT_AFTER_ANSWER = "text_after_answer"
    BOX_COUNT = "box_count"
    """Not exactly one box command."""
    BOX_SYNTAX = "box_syntax"
    """Several backslashes, or braces that do not balance."""
    BOX_OUTSIDE_ANSWER = "box_outside_answer"
    BOX_EMPTY = "box_empty"


@dataclass(frozen=True)
class FinalAnswer:
    """Where a valid response states its answer."""

    start: int
    end: int
    """The closing part of the text, [start, end): the answer block with its tags, or the last line."""
    box: Box


@dataclass(frozen=True)
class Gate:
    """Result of the gate."""

    reason: GateReason
    answer: FinalAnswer | None = None
    """Present exactly when the response is valid."""

    @property
    def valid(self) -> bool:
        """Whether the response passes."""
        return self.reason is GateReason.OK

    @property
    def stated(self) -> str | None:
        """Content of the box; None if the response is not valid."""
        return None if self.answer is None else self.answer.box.content


def check(text: str) -> Gate:
    """Gate for a whole response in the tag format; never raises."""
    if text.count(ANSWER_OPEN) != 1 or text.count(ANSWER_CLOSE) != 1:
        return Gate(GateReason.ANSWER_BLOCK)
    start, stop = text.index(ANSWER_OPEN), text.index(ANSWER_CLOSE)
    end = stop + len(ANSWER_CLOSE)
    if stop < start:
        return Gate(GateReason.ANSWER_BLOCK)
    if text[end:].strip():
        return Gate(GateReason.TEXT_AFTER_ANSWER)
    box = check_box(text, start, stop)
    return box if isinstance(box, Gate) else Gate(GateReason.OK, FinalAnswer(start, end, box))


def check_box(text: str, start: int, stop: int) -> Box | Gate:
    """The one box of a text, which must lie in [start, stop), or the gate result that says what is wrong with it."""
    commands = box_commands(text)
    if len(commands) != 1:
        return Gate(GateReason.BOX_COUNT)
    command = commands[0]
    if not start <= command.start < stop:
        return Gate(GateReason.BOX_OUTSIDE_ANSWER)
    box = close_box(text, command, stop) if command.backslashes == 1 else None
    if box is None:
        return Gate(GateReason.BOX_SYNTAX)
    return box if box.content.strip() else Gate(GateReason.BOX_EMPTY)
