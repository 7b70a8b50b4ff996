"""Who takes part in the advantages of a step.

A rollout without a reward, and a group in which nothing can be compared, must not move the policy. verl's
estimators know neither: a missing reward would be a 0 among the others, a group of one gets its raw reward as
advantage, and sixteen equal rewards of 0.6 get up to 0.056 in single precision."""

from collections import defaultdict
from collections.abc import Sequence

GROUPED = frozenset({"grpo", "grpo_vectorized", "rloo", "rloo_vectorized"})
"""Estimators of verl whose baseline is the prompt's own group, so that a group without contrast has no advantage."""


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
