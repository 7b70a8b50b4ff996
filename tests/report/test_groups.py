"""Means over seeds: pairing goes by item, the unknown is left out and counted, what cannot be compared is refused."""

import pytest

from tests.report.made import grouped, result
from verl_spark.evaluation.statistics import estimate, estimate_seeds, paired_seeds
from verl_spark.report.groups import REWARD, group
from verl_spark.report.reading import HIGH, LOW
from verl_spark.report.tables import findings, occurred, timed
from verl_spark.runs.rows import SourceError

BEFORE = [{"a": [0.0], "b": [1.0], "c": [0.0]}, {"a": [0.0], "b": [0.0], "c": [1.0]}]
AFTER = [{"a": [1.0], "b": [1.0], "c": [0.0]}, {"a": [1.0], "b": [1.0], "c": [1.0]}]
RUNS = [result(seed=seed, evaluations={0: BEFORE[seed], 9: AFTER[seed]}) for seed in (0, 1)]


def test_the_gain_is_paired_by_item_within_each_seed():
    gain = grouped(*RUNS).gain
    assert gain.first == (0, estimate_seeds(BEFORE))
    assert gain.last == (9, estimate_seeds(AFTER))
    assert gain.difference == paired_seeds(BEFORE, AFTER)
    assert gain.difference.mean == pytest.approx(0.5)
    assert gain.left_out == 0


def test_items_of_one_evaluation_alone_are_left_out_and_counted():
    later = {**AFTER[0], "d": [1.0], "a": [1.0, 1.0]}
    del later["b"]
    gain = grouped(result(evaluations={0: BEFORE[0], 9: later})).gain
    assert gain.difference.n == 1  # c alone; a has another number of responses
    assert gain.difference.mean == 0
    assert gain.left_out == 3


def test_without_a_common_item_there_is_no_difference():
    gain = grouped(result(evaluations={0: {"a": [1.0]}, 9: {"b": [1.0]}})).gain
    assert gain.difference is None
    assert (gain.first[0], gain.last[0]) == (0, 9)


def test_a_single_evaluation_is_no_gain():
    gain = grouped(result(evaluations={9: AFTER[0]})).gain
    assert gain.first == gain.last
    assert (gain.difference, gain.left_out) == (None, 0)
    assert grouped(result()).gain is None


def test_seeds_with_other_problems_are_refused():
    runs = [result(seed=seed, evaluations={0: {item: [1.0]}}) for seed, item in enumerate("ab")]
    with pytest.raises(SourceError, match="a: its seeds were evaluated on different problems"):
        _ = grouped(*runs).accuracies


def test_two_results_of_one_seed_are_refused_by_their_names():
    with pytest.raises(SourceError, match="one and two are both arm a, seed 0"):
        group([("one", result()), ("two", result())])


def test_tasks_and_arms_are_kept_apart():
    runs = [result("a", task="x"), result("a", task="y"), result("b", task="x"), result("a", seed=1, task="x")]
    found = group([(str(number), one) for number, one in enumerate(runs)])
    assert [(each.name, len(each.results)) for each in found] == [("x: a", 2), ("y: a", 1), ("x: b", 1)]


def test_the_band_is_over_seeds_and_for_one_over_its_prompts():
    steps = [{REWARD: 0.2, LOW: 0.1, HIGH: 0.3}], [{REWARD: 0.6, LOW: 0.5, HIGH: 0.7}]
    (alone,) = grouped(result(steps=steps[0])).curve(REWARD)
    assert (alone.mean, alone.low, alone.high) == (0.2, 0.1, 0.3)
    (both,) = grouped(*(result(seed=seed, steps=one) for seed, one in enumerate(steps))).curve(REWARD)
    expected = estimate([0.2, 0.6])
    assert (both.mean, both.low, both.high) == (expected.mean, expected.low, expected.high)


def test_a_step_that_one_seed_lacks_has_no_band():
    found = grouped(result(steps=[{"m": 1.0}, {"m": 2.0}]), result(seed=1, steps=[{"m": 3.0}])).curve("m")
    assert [point.mean for point in found] == [2, 2]
    assert [point.low for point in found] == [1, None]


def test_reward_against_accuracy_goes_by_the_probe_set_where_there_is_one():
    probe = {"spark/probe/reward": 0.9, "spark/probe/accuracy": 0.4, "spark/probe/gap": 0.5, REWARD: 0.1}
    reward, accuracy, gap, on = grouped(result(steps=[probe], evaluations={1: BEFORE[0]})).against_accuracy()
    assert [curve[0].mean for curve in (reward, accuracy, gap)] == [0.9, 0.4, 0.5]
    assert on == "on the probe set"
    steps = [{REWARD: 0.5}, {REWARD: 0.75}]
    reward, accuracy, gap, on = grouped(result(steps=steps, evaluations={0: BEFORE[0], 2: AFTER[0]})).against_accuracy()
    assert [point.mean for point in reward] == [0.5, 0.75]
    assert [(point.step, point.mean) for point in gap] == [(2, pytest.approx(0.75 - 2 / 3))]
    assert "no probe set" in on


def test_without_stored_items_accuracy_is_what_verl_logged():
    steps = [{"val-core/x/acc/mean@4": 0.25, "val-core/y/acc/mean@4": 0.75, "val-core/x/acc/best@4/mean": 1.0}]
    curve, source = grouped(result(steps=steps)).accuracy_curve()
    assert [point.mean for point in curve] == [0.5]
    assert "val-core" in source


def test_shares_are_of_all_rollouts():
    steps = [
        {"spark/rollouts": 10.0, "spark/missing": 5.0, "spark/flags/markers": 0.5},
        {"spark/rollouts": 30.0, "spark/missing": 3.0, "spark/flags/markers": 0.1},
    ]
    arm = grouped(result(steps=steps))
    assert occurred(arm, "spark/missing") == pytest.approx(0.2)
    assert occurred(arm, "spark/flags/markers") == pytest.approx(0.2)
    assert arm.total("spark/missing") == 8
    assert arm.total("spark/called") is None
    assert [row[0].text for row in findings([arm]).rows] == ["markers"]


def test_parts_of_parts_are_not_timed_twice():
    steps = [{"timing_s/step": 9.0, "timing_s/gen": 5.0, "timing_s/gen/slow": 4.0, "timing_s/adv": 0.01}]
    assert timed([grouped(result(steps=steps))]) == ["gen"]
