"""Fixtures for runs of verl's own command line on the CPU platform."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.verl_run import Run, run_verl
from tests.end_to_end import tiny
from tests.end_to_end.taught import teach_policy
from verl_spark.platforms.cpu.overrides import CPU_OVERRIDES


def recipe(models: tiny.Tiny) -> tuple[str, ...]:
    """A recipe as a user would have it, two GRPO steps of four prompts by four answers, sized for `tiny.make`."""
    return (
        f"data.train_files={models.train}",
        f"data.val_files={models.validation}",
        "data.train_batch_size=4",
        "data.val_max_samples=4",
        "data.max_prompt_length=512",
        "data.max_response_length=32",
        "algorithm.adv_estimator=grpo",
        f"actor_rollout_ref.model.path={models.model}",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
        "actor_rollout_ref.actor.optim.lr=1e-3",
        "critic.ppo_mini_batch_size=4",
        "critic.ppo_micro_batch_size_per_gpu=8",
        f"critic.model.path={models.model}",
        "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
        "actor_rollout_ref.rollout.max_model_len=2048",
        "actor_rollout_ref.rollout.max_num_seqs=16",
        "actor_rollout_ref.rollout.max_num_batched_tokens=2048",
        "trainer.n_gpus_per_node=1",
        "trainer.total_training_steps=2",
        "trainer.val_before_train=False",
        "trainer.test_freq=2",
        "trainer.save_freq=-1",
        "trainer.resume_mode=disable",
    )


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    """The tiny model and its data, made once a session."""
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a policy that writes four steps, right or wrong by the toss of a coin; taught once a session."""
    return teach_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def train(models: tiny.Tiny, tmp_path) -> Callable[..., Run]:
    """`train(*overrides, name=…, watch=…)`: `verl.trainer.main_ppo` with `recipe` and these overrides."""

    def run(*overrides: str, timeout_s: float = 600, **options: object) -> Run:
        checkpoints = f"trainer.default_local_dir={tmp_path}/checkpoints"
        command = (*CPU_OVERRIDES, *recipe(models), checkpoints, *overrides)
        return run_verl(tmp_path, command, timeout_s=timeout_s, **options)

    return run
