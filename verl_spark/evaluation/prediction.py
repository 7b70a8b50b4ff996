"""What a verifier says about an item: the index of the first wrong step, or nothing.

No prediction counts as wrong, as in the official protocol, and is reported with its cause. Paper, section 6.1."""

from collections.abc import Sequence
from dataclasses import dataclass

from verl_spark.verification.reading import Reading, is_cut
from verl_spark.verifier.outcome import Cause

STEP_MISMATCH = "step_mismatch"
"""The reply is readable, but has not one mark for each step."""
FAULTS = (Cause.FAILED.value, Cause.CUT.value, Cause.UNREADABLE.value, STEP_MISMATCH)
"""Causes of no prediction. `failed`: there is no reply and there will be none."""


@dataclass(frozen=True)
class Prediction:
    """What replies come to."""

    index: int | None
    """Of the first wrong step, from 0; -1 for none; None without a prediction."""
    fault: str | None = None
    """Of `FAULTS`, why there is no prediction; None also for a verdict that names no step."""
    verdict: bool | None = None
    """Whether the solution's answer is right, where the verifier says so."""


def first_error(marks: Sequence[int]) -> int:
    """Index of the first mark that is 0, -1 if none is: step p + 1 of a verification is paragraph p.

    >>> first_error([1, 0, 0]), first_error([1, 1])
    (1, -1)
    """
    return next((index for index, mark in enumerate(marks) if not mark), -1)


def of_reading(reading: Reading, n_steps: int, finish_reason: str) -> Prediction:
    """The prediction of a verification of `n_steps` steps. Its marks decide, its verdict line plays no part."""
    if reading.steps is None:
        return unread(is_cut(finish_reason), reading.outcome)
    return of_marks(reading.steps, n_steps, reading.outcome)


def unread(cut: bool, verdict: bool | None = None) -> Prediction:
    """No prediction from a reply that came: it was cut, or could not be read."""
    return Prediction(None, (Cause.CUT if cut else Cause.UNREADABLE).value, verdict)


def of_marks(marks: Sequence[int], n_steps: int, verdict: bool | None = None) -> Prediction:
    """The prediction of marks, 1 correct and 0 incorrect; none unless there is one for each of `n_steps` steps."""
    if len(marks) != n_steps:
        return Prediction(None, STEP_MISMATCH, verdict)
    return Prediction(first_error(marks), None, verdict)
