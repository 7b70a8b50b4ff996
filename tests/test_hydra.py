"""`reward_model=spark_…` on verl's own configs, copies of them and recipes that inherit one."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from verl_spark.rewards.designs import DESIGNS
from verl_spark.settings import MANAGERS, SparkSettings

_VERL = find_spec("verl")
assert _VERL is not None
assert _VERL.submodule_search_locations
VERL_CONFIG = Path(_VERL.submodule_search_locations[0]) / "trainer" / "config"

PRESETS = tuple(MANAGERS)
VERIFIER_DESIGNS = [name for name, design in DESIGNS.items() if design.asks_verifier]
DESIGN_PRESETS = {f"spark_prmcot_{name}": name for name in VERIFIER_DESIGNS if name not in ("orm", "process_aware")}
"""Each design that is not a preset's default has one of its own."""
PRIMARIES = [
    ("ppo_trainer", []),
    ("ppo_megatron_trainer", []),
    ("ppo_trainer", ["model_engine=torchtitan"]),
    ("ppo_trainer", ["model_engine=veomni"]),
]
RECIPE = ["data.train_batch_size=64", "algorithm.adv_estimator=grpo", "actor_rollout_ref.rollout.n=8"]


def composed(folder: Path, name: str, overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(folder), version_base=None):
        return compose(name, overrides)


def plain(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def changed(before: DictConfig, after: DictConfig) -> set[str]:
    """Top-level nodes that differ."""
    old, new = plain(before), plain(after)
    return {key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...)}


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """Recipe name to the folder and name of its primary config."""
    tmp_path = tmp_path_factory.mktemp("recipes")
    body = "\nreward:\n  reward_manager:\n    name: dapo\ndata:\n  train_batch_size: 3\n"
    copy = tmp_path / "copy"
    shutil.copytree(VERL_CONFIG, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    text = (copy / "ppo_trainer.yaml").read_text(encoding="utf-8")
    write(copy, "renamed", text.replace("train_batch_size: 1024", "train_batch_size: 5"))
    write(copy, "in_the_copy", f"defaults:\n  - ppo_trainer\n  - _self_\n{body}")
    write(copy, "late_override", text.replace("  - _self_\n", "  - _self_\n  - override model_engine: veomni\n", 1))
    path = "hydra:\n  searchpath:\n    - {}\ndefaults:\n  - {}\n  - _self_\n" + body
    write(copy, "inherited_copy", f"defaults:\n  - renamed\n  - _self_\n{body}")
    apart = tmp_path / "apart"
    write(apart, "by_package", path.format("pkg://verl.trainer.config", "ppo_trainer"))
    write(apart, "by_file", path.format(f"file://{copy}", "renamed"))
    write(apart, "by_file_own_ppo_trainer", path.format(f"file://{copy}", "ppo_trainer"))
    write(apart, "base", "defaults:\n  - ppo_trainer\n  - _self_\n")
    write(apart, "over_two_levels", path.format(f"file://{VERL_CONFIG}", "base"))
    megatron = path.replace("  - _self_\n", "  - override model_engine: megatron\n  - _self_\n")
    write(apart, "with_override", megatron.format(f"file://{VERL_CONFIG}", "ppo_trainer"))
    here = ("renamed", "in_the_copy", "late_override", "inherited_copy", "ppo_trainer", "ppo_megatron_trainer")
    there = ("by_package", "by_file", "by_file_own_ppo_trainer", "over_two_levels", "with_override")
    return {name: (copy, name) for name in here} | {name: (apart, name) for name in there}


RECIPES = (
    *("renamed", "in_the_copy", "late_override", "inherited_copy", "ppo_trainer", "ppo_megatron_trainer"),
    *("by_package", "by_file", "by_file_own_ppo_trainer", "over_two_levels", "with_override"),
)


@pytest.mark.parametrize(
    ("name", "engine", "preset"),
    [*((name, engine, "spark_prmcot") for name, engine in PRIMARIES), *(("ppo_trainer", [], name) for name in PRESETS)],
)
def test_a_preset_adds_rewards_to_an_unmodified_recipe_and_nothing_else(
    name: str, engine: list[str], preset: str
) -> None:
    before = composed(VERL_CONFIG, name, [*engine, *RECIPE])
    after = composed(VERL_CONFIG, name, [*engine, *RECIPE, f"reward_model={preset}"])
    assert after.reward.reward_manager.name == preset
    assert SparkSettings.from_config(after.reward.spark) == SparkSettings.from_config(None, preset)
    assert changed(before, after) == {"reward"}


@pytest.mark.parametrize(("preset", "design"), DESIGN_PRESETS.items())
def test_each_design_is_one_name_and_changes_the_design_alone(preset: str, design: str) -> None:
    default, chosen = (
        composed(VERL_CONFIG, "ppo_trainer", [*RECIPE, f"reward_model={name}"]) for name in ("spark_prmcot", preset)
    )
    assert chosen.reward.spark.design == design
    chosen.reward.spark.design = default.reward.spark.design
    assert plain(chosen) == plain(default)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_users_copy_and_an_inheriting_recipe_take_the_preset(
    recipes: dict[str, tuple[Path, str]], recipe: str
) -> None:
    folder, name = recipes[recipe]
    before = composed(folder, name, [])
    after = composed(folder, name, ["reward_model=spark_prmcot"])
    assert changed(before, after) == {"reward"}
    assert "spark" not in before.reward
    assert after.reward.spark.verifier.kind == "prm_cot"


@pytest.mark.parametrize("recipe", ["by_file", "with_override", "over_two_levels", "in_the_copy", "inherited_copy"])
def test_the_chosen_preset_wins_over_the_recipes_own_file(recipes: dict[str, tuple[Path, str]], recipe: str) -> None:
    assert composed(*recipes[recipe], []).reward.reward_manager.name == "dapo"
    assert composed(*recipes[recipe], ["reward_model=spark_prm"]).reward.reward_manager.name == "spark_prm"


def test_a_search_path_from_the_command_line_serves_as_well(tmp_path: Path) -> None:
    folder = write(tmp_path, "recipe", "defaults:\n  - ppo_trainer\n  - _self_\n")
    path = ["hydra.searchpath=[pkg://verl.trainer.config]"]
    assert composed(folder, "recipe", [*path, "reward_model=spark_orm"]).reward.spark.design == "orm"


def test_the_command_line_wins_over_the_preset() -> None:
    overrides = [
        "reward_model=spark_prmcot",
        "reward.spark.verifier.kind=think_prm",
        "reward.spark.verifier.base_urls=[http://a/v1,http://b/v1]",
        "reward.reward_model.rollout.response_length=9000",
        "reward.reward_manager.name=spark_format",
    ]
    reward = composed(VERL_CONFIG, "ppo_trainer", overrides).reward
    assert reward.spark.verifier.kind == "think_prm"
    assert reward.spark.verifier.base_urls == ["http://a/v1", "http://b/v1"]
    assert reward.reward_model.rollout.response_length == 9000
    assert reward.reward_manager.name == "spark_format"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_shows_every_setting_with_its_default(preset: str) -> None:
    node = plain(composed(VERL_CONFIG, "ppo_trainer", [f"reward_model={preset}"]).reward.spark)
    defaults = SparkSettings().to_node()
    kind = MANAGERS[preset].kind
    assert node["design"] == MANAGERS[preset].design
    assert node["verifier"]["kind"] == (kind.value if kind else defaults["verifier"]["kind"])
    node["design"], node["verifier"]["kind"] = defaults["design"], defaults["verifier"]["kind"]
    assert node == defaults


def test_a_misspelt_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(MissingConfigException) as caught:
        composed(VERL_CONFIG, "ppo_trainer", ["reward_model=spark_prmkot"])
    listed = str(caught.value).split("Available options in 'reward_model':")[1].split("Config search path")[0]
    assert listed.split() == sorted([*PRESETS, *DESIGN_PRESETS, "spark_rlvr_ungated"])


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ConfigCompositionException, match=r"reward\.spark\.desing"):
        composed(VERL_CONFIG, "ppo_trainer", ["reward_model=spark_orm", "reward.spark.desing=orm"])


def test_an_application_without_verls_configs_is_left_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, "app", "defaults:\n  - part\n  - _self_\nreward_model: mine\n")
    write(tmp_path, "part", "x: 1\n")
    assert plain(composed(folder, "app", ["x=2"])) == {"x": 2, "reward_model": "mine"}


COMPOSE_ALL = """
import sys
if sys.argv[1] == "without":
    sys.modules["hydra_plugins"] = None  # as if the plugin were not installed
import json
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
texts = []
for folder, name, overrides in json.loads(sys.stdin.read()):
    with initialize_config_dir(folder, version_base=None):
        texts.append(OmegaConf.to_yaml(compose(name, overrides)))
found = any("verl_spark" in plugin.__module__ for plugin in Plugins.instance().discover())
heavy = sorted({"verl", "torch", "ray"} & set(sys.modules))
print(json.dumps({"found": found, "heavy": heavy, "texts": texts}))
"""


def test_without_the_override_the_config_is_the_same_to_the_byte(recipes: dict[str, tuple[Path, str]]) -> None:
    # In processes of their own: Hydra scans for plugins once. Without `by_package`, for which Hydra imports verl.
    jobs = [[str(VERL_CONFIG), name, [*engine, *RECIPE]] for name, engine in PRIMARIES]
    jobs += [[str(folder), name, []] for name, (folder, _) in recipes.items() if name != "by_package"]
    with_plugin, without = (compose_all(mode, jobs) for mode in ("with", "without"))
    assert (with_plugin["found"], without["found"]) == (True, False)
    assert with_plugin["texts"] == without["texts"]
    assert with_plugin["heavy"] == []


def compose_all(mode: str, jobs: list[Any]) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-c", COMPOSE_ALL, mode],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_verls_own_command_shows_the_node(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "verl.trainer.main_ppo", *RECIPE, "reward_model=spark_prm", "--cfg", "job"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, cwd=tmp_path).stdout
    job = yaml.safe_load(shown[shown.index("actor_rollout_ref:") :])
    assert job["reward"]["spark"] == SparkSettings.from_config(None, "spark_prm").to_node()
    assert job["algorithm"]["adv_estimator"] == "grpo"
    assert "hydra" not in job
