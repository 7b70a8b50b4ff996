"""A colocated reward model that cannot be woken: where that comes from, said instead of an engine's last words."""

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

_UTILIZATION = "reward.reward_model.rollout.gpu_memory_utilization"
_ACTOR = "actor_rollout_ref.actor"
_OFFLOAD = ("param_offload", "optimizer_offload")


class WakeError(RuntimeError):
    """The reward model's engine did not come back; the cause says what the engine said."""


def explained(wake: Callable[[], None], config: DictConfig) -> Callable[[], None]:
    """`wake` of verl's reward model manager, raising `WakeError` with the settings to change where it fails.

    What the engine takes back at its wake-up was given to it when the GPU was still empty; since then the policy's
    weights and optimizer have moved in (verl: `RewardModelManager.wake_up`, called in `compute_rm_score`)."""

    def told() -> None:
        try:
            wake()
        except Exception as error:
            engine = _training_engine(config)
            kept = [f"{engine}.{key}=True" for key in _OFFLOAD if not OmegaConf.select(config, f"{engine}.{key}")]
            offload = f"set {' and '.join(kept)}, " if kept else ""
            raise WakeError(
                f"the reward model could not be woken beside the policy: {type(error).__name__}: {error}\nIf its log "
                f"says out of memory, the policy's training state fills what it left: {offload}lower {_UTILIZATION} "
                f"(now {OmegaConf.select(config, _UTILIZATION)}), or give it GPUs of its own with "
                "reward.spark.serving=pool or external"
            ) from error

    return told


def _training_engine(config: DictConfig) -> str:
    """Where the offloading of the policy's training is set: one node for both kinds of FSDP, one for each other."""
    strategy = str(OmegaConf.select(config, f"{_ACTOR}.strategy"))
    return f"{_ACTOR}.{'fsdp_config' if strategy.startswith('fsdp') else strategy}"
