"""What a Stage I run that was made says of the next one: tokens of a prompt and of a reply, and its pace."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.cost import by_stage
from verl_spark.planning.rates import Rate
from verl_spark.runs.config import CONFIG_FILE
from verl_spark.runs.cost import wall_seconds
from verl_spark.runs.store import Store
from verl_spark.settings import SettingsError


@dataclass(frozen=True)
class Earlier:
    """Measured on an earlier run, for stages of which it made calls."""

    replies: Mapping[str, int]
    """Mean tokens of a reply by stage."""
    prompts: Mapping[str, int]
    """Mean tokens of a prompt by stage."""
    rate: Rate
    """Over all its stages together, whatever their models: journals know no time on the clock by stage."""


def read_earlier(folder: Path, config: DataConfig) -> Earlier:
    """What the run in `folder` says of `config`.

    Raises `SettingsError` if no run is there, if it has made no call, or if a model in it is another one than in
    `config`: its replies have other lengths."""
    stored = folder / CONFIG_FILE
    if not stored.exists():
        cure = "name the output folder of a `verl-spark data` run"
        raise SettingsError([f"--like {folder}: no run is there ({CONFIG_FILE} is missing); {cure}"])
    made = DataConfig.load(stored)
    old, new = models_of(made), models_of(config)
    faults = [
        f"--like {folder}: its {role} is {old[role]}, and here it is {new[role]}; measure a small run of this config"
        for role in new
        if old[role] != new[role]
    ]
    if faults:
        raise SettingsError(faults)
    with Store(folder, STAGES) as store:
        spent = {stage: cost for stage, cost in by_stage(store).items() if cost.calls}
    seconds = wall_seconds(folder)
    if not spent or not seconds:
        raise SettingsError([f"--like {folder}: no call has been made there; run it on a few problems first"])
    asked = {"generate": made.generator.n, "verify": made.verifier.n}
    if made.references:
        asked["reference"] = made.references.n
    gpus = made.prices.gpus
    return Earlier(
        replies={stage: round(cost.completion_tokens / cost.calls) for stage, cost in spent.items()},
        prompts={stage: round(cost.prompt_tokens * asked.get(stage, 1) / cost.calls) for stage, cost in spent.items()},
        rate=Rate(
            model="all",
            machine=f"{gpus} x its GPU (prices.gpus)",
            gpus=gpus,
            reply_tokens_per_s=sum(cost.completion_tokens for cost in spent.values()) / seconds,
            source=f"{folder}, all stages together",
        ),
    )


def models_of(config: DataConfig) -> dict[str, str]:
    """Model by role."""
    return {
        "generator": config.generator.engine.model,
        "verifier": config.verifier.engine.model,
        "critic": config.critic_engine.model,
    }
