"""Reward designs: how a format gate and a verification become a number. SPARK, reward designs.

V = 1 for a valid format, y the verdict (1 or 0), k of n the steps that the verifier marked correct; n is the policy's
own step count. A response that breaks the format is a real zero and costs no call. A verification that cannot be
read is no verdict: the reward is missing (None), never 0. A verifier that marked another number of steps, or none,
judged no step that can be known: its marks are dropped as a whole.

What a reward, and the marks, are for the single token is said by the design's `credit`. A design of a user's own is
a `Design` in a module of theirs, named `module:NAME`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import NamedTuple

from verl_spark.rewards.credit import DISCOUNT, PROCESS, Credit, GlobalStep, Selective
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading


class State(str, Enum):
    """What became of a rollout."""

    OK = "ok"
    FORMAT_INVALID = "format_invalid"
    STEP_LIMIT = "step_limit"
    """Fewer or more steps than the design allows."""
    NO_VERDICT = "no_verdict"
    """The call failed, was cut or could not be read."""
    STEP_MISMATCH = "step_mismatch"
    """The verifier marked another number of steps than the solution has, where the design needs the marks."""


@dataclass(frozen=True)
class Scored:
    """A rollout's score."""

    state: State
    reward: float | None
    """None: missing. The rollout then stays out of its group's statistics and gets no advantage."""
    step_marks: tuple[int, ...] | None = None
    """One mark for each step of the solution, 1 correct and 0 incorrect, for a design that uses them; else None."""


class StepLimits(NamedTuple):
    """How many steps a solution may have for its steps to count."""

    fewest: int
    most: int

    def hold(self, n_steps: int | None) -> bool:
        """Whether a solution of `n_steps` is within the limits; one without step structure (None) never is."""
        return n_steps is not None and self.fewest <= n_steps <= self.most


SELECTIVE_LIMITS = StepLimits(4, 20)
"""SPARK's released code, selective advantage: a solution outside them is worth nothing."""

GLOBAL_LIMITS = StepLimits(3, 20)
"""SPARK's released code, global step-reward: steps of a solution outside them are not rewarded. Against one perfect
step in place of many, and against ever smaller ones."""

STEPS_SHARE, VERDICT_SHARE = 0.4, 0.6
"""Weights of k/n and y; SPARK, step-augmented reward."""


@dataclass(frozen=True)
class Design(ABC):
    """A reward design. Frozen and free of resources, so it can be pickled to any worker."""

    name: str
    kinds: frozenset[Kind]
    """Kinds of verifier whose replies it can use; none for a design that asks nobody."""
    credit: Credit = PROCESS
    """How tokens get their advantages. Designs whose credit reads no steps leave that to the host's estimator."""

    @property
    def asks_verifier(self) -> bool:
        """Whether any rollout is worth a call."""
        return bool(self.kinds)

    def before_call(self, gate_valid: bool, n_steps: int | None) -> Scored | None:
        """Score of a rollout that is decided without the verifier; None means: ask it.

        `n_steps` is the solution's own step count, None without step structure."""
        return None if gate_valid else Scored(State.FORMAT_INVALID, 0.0)

    def score(self, gate_valid: bool, n_steps: int | None, reading: Reading | None) -> Scored:
        """Score of a rollout; `reading` is None when there is no reply (not asked, or the call failed)."""
        decided = self.before_call(gate_valid, n_steps)
        if decided is not None:
            return decided
        if reading is None or reading.outcome is None:
            return Scored(State.NO_VERDICT, None)
        return self.judged(n_steps, reading, float(reading.outcome))

    @abstractmethod
    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        """Score of a valid rollout whose verification has a verdict (1.0 Yes, 0.0 No)."""


@dataclass(frozen=True)
class _VerdictDesign(Design):
    """The verdict alone is the reward; marks that contradict it change nothing."""

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        return Scored(State.OK, verdict)


@dataclass(frozen=True)
class _WeightedDesign(Design):
    """r = V·(`steps_share`·k/n + `verdict_share`·y). SPARK, step-augmented reward.

    With unequal counts there is no k/n: the reward is missing, since neither part could stand for the whole."""

    steps_share: float = STEPS_SHARE
    verdict_share: float = VERDICT_SHARE

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        marks = _marks(n_steps, reading)
        if marks is None:
            return Scored(State.STEP_MISMATCH, None)
        share = sum(marks) / len(marks)
        return Scored(State.OK, self.steps_share * share + self.verdict_share * verdict, marks)


@dataclass(frozen=True)
class _StepDesign(Design):
    """r = V·y, and marks for a credit that reads them. SPARK, selective advantage and global step-reward.

    With unequal counts, and outside the limits, the rollout keeps its reward and carries no step information. A
    `strict` design refuses a solution outside the limits instead: r = 0 without a call."""

    limits: StepLimits = SELECTIVE_LIMITS
    strict: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.limits.fewest <= self.limits.most:
            raise ValueError(f"{self.name}: no solution has {self.limits}; give 1 <= fewest <= most")

    def before_call(self, gate_valid: bool, n_steps: int | None) -> Scored | None:
        """As for every design, and the limits of a strict one, whatever the verifier would write."""
        decided = super().before_call(gate_valid, n_steps)
        if decided is None and self.strict and not self.limits.hold(n_steps):
            return Scored(State.STEP_LIMIT, 0.0)
        return decided

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        if not self.limits.hold(n_steps):
            return Scored(State.STEP_LIMIT, verdict)
        marks = _marks(n_steps, reading)
        return Scored(State.STEP_MISMATCH if marks is None else State.OK, verdict, marks)


@dataclass(frozen=True)
class _FormatDesign(Design):
    """r = V: the format gate alone, a control arm. SPARK, baselines (our addition)."""

    def before_call(self, gate_valid: bool, n_steps: int | None) -> Scored:
        return Scored(State.OK, 1.0) if gate_valid else Scored(State.FORMAT_INVALID, 0.0)

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        raise AssertionError("decided before the call")


def _marks(n_steps: int | None, reading: Reading) -> tuple[int, ...] | None:
    """The marks if there is exactly one for each step of the solution, else None."""
    return reading.steps if reading.steps is not None and len(reading.steps) == n_steps else None


_STEP_KINDS = frozenset({Kind.PRM, Kind.PRM_COT, Kind.THINK_PRM})

DESIGNS: dict[str, Design] = {
    design.name: design
    for design in (
        _VerdictDesign("orm", frozenset({Kind.ORM})),
        _VerdictDesign("process_aware", _STEP_KINDS),
        _WeightedDesign("step_augmented", _STEP_KINDS),
        _WeightedDesign("step_average", _STEP_KINDS, steps_share=1.0, verdict_share=0.0),
        _StepDesign("selective", _STEP_KINDS, credit=Selective()),
        _StepDesign("selective_half", _STEP_KINDS, credit=Selective(DISCOUNT)),
        _StepDesign("global_step", _STEP_KINDS, credit=GlobalStep(), limits=GLOBAL_LIMITS, strict=False),
        _FormatDesign("format", frozenset()),
    )
}


def get_design(name: str) -> Design:
    """The design of this name, or the `Design` that `module:NAME` leads to; ValueError, with the cure, for neither."""
    module, colon, attribute = name.partition(":")
    if colon:
        return _imported(name, module, attribute)
    try:
        return DESIGNS[name]
    except KeyError:
        raise ValueError(
            f"unknown reward design {name!r}; choose one of: {', '.join(DESIGNS)}, or module:NAME for your own"
        ) from None


def _imported(name: str, module: str, attribute: str) -> Design:
    try:
        design = getattr(import_module(module), attribute)
    except Exception as error:  # whatever a user's module raises
        raise ValueError(
            f"reward design {name!r}: {type(error).__name__}: {error}; the part before the colon is a module that "
            "every process can import, the other a Design in it"
        ) from error
    if not isinstance(design, Design):
        raise ValueError(f"reward design {name!r} is no verl_spark.rewards.designs.Design, but {design!r}")
    return design
