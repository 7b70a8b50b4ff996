"""Reward designs: how a format gate and a verification become a number. SPARK, reward designs.

V = 1 for a valid format, y the verdict (1 or 0), k of n the steps that the verifier marked correct; n is the policy's
own step count. A response that breaks the format is a real zero and costs no call. A verification that cannot be
read is no verdict: the reward is missing (None), never 0. A verifier that marked another number of steps, or none,
judged no step that can be known: its marks are dropped as a whole.

What a reward, and the marks, are for the single token is said by the design's `credit`. A design of a user's own is
a `Design` in a module of theirs, named `module:NAME`. Baselines are designs that ask no verifier."""

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
    UNCHECKED = "unchecked"
    """The answer check came to no result."""
    WAITING = "waiting"
    """Something decides that is not there yet, such as a vote of the whole group."""
    NO_LABEL = "no_label"
    """That vote was a tie, or nobody stated an answer."""


class Parts(NamedTuple):
    """What a reward is the sum of."""

    format: float = 0.0
    process: float = 0.0
    """From step marks."""
    outcome: float = 0.0
    """From a verdict on the whole solution."""


@dataclass(frozen=True)
class Scored:
    """A rollout's score."""

    state: State
    reward: float | None
    """None: missing. The rollout then stays out of its group's statistics and gets no advantage."""
    step_marks: tuple[int, ...] | None = None
    """One mark for each step of the solution, 1 correct and 0 incorrect, for a design that uses them; else None."""
    parts: Parts | None = None
    """None: all of the reward is outcome."""


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

FORMAT_WEIGHT, PROCESS_WEIGHT, OUTCOME_WEIGHT = 0.1, 0.3, 0.6
"""Weights of V, k/n and y in a composed reward that names no others; our choice."""

STEP_KINDS = frozenset({Kind.PRM, Kind.PRM_COT, Kind.THINK_PRM})
"""Kinds of verifier that mark the steps of a solution: the `kinds` of a design that goes by marks."""


def step_marks(n_steps: int | None, reading: Reading) -> tuple[int, ...] | None:
    """The marks of a verification, 1 correct and 0 incorrect, one for each of the solution's `n_steps` steps.

    None, and no mark of it to be used, if the verifier marked another number of steps or none, or if the solution has
    no step structure."""
    return reading.steps if reading.steps is not None and len(reading.steps) == n_steps else None


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
    """r = V·(`format_share` + `steps_share`·k/n + `verdict_share`·y). SPARK, step-augmented reward; our composed one.

    With unequal counts there is no k/n: where it has a share the reward is missing, since no other part could stand
    for the whole."""

    format_share: float = 0.0
    steps_share: float = STEPS_SHARE
    verdict_share: float = VERDICT_SHARE

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        marks = step_marks(n_steps, reading)
        if marks is None and self.steps_share:
            return Scored(State.STEP_MISMATCH, None)
        share = sum(marks) / len(marks) if marks else 0.0
        parts = Parts(self.format_share, self.steps_share * share, self.verdict_share * verdict)
        return Scored(State.OK, sum(parts), marks, parts)


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
        marks = step_marks(n_steps, reading)
        return Scored(State.STEP_MISMATCH if marks is None else State.OK, verdict, marks)


@dataclass(frozen=True)
class _FormatDesign(Design):
    """r = V: the format gate alone, a control arm. SPARK, baselines (our addition)."""

    def before_call(self, gate_valid: bool, n_steps: int | None) -> Scored:
        return Scored(State.OK, 1.0, parts=Parts(format=1.0)) if gate_valid else Scored(State.FORMAT_INVALID, 0.0)

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        raise AssertionError("decided before the call")


class Basis(str, Enum):
    """What the verdict of a baseline rests on, in place of a verifier."""

    REFERENCE = "reference"
    """The rule-based answer check (`rewards.rule`), as in validation."""
    CHANCE = "chance"
    """The toss of a coin (`rewards.chance`)."""
    GROUP = "group"
    """The most frequent answer of the prompt's rollouts (`rewards.majority`)."""

    @property
    def of_training(self) -> bool:
        """Whether it decides on rollouts of a training step alone."""
        return self is not Basis.REFERENCE


@dataclass(frozen=True)
class Baseline(Design):
    """r = V·y, y from a basis that is no verifier: all else is as for a design that asks one. SPARK, baselines."""

    basis: Basis = Basis.REFERENCE

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        raise AssertionError("no verifier is asked")


def ruled(verdict: bool | None, undecided: State) -> Scored:
    """Score of a valid rollout by a baseline's verdict; with None its reward is missing, and `undecided` says why."""
    return Scored(undecided, None) if verdict is None else Scored(State.OK, float(verdict))


def composed(
    format_weight: float = FORMAT_WEIGHT, process_weight: float = PROCESS_WEIGHT, outcome_weight: float = OUTCOME_WEIGHT
) -> Design:
    """The design with these weights of V, k/n and y. Only with a weight of k/n does it need a verifier that marks."""
    kinds = STEP_KINDS if process_weight else frozenset(Kind)
    return _WeightedDesign(
        "composed",
        kinds,
        format_share=format_weight,
        steps_share=process_weight,
        verdict_share=outcome_weight,
    )


DESIGNS: dict[str, Design] = {
    design.name: design
    for design in (
        _VerdictDesign("orm", frozenset({Kind.ORM})),
        _VerdictDesign("process_aware", STEP_KINDS),
        _WeightedDesign("step_augmented", STEP_KINDS),
        _WeightedDesign("step_average", STEP_KINDS, steps_share=1.0, verdict_share=0.0),
        _StepDesign("selective", STEP_KINDS, credit=Selective()),
        _StepDesign("selective_half", STEP_KINDS, credit=Selective(DISCOUNT)),
        _StepDesign("global_step", STEP_KINDS, credit=GlobalStep(), limits=GLOBAL_LIMITS, strict=False),
        composed(),
        _FormatDesign("format", frozenset()),
        Baseline("rlvr", frozenset(), basis=Basis.REFERENCE),
        Baseline("random", frozenset(), basis=Basis.CHANCE),
        Baseline("majority", frozenset(), basis=Basis.GROUP),
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
