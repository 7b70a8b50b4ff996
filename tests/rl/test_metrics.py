"""Training metrics and limits from rows."""

import logging

import pytest

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


def test_every_metric_is_in_the_table_and_none_is_nan():
    for rows in ([], [GATED], [FAILED], [SCORED, CACHED, GATED, FAILED, CUT]):
        metrics = step_metrics(rows)
        assert set(metrics) <= set(METRICS)
        assert all(value == value for value in metrics.values())


def test_the_order_of_rows_changes_nothing():
    rows = [SCORED, CACHED, GATED, FAILED, CUT]
    assert step_metrics(rows) == step_metrics(rows[::-1])


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


def test_a_step_in_which_nothing_passes_the_gate_says_so_with_the_cure(caplog):
    with caplog.at_level(logging.WARNING):
        watch([GATED, GATED], SparkSettings())
    assert "box_count" in caplog.text
    assert "policy_format=plain" in caplog.text
