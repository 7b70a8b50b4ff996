"""docs/existing-recipes.md says of each recipe what our checks say of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from tests.prm import made
from tests.recipes.scripts import composed
from verl_spark import markdown
from verl_spark.launch import ESTIMATORS, TRAINER_PREFIX, advice, check, engage
from verl_spark.settings import SettingsError

DOCS = Path(__file__).parents[2] / "docs"
RECIPES: list[dict[str, Any]] = yaml.safe_load((DOCS / "existing-recipes.yaml").read_text())
PAGE = DOCS / "existing-recipes.md"

ADDED = ("reward_model=spark_prmcot", "reward.reward_model.model_path=PRM")
BEFORE = ("actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.actor.use_dynamic_bsz=True")
"""What any recipe has, and the table does not repeat."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with what verl reads of a critic's: tokenizer and architecture."""
    folder = made.base_model(tmp_path_factory.mktemp("model"))
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "architectures": ["Qwen2ForCausalLM"]}))
    return folder


def config_of(recipe: dict[str, Any], *more: str) -> DictConfig:
    return composed([*BEFORE, *recipe["options"], *ADDED, *more], recipe.get("primary", "ppo_trainer"))


def messages(recipe: dict[str, Any]) -> list[str]:
    """Our messages as the data file has them, with the names that it leaves to the code."""
    estimators = [option.partition("=")[2] for option in recipe["options"] if option.startswith("algorithm.adv_est")]
    return [
        text.replace("{estimator}", estimators[0]).replace("{supported}", ", ".join(ESTIMATORS))
        for text in recipe.get("refused", ())
    ]


def table() -> str:
    """The page's table, made of the data file."""
    rows = []
    for recipe in RECIPES:
        primary = [f"`--config-name {recipe['primary']}`"] if "primary" in recipe else []
        options = "<br>".join([*primary, *(f"`{option}`" for option in recipe["options"])])
        said = "works" if "refused" not in recipe else "refused: " + "<br>".join(messages(recipe))
        if cure := recipe.get("cure"):
            said += "<br>works with " + " ".join(f"`{option}`" for option in cure)
        if warnings := recipe.get("advice"):
            said += "; warned: " + "<br>".join(warnings)
        if alone := recipe.get("alone"):
            said += f"; verl's own check is not tested: {alone}"
        rows.append((recipe["recipe"], options, said, recipe["note"]))
    return markdown.table(("recipe", "options", "with `reward_model=spark_prmcot`", ""), rows)


def test_the_page_has_the_table_of_the_data_file() -> None:
    assert table() in PAGE.read_text(), table()


def test_names_are_there_once() -> None:
    names = [recipe["recipe"] for recipe in RECIPES]
    assert len(names) == len({*names})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe["recipe"])
def test_a_recipe_is_accepted_or_refused_as_the_page_says(recipe: dict[str, Any], model: Path) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    path = f"critic.model.path={model}"  # verl's check loads a critic's tokenizer
    config = config_of(recipe, path)
    if refused := messages(recipe):
        with pytest.raises(SettingsError) as caught:
            check(config)
        assert list(caught.value.problems) == refused
        if "cure" not in recipe:
            return
        config = config_of(recipe, path, *recipe["cure"])
    assert list(advice(config)) == recipe.get("advice", [])
    algorithm = OmegaConf.to_container(config.algorithm)
    settings = engage(config)
    assert settings is not None
    assert config.trainer.v1.trainer_mode.startswith(TRAINER_PREFIX)
    assert OmegaConf.to_container(config.algorithm) == algorithm  # the recipe's own
    if "alone" not in recipe:
        validate_config(config, need_reference_policy(config), need_critic(config))


def test_every_estimator_that_verl_has_is_in_the_table() -> None:
    from verl.trainer.ppo.core_algos import AdvantageEstimator

    named = {option.partition("=")[2] for one in RECIPES for option in one["options"] if "adv_estimator=" in option}
    same = {"grpo_vectorized": "grpo", "tir_optimal_token_baseline": "optimal_token_baseline"}
    assert {same.get(estimator.value, estimator.value) for estimator in AdvantageEstimator} == named
