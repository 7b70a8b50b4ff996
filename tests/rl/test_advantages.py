"""The trainer hook around verl's own estimators: a missing reward moves nobody, and nobody moves it."""

import math

import pytest

from tests.rl.made import Queue, batch_of, hook_over, nested, objects
from verl_spark.rl.guard import VerifierFailed
from verl_spark.rl.row import empty_row, info_of
from verl_spark.settings import SparkSettings

LENGTHS = [5, 3, 4, 6, 2, 5, 4, 3]
UIDS = ["a", "a", "a", "a", "b", "b", "b", "b"]
REWARDS = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
ESTIMATORS = [
    "grpo",
    "grpo_vectorized",
    "rloo",
    "rloo_vectorized",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "gae",
]


def without(items, index):
    return [*items[:index], *items[index + 1 :]]


def advantages(monkeypatch, estimator, rewards, settings=None, uids=UIDS, lengths=LENGTHS, unsaid=0.0):
    """What the hook leaves in the queue: one list of token values a rollout.

    A reward of None is missing; `unsaid` is the number that stands in its place, as verl wants one."""
    rows = [
        {**empty_row(), "spark_reward": reward or 0.0, f"spark_{'missing' if reward is None else 'scored'}": 1.0}
        for reward in rewards
    ]
    queue = Queue(
        {
            "uid": objects(uids),
            "extra_fields": objects({"reward_extra_info": info_of(row)} for row in rows),
            "response_mask": nested([[1] * n for n in lengths]),
            "rm_scores": nested(
                [[0] * (n - 1) + [unsaid if r is None else r] for n, r in zip(lengths, rewards, strict=True)]
            ),
            "values": nested([[0.1 * n] * n for n in lengths]),
        }
    )
    hook = hook_over(monkeypatch, queue, settings or SparkSettings(), adv_estimator=estimator)
    hook._compute_advantage(batch_of([f"{uid}_{i}_0" for i, uid in enumerate(uids)]), {})
    names = ("advantages", "returns", "response_mask", "values")
    return {name: queue.rows(name) for name in names} | {"uid": queue.columns["uid"].tolist()}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_missing_reward_has_no_advantage_and_changes_no_other(monkeypatch, estimator):
    missing = 1
    among = advantages(monkeypatch, estimator, [None if i == missing else r for i, r in enumerate(REWARDS)])
    left_out = advantages(
        monkeypatch,
        estimator,
        without(REWARDS, missing),
        uids=without(UIDS, missing),
        lengths=without(LENGTHS, missing),
    )
    assert among["advantages"][missing] == [0.0] * LENGTHS[missing]
    for one, other in zip(without(among["advantages"], missing), left_out["advantages"], strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_number_in_place_of_a_missing_reward_plays_no_part(monkeypatch, estimator):
    rewards = [*REWARDS[:3], None, *REWARDS[4:]]
    zero = advantages(monkeypatch, estimator, rewards, unsaid=0.0)
    one = advantages(monkeypatch, estimator, rewards, unsaid=1.0)
    assert zero["advantages"] == one["advantages"]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_batch_is_left_as_it_was(monkeypatch, estimator):
    result = advantages(monkeypatch, estimator, [*REWARDS[:3], None, *REWARDS[4:]])
    assert result["uid"] == UIDS
    assert result["response_mask"] == [[1.0] * n for n in LENGTHS]


def test_a_critic_learns_nothing_from_a_missing_reward(monkeypatch):
    result = advantages(monkeypatch, "gae", [*REWARDS[:3], None, *REWARDS[4:]])
    assert result["returns"][3] == result["values"][3]


def test_whitening_counts_no_token_of_a_missing_rollout(monkeypatch):
    rewards = [*REWARDS[:3], None, *REWARDS[4:]]
    tokens = [
        a
        for i, row in enumerate(advantages(monkeypatch, "reinforce_plus_plus", rewards)["advantages"])
        if i != 3
        for a in row
    ]
    assert sum(tokens) / len(tokens) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_equal_rewards_and_groups_of_one_have_exactly_no_advantage(monkeypatch, estimator):
    result = advantages(
        monkeypatch, estimator, [0.6, 0.6, 0.6, 0.6, None, None, None, 1.0], SparkSettings(max_unreadable_share=1)
    )
    assert all(a == 0 for row in result["advantages"] for a in row)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_step_without_any_reward_moves_nothing(monkeypatch, estimator):
    result = advantages(monkeypatch, estimator, [None] * 8)
    assert all(a == 0 for row in result["advantages"] for a in row)


def test_with_all_rewards_verl_is_left_alone(monkeypatch):
    result = advantages(monkeypatch, "grpo", REWARDS)
    mean, deviation = 0.5, math.sqrt(1 / 3)
    assert result["advantages"][0][0] == pytest.approx((1 - mean) / (deviation + 1e-6), abs=1e-4)


def test_too_many_failed_calls_stop_the_step(monkeypatch):
    failed = {"spark_called": 1.0, "spark_failed": 1.0}
    monkeypatch.setattr("tests.rl.test_advantages.empty_row", lambda real=empty_row: {**real(), **failed})
    with pytest.raises(VerifierFailed):
        advantages(monkeypatch, "grpo", [None] * 8)
