"""Who takes part in the advantages of a step, and how step marks become the advantage of a token.

A rollout without a reward, and a group in which nothing can be compared, must not move the policy. verl's
estimators know neither: a missing reward would be a 0 among the others, a group of one gets its raw reward as
advantage, and sixteen equal rewards of 0.6 get up to 0.056 in single precision.

Notation as in SPARK: rollout i of the prompt group G has the reward r_i, its token t the advantage A_it. All sums
are exactly rounded, so the order of rollouts plays no part."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from verl_spark.rewards.spans import TokenSpan

GROUPED = frozenset({"grpo", "grpo_vectorized", "rloo", "rloo_vectorized"})
"""Estimators of verl whose baseline is the prompt's own group, so that a group without contrast has no advantage."""
REPLACEABLE = ("grpo", "grpo_vectorized")
"""Estimators in whose place a design that credits steps may put its own advantages: SPARK's are built on them."""

EPSILON = 1e-6
"""Added to the deviation that advantages are divided by; SPARK, process advantage, as in verl."""

DISCOUNT = 0.5
"""What is left of an advantage that a mark contradicts; SPARK's released code, selective with half discount."""

PROCESS_WEIGHT, STEP_WEIGHT = 0.8, 0.2
"""Shares of rollout and steps in an advantage; SPARK, global step-reward."""


def sits_out(uids: Sequence[str], rewards: Sequence[float | None], grouped: bool) -> list[bool]:
    """For each rollout, whether its advantage is zero on every token whatever the estimator says.

    `rewards` holds None where a reward is missing. With `grouped`, all members of a group with fewer than two
    rewards, or with equal ones, sit out as well (SPARK, process advantage).
    """
    groups: dict[str, set[float]] = defaultdict(set)
    for uid, reward in zip(uids, rewards, strict=True):
        if reward is not None:
            groups[uid].add(reward)
    return [
        reward is None or (grouped and len(groups[uid]) < 2)  # one value: a single member or no contrast
        for uid, reward in zip(uids, rewards, strict=True)
    ]


class MarkedStep(NamedTuple):
    """A step: the tokens [start, end) that it owns, and the verifier's mark."""

    start: int
    end: int
    """An empty step (start = end) owns no token and ends inside token `end` - 1."""
    correct: bool


def marked(spans: Sequence[TokenSpan], marks: Sequence[int]) -> tuple[MarkedStep, ...]:
    """Steps with their marks, 1 correct and 0 incorrect; ValueError if their numbers differ."""
    if len(spans) != len(marks):
        raise ValueError(f"{len(spans)} steps, but {len(marks)} marks; a mark belongs to no step that can be known")
    return tuple(MarkedStep(*span, bool(mark)) for span, mark in zip(spans, marks, strict=True))


@dataclass(frozen=True)
class Rollouts:
    """The N rollouts of a training step, whole prompt groups in any order. ValueError, with the rollout's index, for
    values that do not fit each other."""

    uids: Sequence[str]
    """Prompt group of each rollout."""
    rewards: Sequence[float | None]
    """None: missing. Such a rollout has no advantage and is in nobody's statistics."""
    response_mask: NDArray[np.bool_]
    """(N, T): tokens that the policy wrote. May have holes; elsewhere advantages are 0."""
    steps: Sequence[Sequence[MarkedStep] | None]
    """None: no step information (a mismatch of marks and steps, step limits). Nothing is then taken from, or added
    to, what the reward gives."""

    def __post_init__(self) -> None:
        shape = self.response_mask.shape
        if len(shape) != 2 or not len(self.uids) == len(self.rewards) == len(self.steps) == shape[0]:
            raise ValueError(
                f"{len(self.uids)} uids, {len(self.rewards)} rewards, {len(self.steps)} steps and a response mask of "
                f"shape {shape}: give one of each for every rollout"
            )
        for index, (reward, steps) in enumerate(zip(self.rewards, self.steps, strict=True)):
            if reward is not None and not math.isfinite(reward):
                raise ValueError(f"rollout {index} has the reward {reward}; a missing one is None, others are finite")
            for step in steps or ():
                if not 0 <= step.start <= step.end or not 1 <= step.end <= shape[1]:
                    raise ValueError(f"rollout {index} has {step}, but its tokens are 0 to {shape[1] - 1}")

    @property
    def counted(self) -> list[Sequence[MarkedStep]]:
        """Of each rollout the steps that may count: none without step information or without a reward."""
        return [() if r is None else s or () for r, s in zip(self.rewards, self.steps, strict=True)]


class Credited(NamedTuple):
    """Advantages of N rollouts."""

    advantages: NDArray[np.float64]
    """(N, T); 0 outside the response mask."""
    silenced: NDArray[np.bool_]
    """(N, T): tokens of the response mask from which a mark took all of an advantage. They stay in the denominator
    of the loss and in the KL term, as in SPARK, unless the caller takes them out of the mask."""


class Credit(ABC):
    """A rule that gives every token its advantage. Frozen and free of resources, so it can be pickled."""

    reads_steps: ClassVar[bool]
    """Whether it needs step marks; if not, any estimator of rewards will do in its place."""

    @property
    def silences(self) -> bool:
        """Whether a mark can take all of a token's advantage."""
        return self.reads_steps

    @abstractmethod
    def advantages(self, rollouts: Rollouts, by_deviation: bool = True) -> Credited:
        """Advantages of all rollouts. Without `by_deviation` the A_i are not divided by their group's deviation
        (verl: `algorithm.norm_adv_by_std_in_grpo`)."""


@dataclass(frozen=True)
class Process(Credit):
    """A_it = A_i = (r_i - mean_G) / (deviation_G + EPSILON). SPARK, process advantage."""

    reads_steps = False

    def advantages(self, rollouts: Rollouts, by_deviation: bool = True) -> Credited:
        """A_i on every token of the response mask; 0 without a reward, a second reward or contrast in the group."""
        return Credited(_spread(rollouts, by_deviation), np.zeros(rollouts.response_mask.shape, dtype=bool))


PROCESS = Process()


@dataclass(frozen=True)
class Selective(Credit):
    """A_it = A_i where the mark of the token's step agrees with the sign of A_i, else `kept`·A_i. SPARK, selective
    advantage.

    Agreement is a correct step for A_i >= 0 and an incorrect one for A_i < 0. Tokens outside every step keep A_i.
    """

    kept: float = 0.0
    """`DISCOUNT` for the variant with half discount."""

    reads_steps = True

    @property
    def silences(self) -> bool:
        """Not with a discount."""
        return self.kept == 0

    def advantages(self, rollouts: Rollouts, by_deviation: bool = True) -> Credited:
        """Process advantages, less what the marks contradict."""
        advantages = _spread(rollouts, by_deviation)
        against = np.zeros(advantages.shape, dtype=bool)
        for index, steps in enumerate(rollouts.counted):
            for start, end, correct in steps:
                against[index, start:end] = (advantages[index, start:end] >= 0) != correct
        silenced = against & (advantages != 0) & self.silences
        return Credited(np.where(against, self.kept * advantages, advantages), silenced)


@dataclass(frozen=True)
class GlobalStep(Credit):
    """A_it = `process_weight`·A_i + `step_weight`·S_it. SPARK, global step-reward.

    Step j of K_i gets rho_ij = 1/K_i if correct, else -1/K_i, on its last token. z_ij = (rho_ij - mean_G) /
    (deviation_G + EPSILON) over all steps of all rollouts of the group that have step information; the others have
    no place in that pool, nor any S. S_it is the sum of z_ij over the steps that end at or after token t.
    """

    process_weight: float = PROCESS_WEIGHT
    step_weight: float = STEP_WEIGHT

    reads_steps = True

    @property
    def silences(self) -> bool:
        """Never: step rewards are added."""
        return False

    def advantages(self, rollouts: Rollouts, by_deviation: bool = True) -> Credited:
        """Both parts on every token of the response mask; S = 0 where a group's steps show no contrast."""
        rewarded = [
            (index, step.end, (1.0 if step.correct else -1.0) / len(steps))
            for index, steps in enumerate(rollouts.counted)
            for step in steps
        ]
        scores = _standardised([rollouts.uids[index] for index, _, _ in rewarded], [rho for _, _, rho in rewarded])
        ahead = np.zeros(rollouts.response_mask.shape)
        for (index, end, _), score in zip(rewarded, scores, strict=True):
            ahead[index, :end] += score
        process = _spread(rollouts, by_deviation)
        advantages = self.process_weight * process + self.step_weight * ahead * rollouts.response_mask
        return Credited(advantages, np.zeros(advantages.shape, dtype=bool))


def _spread(rollouts: Rollouts, by_deviation: bool) -> NDArray[np.float64]:
    """A_i on every token of the response mask, (N, T)."""
    known = [index for index, reward in enumerate(rollouts.rewards) if reward is not None]
    rewards = [reward for reward in rollouts.rewards if reward is not None]
    scores = np.zeros(len(rollouts.rewards))
    scores[known] = _standardised([rollouts.uids[index] for index in known], rewards, by_deviation)
    return np.where(rollouts.response_mask, scores[:, None], 0.0)


def _standardised(groups: Sequence[str], values: Sequence[float], by_deviation: bool = True) -> list[float]:
    """Each value less its group's mean, over the group's deviation (divisor: members - 1) + EPSILON.

    Exactly 0 in a group of one and in a group of equal values.
    """
    members: dict[str, list[float]] = defaultdict(list)
    for group, value in zip(groups, values, strict=True):
        members[group].append(value)
    moments = {}
    for group, all_values in members.items():
        if len(set(all_values)) > 1:
            mean = math.fsum(all_values) / len(all_values)
            variance = math.fsum((value - mean) ** 2 for value in all_values) / (len(all_values) - 1)
            moments[group] = (mean, math.sqrt(variance) + EPSILON if by_deviation else 1.0)
    return [
        (value - moments[group][0]) / moments[group][1] if group in moments else 0.0
        for group, value in zip(groups, values, strict=True)
    ]
