"""The score of ProcessBench, with intervals, and how often there was no prediction. Paper, section 6.1.

Per subset: the share of erroneous items whose first error was named, the share of correct ones that were passed, and
the harmonic mean of both; the score is the plain mean over the subsets. The same replies give the official number
exactly, but where it is undefined there: two shares of 0 give an F1 of 0, and a subset without erroneous or without
correct items has none, and then no mean is given either."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from verl_spark.evaluation.asking import Judgement
from verl_spark.evaluation.prediction import FAULTS
from verl_spark.evaluation.statistics import Estimate, FloatArray, Stratum, estimate, estimate_combined
from verl_spark.verification.reading import is_cut


@dataclass(frozen=True)
class SubsetScore:
    """One subset. What cannot be told is None."""

    items: int
    erroneous: int
    error_acc: Estimate | None
    """Of the erroneous items those with the exact index."""
    correct_acc: Estimate | None
    """Of the correct items those with -1."""
    f1: Estimate | None
    verdict_acc_right: Estimate | None
    """Of the solutions with a right answer those called right; by whether all steps are right where nobody knows the
    answer. None if the verifier states no verdict."""
    verdict_acc_wrong: Estimate | None
    """Of the others those called wrong."""
    faults: Mapping[str, float]
    """Share of the items without a prediction, by cause; all of `prediction.FAULTS`."""
    cut_replies: float
    """Share of the replies that were cut at the token limit."""


@dataclass(frozen=True)
class Score:
    """All subsets."""

    subsets: Mapping[str, SubsetScore]
    f1: Estimate | None
    """The plain mean over the subsets."""


def score(judgements: Sequence[Judgement], locates: bool = True, seed: int = 0, subsets: Sequence[str] = ()) -> Score:
    """The score of judged items; `subsets` are those that count even without an item.

    Without `locates` the verifier names no step, and there are verdicts only."""
    by_subset: dict[str, list[Judgement]] = {name: [] for name in subsets}
    for one in judgements:
        by_subset.setdefault(one.item.subset, []).append(one)
    scores = {name: _subset(found, locates, seed) for name, found in by_subset.items()}
    defined = bool(scores) and all(subset.f1 is not None for subset in scores.values())
    strata = [_stratum(found) for found in by_subset.values()]
    return Score(scores, estimate_combined(strata, _mean_f1, seed) if defined else None)


def f1(error_acc: FloatArray, correct_acc: FloatArray) -> FloatArray:
    """The harmonic mean of two shares, 0 where both are 0."""
    total = error_acc + correct_acc
    mean: FloatArray = 2 * error_acc * correct_acc / np.where(total == 0, 1.0, total)
    return mean


def _mean_f1(means: FloatArray) -> FloatArray:
    each: FloatArray = f1(means[:, ::2], means[:, 1::2]).mean(axis=1)
    return each


def _subset(found: Sequence[Judgement], locates: bool, seed: int) -> SubsetScore:
    erroneous = [one for one in found if one.item.erroneous]
    correct = [one for one in found if not one.item.erroneous]
    defined = locates and erroneous and correct
    said = any(one.prediction.verdict is not None for one in found)
    right = [one for one in found if _is_right(one)]
    wrong = [one for one in found if not _is_right(one)]
    replies = [reply for one in found for reply in one.replies]
    faults = [one.prediction.fault for one in found]
    return SubsetScore(
        items=len(found),
        erroneous=len(erroneous),
        error_acc=_share(erroneous, [one.match for one in erroneous], seed) if locates else None,
        correct_acc=_share(correct, [one.match for one in correct], seed) if locates else None,
        f1=estimate_combined([_stratum(found)], _mean_f1, seed) if defined else None,
        verdict_acc_right=_share(right, [one.prediction.verdict is True for one in right], seed) if said else None,
        verdict_acc_wrong=_share(wrong, [one.prediction.verdict is False for one in wrong], seed) if said else None,
        faults={fault: faults.count(fault) / max(1, len(found)) for fault in FAULTS},
        cut_replies=sum(is_cut(reply.finish_reason) for reply in replies) / max(1, len(replies)),
    )


def _is_right(one: Judgement) -> bool:
    known = one.item.answer_correct
    return not one.item.erroneous if known is None else known


def _share(found: Sequence[Judgement], hits: Sequence[bool], seed: int) -> Estimate | None:
    return estimate(hits, seed, [one.item.problem for one in found]) if found else None


def _stratum(found: Sequence[Judgement]) -> Stratum:
    """Matches and numbers of erroneous and of correct items by problem: several solutions may share one."""
    places = {problem: place for place, problem in enumerate(dict.fromkeys(one.item.problem for one in found))}
    sums, counts = np.zeros((len(places), 2)), np.zeros((len(places), 2))
    for one in found:
        cell = places[one.item.problem], int(not one.item.erroneous)
        sums[cell] += one.match
        counts[cell] += 1
    return Stratum(sums, counts)
