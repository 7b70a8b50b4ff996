"""Another reward for a GRPO recipe that works: which keys of verl's config change, and how.

    python -m examples.swap_reward                        # the recipe and the swap below
    python -m examples.swap_reward -- OVERRIDES           # a recipe of your own, as `verl.trainer.main_ppo` takes it
    python -m examples.swap_reward --swap reward_model=spark_prm --swap reward.reward_model.model_path=PRM -- OVERRIDES

It prints `KEY: OLD, now NEW` (None: not there) and trains nothing; with `--run` it starts verl's own command line
instead. A swap that cannot work is refused, with the cure, just as the training would refuse it."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from verl_spark.launch import SettingsError, engage
from verl_spark.settings import differences

RECIPE = [
    "algorithm.adv_estimator=grpo",
    "data.train_files=data/gsm8k/train.parquet",
    "data.val_files=data/gsm8k/test.parquet",
    "actor_rollout_ref.model.path=Qwen/Qwen2.5-1.5B-Instruct",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.n=8",
]
SWAP = ["reward_model=spark_prmcot", "reward.reward_model.model_path=outputs/prm_cot"]
Overrides, Flag = Annotated[list[str], typer.Argument()], Annotated[bool, typer.Option("--run")]


def main(recipe: Overrides = RECIPE, swap: list[str] = SWAP, run: Flag = False) -> None:
    """Show what the overrides `swap` change in a recipe's config; with `--run`, train."""
    if run:
        sys.exit(subprocess.call([sys.executable, "-m", "verl.trainer.main_ppo", *recipe, *swap]))
    try:
        print(*changes(recipe, swap), sep="\n")
    except (SettingsError, HydraException) as error:
        sys.exit(str(error))


def changes(recipe: list[str], swap: list[str]) -> list[str]:
    """What `swap` changes in the config that verl trains with. Raises `SettingsError` or Hydra's error."""
    before, after = composed(recipe), composed([*recipe, *swap])
    engage(after)  # as the training does before Ray starts: some of verl's keys follow from ours
    old, new = OmegaConf.to_container(before), OmegaConf.to_container(after)
    old["reward"]["spark"] = {"verifier": {}, "suspects": {}}  # so that each of our settings gets a line of its own
    return differences(old, new)


def composed(overrides: list[str]) -> Any:
    """verl's config under these overrides, as its command line composes it."""
    verl = Path(find_spec("verl").submodule_search_locations[0])  # importing it would take seconds
    with initialize_config_dir(str(verl / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer", overrides)


if __name__ == "__main__":
    typer.run(main)
