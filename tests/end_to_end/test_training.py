"""SPARK in verl's own trainer, for real: every way of serving, every fault, a kill and a resume.

Pairwise, not the full product: pool x grpo x sync, colocate x gae x sync, external x rloo x colocate_async,
external x reinforce++ x sync with a kill."""

import json

import pytest

from benchmarks.mock_server import serving, stats_of
from tests.end_to_end.taught import teach_orm, verdict_of
from verl_spark.rl.metrics import METRICS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

ASKED_WHATEVER_IT_WRITES = ("reward.spark.format_gate=False", "reward.spark.policy_prompt=as_is")
"""The untrained policy of these tests never passes the gate."""
SMALL_VERIFIER = (
    "reward.reward_model.n_gpus_per_node=1",
    "reward.reward_model.rollout.max_model_len=1024",
    "reward.reward_model.rollout.max_num_seqs=32",
    "reward.reward_model.rollout.max_num_batched_tokens=1024",
    "reward.spark.verifier.max_tokens=16",
)


@pytest.fixture(scope="session")
def orm(tmp_path_factory):
    """Folder of a verifier that says Yes to problems with crosses."""
    return teach_orm(tmp_path_factory.mktemp("orm"))


def external(url: str) -> tuple[str, ...]:
    return (
        "reward.spark.serving=external",
        f"reward.spark.verifier.base_urls=[{url}]",
        "reward.spark.verifier.model=mock",
    )


def rollouts(folder) -> list[dict[str, object]]:
    """All dumped training rollouts of a run."""
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.open()]


def balance(metrics: dict[str, float]) -> None:
    """Every rollout is scored, missing or gated, and every wanted verdict was called for or known."""
    states = [metrics[f"spark/{state}"] for state in ("scored", "missing", "gated")]
    assert sum(states) == metrics["spark/rollouts"]
    assert metrics["spark/called"] + metrics["spark/cached"] == metrics["spark/scored"] + metrics["spark/missing"]
    assert metrics["spark/missing"] == sum(v for key, v in metrics.items() if key.startswith("spark/missing/"))


def spark_keys(metrics: dict[str, float]) -> set[str]:
    return {key for key in metrics if key.startswith("spark/")}


def test_a_verifier_with_a_pool_of_its_own(train, orm, tmp_path):
    run = train(
        "reward_model=spark_orm",
        f"reward.reward_model.model_path={orm}",
        *SMALL_VERIFIER,
        *ASKED_WHATEVER_IT_WRITES,
        "reward.num_workers=2",
        "algorithm.adv_estimator=grpo",
        f"trainer.rollout_data_dir={tmp_path}/rollouts",
    )
    assert run.returncode == 0, run.text()[-4000:]
    steps = [metrics for metrics in run.metrics if metrics["step"] > 0]
    assert len(steps) == 2
    for metrics in steps:
        balance(metrics)
        assert metrics["spark/scored"] == metrics["spark/rollouts"]
        assert spark_keys(metrics) <= set(METRICS)
    for rollout in rollouts(tmp_path / "rollouts"):
        assert rollout["score"] == float(verdict_of(rollout["input"]))
    # By rule, from references that training never saw.
    assert "val-core/sums/acc/mean@1" in run.metrics[-1]


def test_a_verifier_colocated_with_the_policy_and_a_critic(train, orm, tmp_path):
    run = train(
        "reward_model=spark_orm",
        "reward.spark.serving=colocate",
        f"reward.reward_model.model_path={orm}",
        *SMALL_VERIFIER,
        *ASKED_WHATEVER_IT_WRITES,
        "algorithm.adv_estimator=gae",
        f"trainer.rollout_data_dir={tmp_path}/rollouts",
    )
    assert run.returncode == 0, run.text()[-4000:]
    for metrics in (metrics for metrics in run.metrics if metrics["step"] > 0):
        balance(metrics)
        assert metrics["spark/scored"] == metrics["spark/rollouts"]
        assert metrics["critic/vf_loss"] >= 0
    for rollout in rollouts(tmp_path / "rollouts"):
        assert rollout["score"] == float(verdict_of(rollout["input"]))
    assert "val-core/sums/acc/mean@1" in run.metrics[-1]


def test_a_verifier_that_fails_hangs_and_garbles_gives_no_wrong_reward(train, tmp_path):
    schedule = "ok,http503,cut,ok,garbage,drop,ok,hang,empty,not_json,ok,http400"
    never = "--wrong-every=1000000"  # every judged solution is right: a 0 would be wrong
    with serving(f"--schedule={schedule}", never) as url:
        run = train(
            "reward_model=spark_prmcot",
            *external(url),
            *ASKED_WHATEVER_IT_WRITES,
            "reward.spark.verifier.timeout_s=2",
            "reward.spark.verifier.deadline_s=6",
            "reward.spark.max_failed_share=1",
            "reward.spark.max_unreadable_share=1",
            "reward.num_workers=2",
            "algorithm.adv_estimator=rloo",
            "trainer.v1.trainer_mode=colocate_async",
            f"trainer.rollout_data_dir={tmp_path}/rollouts",
        )
        served = stats_of(url)
    assert run.returncode == 0, run.text()[-4000:]
    steps = [metrics for metrics in run.metrics if metrics["step"] > 0]
    for metrics in steps:
        balance(metrics)
        assert metrics["spark/gated"] == 0
    for cause in ("failed", "cut", "unreadable"):
        assert sum(metrics[f"spark/missing/{cause}"] for metrics in steps) > 0
    dumped = rollouts(tmp_path / "rollouts")
    assert len(dumped) == sum(metrics["spark/rollouts"] for metrics in steps)
    for rollout in dumped:
        assert rollout["score"] == (0.0 if rollout["spark_missing"] else 1.0)
    assert served["hang"] > 0


@pytest.mark.full
def test_a_verifier_that_is_down_stops_the_step_with_the_cure(train):
    run = train(
        "reward_model=spark_prmcot",
        *external("http://127.0.0.1:9/v1"),
        *ASKED_WHATEVER_IT_WRITES,
        "reward.spark.verifier.attempts=1",
        "algorithm.adv_estimator=grpo",
    )
    assert run.returncode != 0
    assert "reward.spark.max_failed_share=0.05" in run.text()


def test_a_killed_run_resumes_with_its_settings_and_refuses_others(train):
    with serving() as url:
        command = (
            "reward_model=spark_prmcot",
            *external(url),
            *ASKED_WHATEVER_IT_WRITES,
            "algorithm.adv_estimator=reinforce_plus_plus",
            "trainer.save_freq=1",
            "trainer.resume_mode=auto",
            "trainer.total_training_steps=3",
        )
        killed = train(*command, name="killed", watch=lambda line: "step:1 " in line)
        resumed = train(*command, name="resumed")
    assert [metrics["step"] for metrics in killed.metrics][-1] == 1
    assert resumed.returncode == 0, resumed.text()[-4000:]
    assert [metrics["step"] for metrics in resumed.metrics if "spark/rollouts" in metrics] == [2, 3]


@pytest.mark.full
def test_a_resumed_run_with_other_settings_is_refused_with_both_values(train):
    with serving() as url:
        command = (
            "reward_model=spark_prmcot",
            *external(url),
            *ASKED_WHATEVER_IT_WRITES,
            "trainer.save_freq=1",
            "trainer.resume_mode=auto",
            "trainer.total_training_steps=2",
        )
        train(*command, name="first", watch=lambda line: "step:1 " in line)
        changed = train(*command, "reward.spark.rendering=raw", name="changed")
    assert changed.returncode != 0
    assert "reward.spark.rendering: 'stage1', now 'raw'" in changed.text()


@pytest.mark.full
def test_a_step_in_which_nothing_passes_the_gate_says_so(train):
    with serving() as url:
        run = train("reward_model=spark_prmcot", *external(url), "data.max_prompt_length=1536")
        assert "ok" not in stats_of(url)  # no call was paid for
    assert run.returncode == 0, run.text()[-4000:]
    assert run.metrics[-1]["spark/gated"] == run.metrics[-1]["spark/rollouts"]
    assert "no rollout of this step passed the format gate" in run.text()


@pytest.mark.full
@pytest.mark.parametrize(
    "door",
    [
        ("reward.reward_manager.name=spark_prmcot",),
        ("reward.custom_reward_function.path=pkg://verl_spark.rl.reward_function",),
    ],
    ids=["reward manager", "reward function"],
)
def test_the_doors_without_the_preset(train, door):
    with serving() as url:
        settings = [f"+{override}" for override in (*external(url), *ASKED_WHATEVER_IT_WRITES)]
        run = train(*door, *settings)
        assert stats_of(url)["ok"] > 0
    assert run.returncode == 0, run.text()[-4000:]
    for metrics in (metrics for metrics in run.metrics if metrics["step"] > 0):
        balance(metrics)
        assert metrics["spark/scored"] == metrics["spark/rollouts"]


@pytest.mark.full
def test_format_only_needs_no_verifier(train):
    run = train("reward.reward_manager.name=spark_format", "+reward.spark.policy_prompt=as_is")
    assert run.returncode == 0, run.text()[-4000:]
    assert run.metrics[-1]["spark/called"] == 0
