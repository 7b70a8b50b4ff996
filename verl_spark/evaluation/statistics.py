"""Means with intervals, the one place where an interval is made.

Intervals are percentile bootstraps over problems (SPARK's reviewers asked for them); a comparison of two arms on the
same problems is paired, which removes the difference between the problems from it. With several seeds problems are
drawn within each seed, and then seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

RESAMPLES = 10_000
_DRAWN_AT_ONCE = 2**20  # some tens of megabytes
_ALIKE = 32  # so few kinds of problems, such as right and wrong ones, are drawn ten times faster by their numbers


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
        """`52.3 % [48.0, 56.6]`, with a sign for differences; with more digits where 0 is outside by less than that."""
        sign, digits = "+" if signed else "", 1
        nearest = 100 * min(abs(self.low), abs(self.high))
        while self.excludes_zero and round(nearest, digits) == 0:
            digits += 1
        mean, low, high = (round(100 * value, digits) + 0.0 for value in (self.mean, self.low, self.high))  # no -0.0
        return f"{mean:{sign}.{digits}f} % [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def estimate(values: Sequence[float], seed: int = 0, problems: Sequence[str] | None = None) -> Estimate:
    """The mean of one value a problem, or of several with `problems`, which names the problem of each value.

    Values of one problem are drawn together, since they are not independent of each other; `n` counts problems. Raises
    `ValueError` for no values, or for a value that is not known (NaN)."""
    data = np.asarray(values, dtype=float)
    if data.size == 0:
        raise ValueError("no values to estimate from")
    if np.isnan(data).any():
        raise ValueError("a value is NaN: leave out what is not known, and say how many")
    owners = np.arange(data.size) if problems is None else np.unique(problems, return_inverse=True)[1]
    sums, counts = np.bincount(owners, weights=data), np.bincount(owners)
    n = sums.size
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    means: list[float] = []
    while len(means) < RESAMPLES:
        drawn = rng.integers(0, n, (min(at_once, RESAMPLES - len(means)), n))
        means.extend(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(float(data.mean()), float(low), float(high), n)


class Stratum(NamedTuple):
    """Several means over the same problems, as arrays of shape (problems, means)."""

    sums: FloatArray
    """Of the values that a problem has for a mean."""
    counts: FloatArray
    """Their number."""


def estimate_combined(
    strata: Sequence[Stratum], combine: Callable[[FloatArray], FloatArray], seed: int = 0
) -> Estimate:
    """What `combine` makes of the means of all strata, such as the F1 of two accuracies, with its interval.

    `combine` gets an array of shape (draws, means of all strata side by side) and gives one value per draw. Problems
    are drawn within each stratum, and with all their values. A draw in which some mean has no value is left out; `n`
    counts problems. Raises `ValueError` for a mean without any value."""
    point, values = _combined(strata, combine, np.random.default_rng(seed))
    low, high = np.quantile(values, (0.025, 0.975))
    return Estimate(point, float(low), float(high), _size(strata))


def estimate_over_seeds(
    seeds: Sequence[Sequence[Stratum]], combine: Callable[[FloatArray], FloatArray], seed: int = 0
) -> Estimate:
    """The mean over seeds of what `combine` makes of the strata of each, as in `estimate_combined`.

    Hierarchical: a draw takes as many seeds as there are, with replacement, and for each that it takes a new sample of
    its problems; with one seed it is `estimate_combined`. `n` counts the problems of all seeds. Paper, section 7.1.
    Raises `ValueError` for no seed, and for a mean without any value."""
    if not seeds:
        raise ValueError("no seed to estimate from")
    rng = np.random.default_rng(seed)
    return _over_seeds([_combined(strata, combine, rng) for strata in seeds], sum(map(_size, seeds)), rng)


def _over_seeds(found: Sequence[tuple[float, FloatArray]], n: int, rng: np.random.Generator) -> Estimate:
    """From the value of each seed, and its values of resampled problems."""
    draws = found[0][1]
    if len(found) > 1:
        picked = np.stack([rng.choice(values, (RESAMPLES, len(found))) for _, values in found])
        taken = rng.integers(0, len(found), (1, RESAMPLES, len(found)))
        draws = np.take_along_axis(picked, taken, axis=0)[0].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Estimate(float(np.mean([point for point, _ in found])), float(low), float(high), n)


def _combined(
    strata: Sequence[Stratum], combine: Callable[[FloatArray], FloatArray], rng: np.random.Generator
) -> tuple[float, FloatArray]:
    """What `combine` makes of the means, and of those of resampled problems."""
    if any((stratum.counts.sum(axis=0) == 0).any() for stratum in strata):
        raise ValueError("a mean has no value to estimate from")
    point = np.concatenate([stratum.sums.sum(axis=0) / stratum.counts.sum(axis=0) for stratum in strata])
    means = np.concatenate([_drawn_means(stratum, rng) for stratum in strata], axis=1)
    return float(combine(point[None])[0]), combine(means[np.isfinite(means).all(axis=1)])


def _size(strata: Sequence[Stratum]) -> int:
    return sum(len(stratum.sums) for stratum in strata)


def _drawn_means(stratum: Stratum, rng: np.random.Generator) -> FloatArray:
    """Means of resampled problems, of shape (RESAMPLES, means)."""
    n = len(stratum.sums)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    means: list[FloatArray] = []
    for start in range(0, RESAMPLES, at_once):
        weights = rng.multinomial(n, np.full(n, 1 / n), min(at_once, RESAMPLES - start)).astype(float)
        with np.errstate(invalid="ignore"):  # 0 of 0
            means.append((weights @ stratum.sums) / (weights @ stratum.counts))
    return np.concatenate(means)


def paired_difference(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Estimate:
    """The mean of `after - before`, problem by problem; both in the same order of problems."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} problems before and {len(after)} after: pairs need the same problems")
    return estimate(np.asarray(after, dtype=float) - np.asarray(before, dtype=float), seed)


def estimate_seeds(seeds: Sequence[Mapping[str, Sequence[float]]], seed: int = 0) -> Estimate:
    """The mean over seeds of each one's mean, from one mapping a seed: problem to its values.

    Hierarchical as `estimate_over_seeds`, whose special case it is, many times faster for values that are mostly alike,
    such as right and wrong. With one seed it is `estimate` over its problems. Raises `ValueError` for no values, for
    one that is NaN, and for seeds whose problems are not the same."""
    if not seeds or not all(seeds) or not all(values for one in seeds for values in one.values()):
        raise ValueError("no values to estimate from: every seed and every problem needs one")
    problems = sorted(seeds[0])
    for index, one in enumerate(seeds[1:], 1):
        _same_problems(seeds[0], one, f"seed 0 and seed {index}")
    values = [[value for problem in problems for value in one[problem]] for one in seeds]
    owners = [[problem for problem in problems for _ in one[problem]] for one in seeds]
    if len(seeds) == 1:
        return estimate(values[0], seed, owners[0])
    if any(np.isnan(each).any() for each in values):
        raise ValueError("a value is NaN: leave out what is not known, and say how many")
    rng = np.random.default_rng(seed)
    found = []
    for one in seeds:
        sums = np.array([np.sum(one[problem]) for problem in problems])
        counts = np.array([len(one[problem]) for problem in problems])
        found.append((float(sums.sum() / counts.sum()), _resampled(sums, counts, rng)))
    return _over_seeds(found, sum(map(len, seeds)), rng)


def paired_seeds(
    before: Sequence[Mapping[str, Sequence[float]]], after: Sequence[Mapping[str, Sequence[float]]], seed: int = 0
) -> Estimate:
    """The mean of `after - before`, problem by problem within each seed, as `estimate_seeds` draws it.

    Two arms, or two times of one arm, with the same seeds in the same order. Raises `ValueError` where seeds, problems
    or the numbers of their values differ, and as `estimate_seeds` does."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} seeds before and {len(after)} after: pairs need the same seeds")
    changes: list[dict[str, list[float]]] = []
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        _same_problems(old, new, f"before and after, seed {index}")
        for problem, values in old.items():
            if len(values) != len(new[problem]):
                raise ValueError(
                    f"problem {problem} of seed {index} has {len(values)} values before and {len(new[problem])} after"
                )
        changes.append({name: [b - a for a, b in zip(old[name], new[name], strict=True)] for name in old})
    return estimate_seeds(changes, seed)


def _same_problems(one: Mapping[str, object], other: Mapping[str, object], which: str) -> None:
    if apart := sorted(one.keys() ^ other.keys()):
        raise ValueError(
            f"{which}: {len(apart)} problems are in one of the two only, such as {apart[0]}; leave them out"
        )


def _resampled(sums: FloatArray, counts: NDArray[np.int64], rng: np.random.Generator) -> FloatArray:
    """Means of resampled problems, of shape (RESAMPLES,)."""
    n = sums.size
    cells, times = np.unique(np.stack([sums, counts]), axis=1, return_counts=True)
    means: list[FloatArray] = []
    for start in range(0, RESAMPLES, at_once := max(1, _DRAWN_AT_ONCE // n)):
        size = min(at_once, RESAMPLES - start)
        if times.size <= _ALIKE:
            weights = rng.multinomial(n, times / n, size).astype(float)
            means.append((weights @ cells[0]) / (weights @ cells[1]))
        else:
            drawn = rng.integers(0, n, (size, n))
            means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    return np.concatenate(means)
