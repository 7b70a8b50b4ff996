"""A reward model that cannot be woken says which settings made it so."""

import pytest
from omegaconf import OmegaConf

from verl_spark.configs import composed, get
from verl_spark.rl.waking import WakeError, explained

CONFIG = OmegaConf.create(
    {
        "reward": {"reward_model": {"rollout": {"gpu_memory_utilization": 0.6}}},
        "actor_rollout_ref": {
            "actor": {"strategy": "fsdp", "fsdp_config": {"param_offload": False, "optimizer_offload": True}}
        },
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


@pytest.mark.parametrize(
    ("primary", "overrides", "node"),
    [
        ("ppo_trainer", [], "fsdp_config"),
        ("ppo_trainer", ["actor_rollout_ref.actor.strategy=fsdp2"], "fsdp_config"),
        ("ppo_megatron_trainer", [], "megatron"),
        ("ppo_trainer", ["model_engine=veomni"], "veomni"),
    ],
)
def test_the_settings_are_those_of_the_strategy(primary: str, overrides: list[str], node: str) -> None:
    config = composed(primary, overrides)

    def wake() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(WakeError) as caught:
        explained(wake, config)()
    for key in (f"actor_rollout_ref.actor.{node}.{name}_offload" for name in ("param", "optimizer")):
        assert f"{key}=True" in str(caught.value)
        assert get(config, key) is False


def test_a_wake_up_that_works_is_let_be() -> None:
    woken: list[bool] = []
    explained(lambda: woken.append(True), CONFIG)()
    assert woken == [True]
