"""Intervals: where they lie, what narrows them, what they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_spark.evaluation.statistics import (
    Estimate,
    Stratum,
    estimate,
    estimate_combined,
    estimate_over_seeds,
    estimate_seeds,
    paired_difference,
    paired_seeds,
)


def test_the_interval_holds_the_mean_and_is_about_as_wide_as_theory_says():
    values = [1.0] * 250 + [0.0] * 250
    found = estimate(values)
    assert found.mean == 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.5 / np.sqrt(500), rel=0.05)


def test_pairing_removes_the_difference_between_problems():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400)
    paired = paired_difference(hard, hard + 0.1)
    assert paired.excludes_zero
    assert paired.mean == pytest.approx(0.1)
    assert not paired_difference(hard, rng.permutation(hard)).excludes_zero


def test_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    hits = [estimate(rng.random(100) < 0.3) for _ in range(60)]
    assert sum(e.low <= 0.3 <= e.high for e in hits) >= 50


def test_the_same_values_give_the_same_interval():
    assert estimate([0.0, 1.0, 1.0]) == estimate([0.0, 1.0, 1.0])


def test_values_of_one_problem_count_as_one_observation():
    # 100 problems whose 8 values are all alike know no more than 100 values.
    values = [float(problem % 2) for problem in range(100)]
    once = estimate(values)
    copies = estimate(np.repeat(values, 8), problems=[f"p{problem}" for problem in range(100) for _ in range(8)])
    assert copies.n == once.n == 100
    assert copies.high - copies.low == pytest.approx(once.high - once.low, rel=0.1)
    assert estimate(np.repeat(values, 8)).high < copies.high - 0.03


def test_the_order_of_the_problems_changes_no_interval():
    values, problems = [1.0, 1.0, 0.0, 1.0], ["a", "b", "b", "c"]
    assert estimate(values, problems=problems) == estimate(values[::-1], problems=problems[::-1])
    assert estimate(values, problems=problems).mean == 0.75


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Estimate(0.523, 0.48, 0.566, 9), "+52.3 % [+48.0, +56.6]"),
        (Estimate(0.0001, -0.0002, 0.0004, 9), "+0.0 % [+0.0, +0.0]"),  # 0 is inside
        (Estimate(-0.00027, -0.00068, -0.00004, 9), "-0.027 % [-0.068, -0.004]"),
    ],
)
def test_an_interval_without_0_is_not_printed_as_one_with_it(found, said):
    assert found.percent(signed=True) == said


@pytest.mark.parametrize(("values", "message"), [([], "no values"), ([0.0, float("nan")], "NaN")])
def test_what_cannot_be_estimated_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        estimate(values)


def test_unequal_problems_are_no_pairs():
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([1.0], [1.0, 0.0])


def stratum(*pairs):
    sums, counts = zip(*pairs, strict=True)
    return Stratum(np.array(sums, dtype=float), np.array(counts, dtype=float))


def test_a_combination_of_one_mean_is_that_mean_with_its_interval():
    values = [1.0] * 30 + [0.0] * 70
    one = estimate_combined([stratum(*(((value,), (1,)) for value in values))], lambda means: means[:, 0])
    plain = estimate(values)
    assert (one.mean, one.n) == (plain.mean, plain.n)
    assert (one.low, one.high) == pytest.approx((plain.low, plain.high), abs=0.02)


def test_strata_are_drawn_apart_and_combined():
    halves = [stratum(*[((place % 2, 1), (1, 1)) for place in range(200)]) for _ in range(4)]
    found = estimate_combined(halves, lambda means: means[:, ::2].mean(axis=1))
    single = estimate_combined(halves[:1], lambda means: means[:, 0])
    assert found.mean == single.mean == 0.5
    assert found.n == 800
    assert found.high - found.low == pytest.approx((single.high - single.low) / 2, rel=0.1)  # four times the problems


def test_draws_in_which_a_mean_has_no_value_are_left_out():
    found = estimate_combined([stratum(((1, 0), (1, 0)), ((0, 1), (0, 1)))], lambda means: means.min(axis=1))
    assert (found.mean, found.low, found.high) == (1, 1, 1)
    with pytest.raises(ValueError, match="no value"):
        estimate_combined([stratum(((1, 0), (1, 0)))], lambda means: means[:, 0])


def shares(*each):
    """A stratum of 0 and 1 for each seed, with these shares of 1."""
    return [
        [stratum(*([((1,), (1,))] * round(200 * share)), *([((0,), (1,))] * (200 - round(200 * share))))]
        for share in each
    ]


def first(means):
    return means[:, 0]


def test_one_seed_has_the_interval_of_its_problems():
    (one,) = shares(0.3)
    assert estimate_over_seeds([one], first) == estimate_combined(one, first)


def test_seeds_that_differ_widen_the_interval_and_seeds_that_agree_narrow_it():
    one, alike, apart = (
        estimate_over_seeds(shares(*each), first) for each in ([0.5], [0.5] * 5, [0.1, 0.3, 0.5, 0.7, 0.9])
    )
    assert one.mean == alike.mean == pytest.approx(apart.mean)
    assert alike.n == apart.n == 5 * one.n
    assert alike.high - alike.low < 0.6 * (one.high - one.low)
    assert apart.high - apart.low > 3 * (one.high - one.low)


def test_two_levels_of_chance_add_up():
    """Of seeds with variance s, each with n problems of variance p, the mean has variance s/k + p/(n k)."""
    seeds = shares(0.4, 0.45, 0.5, 0.55, 0.6)
    found = estimate_over_seeds(seeds, first)
    between = np.var([0.4, 0.45, 0.5, 0.55, 0.6])
    within = np.mean([share * (1 - share) / 200 for share in (0.4, 0.45, 0.5, 0.55, 0.6)])
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.sqrt((between + within) / 5), rel=0.06)


def test_without_a_seed_there_is_nothing_to_estimate():
    with pytest.raises(ValueError, match="no seed"):
        estimate_over_seeds([], first)


def seeds(rng, means, problems=60):
    """One mapping a seed, of problems whose values are 1 with the seed's probability."""
    return [{f"p{n}": [float(rng.random() < mean)] for n in range(problems)} for mean in means]


@settings(max_examples=30)
@given(values=st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=4), min_size=1, max_size=20))
def test_one_seed_is_the_bootstrap_over_its_problems(values):
    one = {f"p{n}": each for n, each in enumerate(values)}
    flat = [(name, value) for name, each in sorted(one.items()) for value in each]
    assert estimate_seeds([one]) == estimate([value for _, value in flat], problems=[name for name, _ in flat])


@settings(max_examples=25)
@given(data=st.data(), n_seeds=st.integers(1, 4), n_problems=st.integers(1, 50))
def test_the_interval_over_seeds_lies_within_the_values_and_moves_with_them(data, n_seeds, n_problems):
    value = st.sampled_from([0.0, 0.25, 0.5, 1.0]) if data.draw(st.booleans()) else st.floats(0, 1)
    made = [{f"p{n}": [data.draw(value)] for n in range(n_problems)} for _ in range(n_seeds)]
    found = estimate_seeds(made)
    every = [each for one in made for (each,) in one.values()]
    assert found.mean == pytest.approx(np.mean(every))
    assert min(every) - 1e-9 <= found.low <= found.high <= max(every) + 1e-9
    assert found.n == n_seeds * n_problems
    backwards = [dict(reversed(one.items())) for one in made]
    assert estimate_seeds(backwards) == found
    assert paired_seeds(made, made) == Estimate(0, 0, 0, found.n)
    up = paired_seeds(made, [{name: [each + 0.5 for each in values] for name, values in one.items()} for one in made])
    assert (up.mean, up.low, up.high) == pytest.approx((0.5, 0.5, 0.5))


def test_seeds_that_differ_widen_the_interval_and_more_problems_cannot_narrow_it():
    rng = np.random.default_rng(0)
    alike = estimate_seeds(seeds(rng, [0.5] * 5, 400))
    apart = estimate_seeds(seeds(rng, [0.2, 0.3, 0.5, 0.7, 0.8], 400))
    many = estimate_seeds(seeds(rng, [0.2, 0.3, 0.5, 0.7, 0.8], 4000))
    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    assert many.high - many.low == pytest.approx(apart.high - apart.low, rel=0.15)


def test_the_two_ways_of_drawing_problems_agree():
    rng = np.random.default_rng(0)
    few = [{f"p{n}": [round(rng.random(), 1)] for n in range(300)} for _ in range(3)]
    many = [{name: [value + 1e-9 * n] for n, (name, (value,)) in enumerate(one.items())} for one in few]
    one, other = estimate_seeds(few), estimate_seeds(many)
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=2e-3)


def test_pairing_within_seeds_removes_what_seeds_and_problems_have_of_their_own():
    rng = np.random.default_rng(0)
    before = [{f"p{n}": [rng.normal() + seed] for n in range(200)} for seed in range(4)]
    after = [{name: [value + 0.1] for name, (value,) in one.items()} for one in before]
    found = paired_seeds(before, after)
    assert found.mean == pytest.approx(0.1)
    assert found.excludes_zero
    assert not paired_seeds(before[::-1], after).excludes_zero


def test_95_of_100_intervals_over_seeds_hold_the_truth():
    rng = np.random.default_rng(1)
    found = [estimate_seeds(seeds(rng, rng.normal(0.5, 0.05, 8), 100)) for _ in range(60)]
    assert sum(each.low <= 0.5 <= each.high for each in found) >= 50


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "no values"),
        ([{"a": []}], "no values"),
        ([{}, {}], "no values"),
        ([{"a": [1.0]}, {"b": [1.0]}], "seed 0 and seed 1: 2 problems are in one of the two only, such as a"),
        ([{"a": [1.0]}, {"a": [float("nan")]}], "NaN"),
    ],
)
def test_seeds_that_cannot_be_averaged_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        estimate_seeds(made)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([{"a": [1.0]}], [], "1 seeds before and 0 after"),
        ([{"a": [1.0]}], [{"b": [1.0]}], "before and after, seed 0: 2 problems"),
        ([{"a": [1.0]}], [{"a": [1.0, 0.0]}], "problem a of seed 0 has 1 values before and 2 after"),
    ],
)
def test_seeds_that_are_no_pairs_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        paired_seeds(before, after)


def test_both_estimates_over_seeds_agree():
    rng = np.random.default_rng(0)
    made = seeds(rng, [0.4, 0.5, 0.6], 100)
    strata = [[stratum(*[(values, [1]) for values in one.values()])] for one in made]
    one, other = estimate_seeds(made), estimate_over_seeds(strata, first)
    assert (one.mean, one.n) == (pytest.approx(other.mean), other.n)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.01)
