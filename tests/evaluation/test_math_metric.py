"""Scores: pass@k is what drawing k replies gives, means are what they say, and what is missing is no score."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.evaluation.policy.answers import Verdict
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS, Task
from verl_spark.evaluation.policy.metric import Attempt, Solved, pass_at, score
from verl_spark.runs.journal import Sample


def attempt(correct, answer="1", finish_reason="stop"):
    return Attempt(Sample(0, "t", finish_reason, 1, 1, 0.0), Verdict(answer, correct))


def solved(name, subset="math500", greedy=True, sampled=(), majority=False, k=None):
    right = [attempt(one) for one in sampled]
    vote = Verdict("1" if majority is not None else None, bool(majority))
    return Solved(
        Task(name, "p" + name, "1", subset),
        None if greedy is None else attempt(greedy),
        len(right) if k is None else k,
        tuple(right),
        vote,
    )


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(right, data):
    k = data.draw(st.integers(1, len(right)))
    draws = list(combinations(right, k))
    assert pass_at(len(right), sum(right), k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_scores_of_a_benchmark():
    found = score(
        [
            solved("a", greedy=True, sampled=[True, True, False, False], majority=True),
            solved("b", greedy=False, sampled=[False, False, False, True], majority=False),
            solved("c", greedy=None, sampled=[False] * 4, majority=None),
            solved("d", greedy=True, sampled=(), k=4, majority=None),
        ]
    ).benchmarks["math500"]
    assert (found.problems, found.k, found.ties) == (4, 4, 2)
    assert found.greedy.mean == 0.5
    assert found.avg.mean == pytest.approx((0.5 + 0.25) / 4)
    assert {j: one.mean for j, one in found.passed.items()} == pytest.approx({1: 0.1875, 2: (5 / 6 + 0.5) / 4, 4: 0.5})
    assert found.majority.mean == 0.25
    assert found.greedy_faults == {"failed": 1, "cut": 0, "no_answer": 0, "undecided": 0}
    assert found.sampled_faults == {"failed": 4, "cut": 0, "no_answer": 0, "undecided": 0}
    assert found.greedy.low < 0.5 < found.greedy.high
    assert found.greedy.n == 4


def test_what_comes_to_nothing_is_wrong_and_counted():
    one = solved("a", sampled=[False, None, True])
    cut = attempt(False, None, "length")
    found = score([Solved(one.task, attempt(None), 4, (*one.sampled, cut), Verdict(None, False))]).benchmarks["math500"]
    assert found.greedy.mean == 0
    assert found.avg.mean == 0.25
    assert found.greedy_faults == {"failed": 0, "cut": 0, "no_answer": 0, "undecided": 1}
    assert found.sampled_faults == {"failed": 0, "cut": 1, "no_answer": 1, "undecided": 1}


def test_the_mean_is_over_benchmarks_and_needs_all_six():
    several = [
        solved(str(i), name, greedy=i == 0, sampled=[True])
        for name in BENCHMARKS
        for i in range(1 + (name == "aime24"))
    ]
    whole = score(several)
    assert whole.greedy.mean == pytest.approx((5 + 0.5) / 6)  # not 6 of 7 problems
    assert whole.avg.mean == 1
    assert whole.majority.mean == 0
    some = score([one for one in several if one.task.subset != "aime25"])
    assert (some.greedy, some.avg, some.majority) == (None, None, None)
    without = score([solved(name, name, sampled=[True] * (name != "amc23")) for name in BENCHMARKS])
    assert without.greedy.mean == 1
    assert without.avg is None
    assert without.benchmarks["amc23"].avg is None
    assert without.benchmarks["amc23"].passed == {}
