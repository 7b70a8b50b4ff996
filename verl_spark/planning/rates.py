"""How fast a model works: rates that were measured here (`rates.yaml`), rates of the user, and GPU hours by them."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from verl_spark.planning.work import Training, Work
from verl_spark.settings import Node, SettingsError, messages


class Rate(Node):
    """How fast some GPUs work with a model."""

    model: str
    """Its name; of a folder or a hub id the last part counts."""
    role: Training | None = None
    """Null: an engine that writes replies. `sft`: the training of a reward model. `rl`: that of a policy, which is
    log-probabilities, reference and update."""
    machine: str
    """The GPU's name."""
    precision: str = "bfloat16"
    """Of the computation."""
    gpus: PositiveInt = 1
    """On how many of them it was measured, together."""
    reply_tokens_per_s: float = Field(gt=0, allow_inf_nan=False)
    """Tokens of replies a second on the clock, over all requests under way; of a training, all tokens of its rows."""
    prompt_tokens_per_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Tokens of prompts a second, where their time comes on top; null if it is in the other rate. A training takes
    prompts at the pace of replies."""
    source: str
    """Report or run that it comes from."""
    note: str = ""
    """What a reader must know of the circumstances."""

    def gpu_hours(self, work: Work) -> float:
        """GPU hours of some work at this rate, as if more GPUs did more in proportion."""
        seconds = work.reply_tokens / self.reply_tokens_per_s
        prompts = self.prompt_tokens_per_s or (self.reply_tokens_per_s if work.training else None)
        if prompts is not None:
            seconds += work.prompt_tokens / prompts
        return seconds * self.gpus / 3600


@cache
def shipped() -> tuple[Rate, ...]:
    """The rates that were measured here."""
    return _rates(yaml.safe_load(files("verl_spark.planning").joinpath("rates.yaml").read_text()), "rates.yaml")


def read_rates(path: Path) -> tuple[Rate, ...]:
    """The rates of a user's file, in the form of `rates.yaml`. Raises `SettingsError` with a line for each fault."""
    try:
        return _rates(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"--rates {path}: {error}"]) from None


def given_rate(role: str, tokens_per_s: float) -> Rate:
    """A rate that a user typed for a role: tokens a second of one GPU."""
    return Rate(
        model="any",
        machine="yours",
        reply_tokens_per_s=tokens_per_s,
        source=f"--rate {role}={tokens_per_s:g}",
    )


def find(work: Work, machine: str | None, rates: Sequence[Rate]) -> Rate | None:
    """The first rate of a work's model in its role, on a machine whose name holds `machine` where one is named."""
    wanted = (machine or "").lower()
    fitting = (rate for rate in rates if _name(rate.model) == _name(work.model) and rate.role == work.training)
    return next((rate for rate in fitting if wanted in rate.machine.lower()), None)


def _name(model: str) -> str:
    return model.rstrip("/").rpartition("/")[2]


def _rates(plain: Any, place: str) -> tuple[Rate, ...]:
    if not isinstance(plain, list):
        raise SettingsError([f"{place}: not a list of rates; each begins with `- model: NAME`"])
    try:
        return TypeAdapter(tuple[Rate, ...]).validate_python(tuple(plain))
    except ValidationError as error:
        raise SettingsError([f"{place}: rate {line}" for line in messages(error, Rate)]) from None
