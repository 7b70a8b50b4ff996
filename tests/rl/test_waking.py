"""A reward model that cannot be woken says which settings made it so."""

import pytest
from omegaconf import OmegaConf

from verl_spark.rl.waking import WakeError, explained

CONFIG = OmegaConf.create(
    {
        "reward": {"reward_model": {"rollout": {"gpu_memory_utilization": 0.6}}},
        "actor_rollout_ref": {"actor": {"fsdp_config": {"param_offload": False, "optimizer_offload": True}}},
    }
)


def test_the_failure_names_the_settings_that_make_room() -> None:
    cause = RuntimeError("CUDA Error: out of memory")

    def wake() -> None:
        raise cause

    with pytest.raises(WakeError) as caught:
        explained(wake, CONFIG)()
    said = str(caught.value)
    assert caught.value.__cause__ is cause
    assert "out of memory" in said
    assert "actor_rollout_ref.actor.fsdp_config.param_offload=True" in said
    assert "optimizer_offload" not in said  # it is on already
    assert "gpu_memory_utilization (now 0.6)" in said
    assert "reward.spark.serving=pool" in said


def test_a_wake_up_that_works_is_let_be() -> None:
    woken: list[bool] = []
    explained(lambda: woken.append(True), CONFIG)()
    assert woken == [True]
