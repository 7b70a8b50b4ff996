"""Training metrics and limits from rows."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rl.guard import VerifierFailed, watch
from verl_spark.rl.metrics import METRICS, step_metrics
from verl_spark.rl.row import empty_row
from verl_spark.settings import SparkSettings


def row(**values):
    return {**empty_row(), **{f"spark_{key}": float(value) for key, value in values.items()}}


SCORED = row(scored=1, called=1, reward=1, verdict=1, steps=4, verifier_seconds=2, attempts=1)
CACHED = row(scored=1, cached=1, reward=0, verdict=0, steps=2)
GATED = row(gated=1, gate_box_count=1)
FAILED = row(missing=1, called=1, failed=1)
CUT = row(missing=1, called=1, cut=1, verifier_seconds=4, attempts=1)


def test_counts_add_up_and_means_leave_out_what_is_not_known():
    metrics = step_metrics([SCORED, CACHED, GATED, FAILED, CUT])
    assert metrics["spark/rollouts"] == 5
    assert metrics["spark/scored"] + metrics["spark/missing"] + metrics["spark/gated"] == 5
    assert (metrics["spark/called"], metrics["spark/cached"]) == (3, 1)
    assert (metrics["spark/missing/failed"], metrics["spark/missing/cut"]) == (1, 1)
    assert metrics["spark/gate/box_count"] == 1
    assert metrics["spark/reward/mean"] == pytest.approx(1 / 3)  # scored, known and gated; not the two missing
    assert metrics["spark/verdict_yes"] == 0.5
    assert metrics["spark/steps/mean"] == 3
    assert metrics["spark/verifier/seconds/max"] == 4


def test_a_reward_that_misses_its_marks_has_its_cause():
    no_share = row(missing=1, called=1, step_mismatch=1, verdict=1, steps=3, steps_marked=2)
    kept = row(scored=1, called=1, step_mismatch=1, verdict=1, steps=3, steps_marked=2, reward=1)
    metrics = step_metrics([no_share, kept, CUT, FAILED])
    assert metrics["spark/missing/step_mismatch"] == 1
    assert metrics["spark/step_mismatch"] == 2
    assert metrics["spark/missing"] == sum(v for name, v in metrics.items() if name.startswith("spark/missing/"))


def test_steps_have_their_distribution():
    solutions = [row(scored=1, steps=n) for n in (1, 2, 3, 4, 21)]
    metrics = step_metrics([*solutions, row(scored=1)])
    assert metrics["spark/steps/one"] == 0.2
    assert metrics["spark/steps/below_3"] == 0.4
    assert metrics["spark/steps/below_4"] == 0.6
    assert metrics["spark/steps/above_20"] == 0.2
    assert (metrics["spark/steps/p5"], metrics["spark/steps/p95"]) == pytest.approx((1.2, 17.6))
    assert metrics["spark/flags/no_steps"] == pytest.approx(1 / 6)


def test_marks_are_held_against_verdicts():
    rows = [row(verdict=1, steps_correct=1), row(verdict=0, steps_correct=0.5), row(verdict=0)]
    assert step_metrics(rows)["spark/steps_over_verdict/mean"] == 0.25


def test_no_verdict_is_a_share_of_those_that_were_wanted():
    too_long = row(missing=1, too_long=1)
    assert step_metrics([SCORED, CACHED, GATED, CUT, too_long])["spark/no_verdict"] == 0.5


def test_every_metric_is_in_the_table_and_none_is_nan():
    for rows in ([], [GATED], [FAILED], [SCORED, CACHED, GATED, FAILED, CUT]):
        metrics = step_metrics(rows)
        assert set(metrics) <= set(METRICS)
        assert all(value == value for value in metrics.values())


MEASURED = st.builds(
    lambda reward, chars, repetition: row(
        scored=1, reward=reward, chars=chars, repetition=repetition, steps=chars % 30
    ),
    st.floats(0, 1),
    st.integers(0, 9999),
    st.floats(0, 1),
)


@given(st.lists(st.sampled_from([SCORED, CACHED, GATED, FAILED, CUT]) | MEASURED), st.randoms())
def test_the_order_of_arrival_changes_nothing(rows, chance):
    assert step_metrics(chance.sample(rows, len(rows))) == step_metrics(rows)


def test_too_many_failed_calls_stop_the_step_with_the_share_and_the_option():
    with pytest.raises(VerifierFailed, match=r"25\.0%.*max_failed_share=0\.05"):
        watch([SCORED, CACHED, SCORED, FAILED, GATED], SparkSettings())


def test_a_failed_call_below_the_share_passes():
    watch([SCORED] * 19 + [FAILED], SparkSettings())


def test_cut_replies_warn_by_default_and_stop_when_told(caplog):
    with caplog.at_level(logging.WARNING):
        watch([SCORED, CUT], SparkSettings())
    assert "max_unreadable_share" in caplog.text
    with pytest.raises(VerifierFailed, match="cut 1"):
        watch([SCORED, CUT], SparkSettings(on_unreadable="stop"))


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({}, "reward.reward_model.rollout.max_model_len if their prompts are too long"),
        ({"verifier": {"max_prompt_tokens": 9}}, "reward.spark.verifier.max_prompt_tokens if their"),
        ({"serving": "external", "verifier": {"base_urls": ["http://a"], "model": "m"}}, "--max-model-len if their"),
    ],
)
def test_prompts_without_room_warn_with_the_option_that_gives_it(caplog, settings, cure):
    with caplog.at_level(logging.WARNING):
        watch([SCORED, row(too_long=1)], SparkSettings.from_config(settings))
    assert "too_long 1" in caplog.text
    assert cure in caplog.text


def test_a_step_in_which_nothing_passes_the_gate_says_so_with_the_cure(caplog):
    with caplog.at_level(logging.WARNING):
        watch([GATED, GATED], SparkSettings())
    assert "box_count" in caplog.text
    assert "policy_format=plain" in caplog.text
