"""Runs the scripts of a recipe dry, and checks each command that they show by the code that would run it."""

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from omegaconf import DictConfig, OmegaConf
from typer.main import get_command

from recipes import problems
from verl_spark import configs
from verl_spark.cli.main import app
from verl_spark.data.config import DataConfig
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.launch import advice, check, engage
from verl_spark.prm import launch as sft
from verl_spark.prm.settings import SftSettings
from verl_spark.runs.config import RunConfig

RECIPES = Path(__file__).parents[2] / "recipes"
FULL, ONE_GPU = RECIPES / "qwen2.5-math-7b", RECIPES / "one-gpu"


@dataclass(frozen=True)
class Command:
    """A command that a script shows."""

    words: tuple[str, ...]

    def behind(self, *words: str) -> list[str] | None:
        """What follows these words at its beginning; None for another command."""
        return list(self.words[len(words) :]) if self.words[: len(words)] == words else None

    @property
    def overrides(self) -> list[str]:
        """Its words of the form KEY=VALUE."""
        return [word for word in self.words if "=" in word and not word.startswith("--")]


def dry(script: Path, *arguments: str, **variables: str) -> list[Command]:
    """The commands of a script in the order in which it would run them; fails with what it says when it fails."""
    environment = {**os.environ, "DRY_RUN": "1", **variables}
    run = subprocess.run(["bash", str(script), *arguments], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return [Command(tuple(shlex.split(line[2:]))) for line in run.stdout.splitlines() if line.startswith("+ ")]


def arms(recipe: Path) -> list[tuple[str, ...]]:
    """The lines of a recipe's table of arms: name, reward model, data, prompts, overrides."""
    lines = (recipe / "arms.txt").read_text().splitlines()
    return [tuple(line.split(maxsplit=4)) for line in lines if line and not line.startswith("#")]


def composed(overrides: Sequence[str], primary: str = "ppo_trainer") -> DictConfig:
    """verl's RL config with these overrides, as its own command line composes it."""
    return configs.composed(primary, overrides)


@cache
def validated(command: Command) -> DictConfig:
    """The config of an RL command after our checks, without any advice, and verl's own; to be read, not changed."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    config = composed(command.overrides)
    assert list(advice(config)) == []
    assert check(config) is not None
    engage(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    OmegaConf.to_container(config, resolve=True)
    return config


def sft_config(command: Command) -> DictConfig:
    """The config of an SFT command, ours or verl's, with the nodes made that verl makes of it."""
    from verl.utils.config import omega_conf_to_dataclass

    kind = (command.behind("verl-spark", "train") or [""])[0]
    config = sft.composed(sft.overrides_of(f"spark_{kind}", command.overrides) if kind else command.overrides)
    if kind:
        SftSettings.from_config(config)
    for node in (config.engine, config.optim, config.checkpoint):
        omega_conf_to_dataclass(node)
    return config


def loaded(model: type[RunConfig]) -> Callable[[Command], RunConfig]:
    """Gives the config of a command that reads one of this class, its options parsed by the command itself."""

    def load(command: Command) -> RunConfig:
        found: Any = get_command(app)
        words = list(command.words[1:])
        while hasattr(found, "commands"):
            found = found.commands[words.pop(0)]
        given = found.make_context(found.name, words).params
        return model.load(given["config"], given["keys"] or ())

    return load


PROBLEMS = typer.Typer()
PROBLEMS.command()(problems.main)


def parsed(command: Command) -> Mapping[str, Any]:
    """The arguments of a command of recipes/problems.py, parsed by the command itself."""
    return get_command(PROBLEMS).make_context("problems.py", list(command.words[2:])).params


CHECKS: Mapping[tuple[str, ...], Callable[[Command], Any]] = {
    **{("python", f"{recipe}/../problems.py"): parsed for recipe in (FULL, ONE_GPU)},
    ("verl-spark", "data"): loaded(DataConfig),
    ("verl-spark", "eval", "processbench"): loaded(EvalConfig),
    ("verl-spark", "eval", "math"): loaded(MathConfig),
    ("verl-spark", "train"): sft_config,
    ("torchrun",): sft_config,
    ("python", "-m", "verl.trainer.main_ppo"): validated,
}
"""How a command is checked, by its first words."""


def checked(command: Command) -> Any:
    """What the check of a command gives. Raises as it does, and `KeyError` for a command that nobody checks."""
    for words, function in CHECKS.items():
        if command.behind(*words) is not None:
            return function(command)
    raise KeyError(shlex.join(command.words))
