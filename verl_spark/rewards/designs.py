"""Reward designs: how a format gate and a verification become a number. SPARK, reward designs.

r = V·y for the designs here, with V = 1 for a valid format and y the verdict. A response that breaks the format
is a real zero and costs no call. A verification that cannot be read is no verdict: the reward is missing (None),
never 0."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

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
    """The verifier marked another number of steps than the solution has."""


@dataclass(frozen=True)
class Scored:
    """A rollout's score."""

    state: State
    reward: float | None
    """None: missing. The rollout then stays out of its group's statistics and gets no advantage."""
    step_marks: tuple[int, ...] | None = None
    """Marks for designs that credit steps, 1 correct and 0 incorrect; None for the others."""


@dataclass(frozen=True)
class Design(ABC):
    """A reward design. Frozen and free of resources, so it can be pickled to any worker."""

    name: str
    kinds: frozenset[Kind]
    """Kinds of verifier whose replies it can use; none for a design that asks nobody."""
    needs_steps: bool
    """Whether it reads step marks."""

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
        return self._judged(n_steps, reading, float(reading.outcome))

    @abstractmethod
    def _judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        """Score of a valid rollout whose verification has a verdict (1.0 Yes, 0.0 No)."""


@dataclass(frozen=True)
class _VerdictDesign(Design):
    """The verdict alone is the reward; marks that contradict it change nothing."""

    def _judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        return Scored(State.OK, verdict)


@dataclass(frozen=True)
class _FormatDesign(Design):
    """r = V: the format gate alone, a control arm. SPARK, baselines (our addition)."""

    def before_call(self, gate_valid: bool, n_steps: int | None) -> Scored:
        return Scored(State.OK, 1.0) if gate_valid else Scored(State.FORMAT_INVALID, 0.0)

    def _judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        raise AssertionError("decided before the call")


DESIGNS: dict[str, Design] = {
    design.name: design
    for design in (
        _VerdictDesign("orm", frozenset({Kind.ORM}), needs_steps=False),
        _VerdictDesign("process_aware", frozenset({Kind.PRM, Kind.PRM_COT, Kind.THINK_PRM}), needs_steps=False),
        _FormatDesign("format", frozenset(), needs_steps=False),
    )
}


def get_design(name: str) -> Design:
    """The design of this name; ValueError, with the names there are, for another one."""
    try:
        return DESIGNS[name]
    except KeyError:
        raise ValueError(f"unknown reward design {name!r}; choose one of: {', '.join(DESIGNS)}") from None
