"""Means with intervals, the one place where an interval is made.

Intervals are percentile bootstraps over problems (SPARK's reviewers asked for them); a comparison of two arms on the
same problems is paired, which removes the difference between the problems from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over `n` problems."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0

    def percent(self, signed: bool = False) -> str:
        """`52.3 % [48.0, 56.6]`, with a sign for differences."""
        sign = "+" if signed else ""
        return f"{100 * self.mean:{sign}.1f} % [{100 * self.low:{sign}.1f}, {100 * self.high:{sign}.1f}]"


def estimate(values: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of one value a problem. Raises `ValueError` for none, or for a value that is not known (NaN)."""
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("no values to estimate from")
    if np.isnan(data).any():
        raise ValueError("a value is NaN: leave out what is not known, and say how many")
    rng = np.random.default_rng(seed)
    means = np.array([data[rng.integers(0, data.size, data.size)].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(data.mean()), float(low), float(high), int(data.size))


def paired_difference(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of `after - before`, problem by problem; both in the same order of problems."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} problems before and {len(after)} after: pairs need the same problems")
    return estimate(np.asarray(after, dtype=float) - np.asarray(before, dtype=float), seed)
