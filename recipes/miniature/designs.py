"""The designs that credit steps, with a lower limit that solutions of two or three steps can keep.

The paper's limits are 4 and 3 steps to 20; they stand against packing all into one step, as these do."""

from dataclasses import replace

from verl_spark.rewards.designs import DESIGNS, SELECTIVE_LIMITS, Design, StepLimits

LIMITS = StepLimits(2, SELECTIVE_LIMITS.most)


def _short(name: str) -> Design:
    return replace(DESIGNS[name], limits=LIMITS)  # type: ignore[call-arg]  # those named below have limits


SELECTIVE, SELECTIVE_HALF, GLOBAL_STEP = map(_short, ("selective", "selective_half", "global_step"))
