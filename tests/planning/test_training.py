"""The plan of a training: verl's own overrides, its steps, and what they ask."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.planning.commands import said
from tests.recipes.scripts import FULL, dry
from verl_spark.planning.engines import of_training
from verl_spark.planning.training import plan_training
from verl_spark.settings import SettingsError

RECIPE = [
    "data.train_batch_size=4",
    "data.max_prompt_length=100",
    "data.max_response_length=200",
    "algorithm.adv_estimator=grpo",
    "actor_rollout_ref.rollout.n=8",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.model.path=policy",
    "reward_model=spark_prmcot",
    "reward.reward_model.model_path=prm",
    "trainer.total_epochs=3",
]


def test_the_papers_training():
    (command,) = dry(FULL / "4_rl.sh")
    found = plan_training(command.overrides, 17_000, {"prompt": 300, "rollout": 700, "verification": 1200})
    assert found.steps == 1650  # 66 whole batches of 256 an epoch, 25 epochs
    rollouts, verifications, update = found.step
    assert rollouts.calls == verifications.calls == 256 * 16
    assert (rollouts.reply_tokens, verifications.reply_tokens) == (4096 * 700, 4096 * 1200)
    assert update.prompt_tokens + update.reply_tokens == 4096 * 1000
    assert [work.calls for work in found.whole()] == [1650 * 4096] * 3
    places = {place.who: (place.gpus, place.utilization) for place in of_training(found.config)}
    assert places == {"policy, rollouts": (2, 0.6), "verifier": (2, 0.6), "policy, training": (8, None)}


def test_lengths_are_the_limits_of_the_config_until_they_are_given():
    rollouts, verifications, _ = plan_training(RECIPE, 10, {}).step
    assert (rollouts.prompt_tokens, rollouts.reply_tokens) == (32 * 100, 32 * 200)
    assert (verifications.prompt_tokens, verifications.reply_tokens) == (32 * 300, 32 * 4096)
    _, verifications, _ = plan_training([*RECIPE, "reward.spark.verifier.max_prompt_tokens=250"], 10, {}).step
    assert verifications.prompt_tokens == 32 * 250


def test_steps_are_counted_as_verl_does(tmp_path):
    pq.write_table(pa.table({"prompt": ["x"] * 10}), tmp_path / "train.parquet")
    given = [*RECIPE, f"data.train_files={tmp_path / 'train.parquet'}"]
    assert plan_training(given, None, {}).steps == 2 * 3
    assert plan_training([*given, "trainer.total_training_steps=4"], None, {}).steps == 4
    assert plan_training([*given, "trainer.total_training_steps=40"], None, {}).steps == 6  # the epochs end before
    assert (
        plan_training([*RECIPE, "data.train_files=gone.parquet", "trainer.total_training_steps=40"], None, {}).steps
        == 40
    )


def test_a_baseline_asks_no_verifier():
    given = [one for one in RECIPE if not one.startswith("reward")]
    assert [work.role for work in plan_training([*given, "reward_model=spark_random"], 10, {}).step] == [
        "policy",
        "trainer",
    ]


@pytest.mark.parametrize(
    ("overrides", "problems", "said"),
    [
        (["data.train_files=gone.parquet"], None, r"gone.parquet is no file that is here; .* --problems N"),
        ([], 3, "data.train_batch_size: 4 is more than the 3 rows there are"),
        (["no.such.key=1"], 10, "no"),
        (["reward.spark.design=orm"], 10, "cannot use the replies of kind=prm_cot"),
    ],
)
def test_what_cannot_be_planned_is_refused(overrides, problems, said):
    with pytest.raises(SettingsError, match=said):
        plan_training([*RECIPE, *overrides], problems, {})


def test_the_command():
    found = said("train", *RECIPE, "--problems", 10, "--rate", "verifier=4096", "--rate", "trainer=100", "--gpus", 2)
    assert "6 steps" in found
    assert "verifications prm 32" in found
    assert "verifications prm 192" in found
    assert "--rate policy=TOKENS" in found
