"""Scores of a policy: greedy pass@1, and of k sampled replies avg@k, pass@k and maj@k, with 95 % intervals.

The protocol is ours (paper, section 6.2: the paper's own is not known). A problem counts once, whatever its number of
replies; intervals are bootstraps over problems. No answer, an undecided check and a failed call count as wrong, and are
counted."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verl_spark.evaluation.policy.answers import Verdict
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS, Task
from verl_spark.evaluation.statistics import Estimate, FloatArray, Stratum, estimate, estimate_combined
from verl_spark.runs.journal import Sample
from verl_spark.verification.reading import is_cut

FAULTS = ("failed", "cut", "no_answer", "undecided")
"""What is counted of replies: there is none and there will be none; cut at the token limit (an answer in it counts);
without a box that closes; the check of the answer came to no result."""


@dataclass(frozen=True)
class Attempt:
    """A reply with what its answer is worth."""

    reply: Sample
    verdict: Verdict


@dataclass(frozen=True)
class Solved:
    """A problem with all that was replied to it."""

    task: Task
    greedy: Attempt | None
    """None: the call failed for good."""
    k: int
    """Sampled replies that were asked for."""
    sampled: tuple[Attempt, ...]
    """`k` of them, or none: the call failed for good."""
    majority: Verdict
    """The most frequent answer of the sampled replies; no answer after a tie."""

    @property
    def right(self) -> int:
        """Right ones of the sampled replies."""
        return sum(one.verdict.correct is True for one in self.sampled)


@dataclass(frozen=True)
class BenchmarkScore:
    """One benchmark. What nobody asked for is None."""

    problems: int
    k: int
    greedy: Estimate
    """pass@1 of the greedy reply."""
    avg: Estimate | None
    """avg@k: the share of right replies, by problem."""
    passed: Mapping[int, Estimate]
    """pass@j for j up to k."""
    majority: Estimate | None
    """maj@k; a tie counts as wrong."""
    ties: int
    """Problems whose vote was a tie, or had no answer to count."""
    greedy_faults: Mapping[str, int]
    """Greedy replies by `FAULTS`; one may have several."""
    sampled_faults: Mapping[str, int]
    """The same of the sampled replies."""


@dataclass(frozen=True)
class Score:
    """All benchmarks, and the plain mean over the six; None where one of them is missing."""

    benchmarks: Mapping[str, BenchmarkScore]
    greedy: Estimate | None
    avg: Estimate | None
    majority: Estimate | None


def pass_at(n: int, right: int, k: int) -> float:
    """The probability that one of `k` replies is right, drawn without repetition from `n` of which `right` are."""
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def score(solved: Sequence[Solved], seed: int = 0) -> Score:
    """The score of solved problems."""
    found: dict[str, list[Solved]] = {}
    for one in solved:
        found.setdefault(one.task.subset, []).append(one)
    sampled = all(one.k for one in solved)
    return Score(
        {name: _benchmark(each, seed) for name, each in found.items()},
        mean_of_six({name: [_is_right(one.greedy) for one in each] for name, each in found.items()}, seed),
        mean_of_six({name: list(map(_avg, each)) for name, each in found.items()}, seed) if sampled else None,
        mean_of_six({name: list(map(_maj, each)) for name, each in found.items()}, seed) if sampled else None,
    )


def mean_of_six(values: Mapping[str, Sequence[float]], seed: int = 0) -> Estimate | None:
    """The plain mean over the six benchmarks of the means of their problems' values; None if one is missing."""
    if not all(values.get(name) for name in BENCHMARKS):
        return None
    columns = [np.asarray(values[name], dtype=float)[:, None] for name in BENCHMARKS]
    return estimate_combined([Stratum(column, np.ones_like(column)) for column in columns], _row_means, seed)


def _row_means(means: FloatArray) -> FloatArray:
    each: FloatArray = means.mean(axis=1)
    return each


def _benchmark(solved: Sequence[Solved], seed: int) -> BenchmarkScore:
    k = solved[0].k

    def over_problems(value: Callable[[Solved], float]) -> Estimate:
        return estimate([value(one) for one in solved], seed)

    def passing(j: int) -> Estimate:
        return over_problems(lambda one: pass_at(k, one.right, j))

    sizes = sorted({*(2**power for power in range(k.bit_length())), k}) if k else []
    return BenchmarkScore(
        problems=len(solved),
        k=k,
        greedy=over_problems(lambda one: _is_right(one.greedy)),
        avg=over_problems(_avg) if k else None,
        passed={j: passing(j) for j in sizes},
        majority=over_problems(_maj) if k else None,
        ties=sum(one.majority.answer is None for one in solved) if k else 0,
        greedy_faults=_faults([[one.greedy] if one.greedy else [] for one in solved], 1),
        sampled_faults=_faults([one.sampled for one in solved], k),
    )


def _is_right(attempt: Attempt | None) -> float:
    return float(attempt is not None and attempt.verdict.correct is True)


def _avg(one: Solved) -> float:
    return one.right / one.k


def _maj(one: Solved) -> float:
    return float(one.majority.correct is True)


def _faults(attempts: Sequence[Sequence[Attempt]], wanted: int) -> Mapping[str, int]:
    counts = Counter(dict.fromkeys(FAULTS, 0))
    for each in attempts:
        counts["failed"] += 0 if each else wanted
        counts["cut"] += sum(is_cut(one.reply.finish_reason) for one in each)
        counts["no_answer"] += sum(one.verdict.answer is None for one in each)
        counts["undecided"] += sum(one.verdict.correct is None for one in each)
    return dict(counts)
