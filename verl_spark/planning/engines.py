"""Which engines and trainings of a config take GPU memory, and how much of how many GPUs."""

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import DictConfig

from verl_spark.configs import get
from verl_spark.data.config import DataConfig
from verl_spark.launch import check
from verl_spark.settings import SparkSettings
from verl_spark.verifier.engine import EngineSettings

UTILIZATION = 0.9
"""Share of a GPU that an engine takes where its config does not say; vLLM's own default differs between releases."""


@dataclass(frozen=True)
class Place:
    """A model on GPUs."""

    who: str
    model: str
    gpus: int
    """Of one copy."""
    utilization: float | None
    """Share of a GPU's memory that an engine may take; None for the states of a training."""


def of_stage1(config: DataConfig) -> Iterator[Place]:
    """The engines of a Stage I run that we start ourselves, each once; servers have memory of their own."""
    seen: list[EngineSettings] = []
    roles = {"generator": config.generator.engine, "verifier": config.verifier.engine}
    if any(method.refined for method in config.chosen):
        roles["critic"] = config.critic_engine
    for role, engine in roles.items():
        if engine.kind != "server" and engine not in seen:
            seen.append(engine)
            yield Place(role, engine.model, engine.gpus, float(engine.vllm.get("gpu_memory_utilization", UTILIZATION)))


def of_training(config: DictConfig) -> Iterator[Place]:
    """Rollout engine, verifier (unless it is external) and the policy's training states, of a checked config."""
    policy = str(get(config, "actor_rollout_ref.model.path"))
    yield _engine(config, "policy, rollouts", policy, "actor_rollout_ref.rollout")
    settings = check(config)
    if _serves(settings):
        model = str(get(config, "reward.reward_model.model_path"))
        yield _engine(config, "verifier", model, "reward.reward_model.rollout")
    yield _training(config, "policy, training", policy)


def of_sft(config: DictConfig) -> Iterator[Place]:
    """The training states of a reward model."""
    yield _training(config, "reward model, training", str(get(config, "model.path")))


def _serves(settings: SparkSettings | None) -> bool:
    return settings is not None and settings.asks_verifier and settings.serving != "external"


def _engine(config: DictConfig, who: str, model: str, node: str) -> Place:
    gpus = get(config, f"{node}.tensor_model_parallel_size")
    return Place(who, model, gpus, get(config, f"{node}.gpu_memory_utilization"))


def _training(config: DictConfig, who: str, model: str) -> Place:
    return Place(who, model, get(config, "trainer.nnodes") * get(config, "trainer.n_gpus_per_node"), None)
