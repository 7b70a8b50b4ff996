"""What is refused before anything starts, and what follows from `reward.spark` for verl's own keys."""

import copy
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from verl_spark import launch
from verl_spark.launch import SettingsError, SparkCallback, advice, check, engage, prepare, spark_door
from verl_spark.settings import MANAGERS, SparkSettings
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.identity import FILE, Identity

_VERL = find_spec("verl")
assert _VERL is not None
assert _VERL.submodule_search_locations
VERL_CONFIG = Path(_VERL.submodule_search_locations[0]) / "trainer" / "config"

BASELINES = ("format", "rlvr", "random", "majority")

Changes = dict[str, Any]
RECIPE: Changes = {
    "algorithm.adv_estimator": "grpo",
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.name": "vllm",
}
MODEL: Changes = {"reward.reward_model.model_path": "a/prm"}
EXTERNAL: Changes = {
    "reward.spark.serving": "external",
    "reward.spark.verifier.base_urls": ["http://a:8000/v1"],
    "reward.spark.verifier.model": "prm",
}
MANAGER: Changes = {"reward.reward_manager.name": "spark_prmcot"}
FUNCTION: Changes = {"reward.custom_reward_function.path": "pkg://verl_spark.rl.reward_function"}
OVERLONG: Changes = {"reward.spark.overlong_buffer.enable": True, "reward.spark.overlong_buffer.len": 64}
COLOCATE: Changes = {"reward.spark.serving": "colocate"}


def changed(config: DictConfig, *changes: Changes) -> DictConfig:
    config = copy.deepcopy(config)
    for change in changes:
        for key, value in change.items():
            OmegaConf.update(config, key, value, merge=False, force_add=True)
    return config


def _composed(overrides: list[str]) -> DictConfig:
    with initialize_config_dir(str(VERL_CONFIG), version_base=None):
        return changed(compose("ppo_trainer", overrides), RECIPE)


@pytest.fixture(scope="module")
def recipe() -> DictConfig:
    """A recipe that names none of our doors."""
    return _composed([])


@pytest.fixture(scope="module")
def preset() -> DictConfig:
    """The same with `reward_model=spark_prmcot` and a model."""
    return changed(_composed(["reward_model=spark_prmcot"]), MODEL)


def refusal(config: DictConfig) -> list[str]:
    before = copy.deepcopy(config)
    with pytest.raises(SettingsError) as caught:
        engage(config)
    assert config == before  # a refused config is left as it was
    return list(caught.value.problems)


def test_a_recipe_without_our_doors_is_not_touched(recipe: DictConfig) -> None:
    config = copy.deepcopy(recipe)
    assert spark_door(config) is None
    assert check(config) is None
    assert engage(config) is None
    assert config == recipe


@pytest.mark.parametrize("doors", [MANAGER, FUNCTION], ids=["manager", "function"])
def test_two_doors_work_without_the_preset(recipe: DictConfig, doors: Changes) -> None:
    config = changed(recipe, doors, MODEL)
    settings = engage(config)
    assert settings == SparkSettings()
    assert SparkSettings.from_config(config.reward.spark) == settings
    assert OmegaConf.to_container(config.reward.spark) == SparkSettings().to_node()


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_managers_name_selects_design_and_kind(recipe: DictConfig, manager: str) -> None:
    config = changed(recipe, MODEL, {"reward.reward_manager.name": manager})
    assert engage(config) == SparkSettings.from_config(None, manager)


def test_any_estimator_that_is_named_as_supported_is_accepted(preset: DictConfig) -> None:
    for name in launch.ESTIMATORS:
        assert check(changed(preset, {"algorithm.adv_estimator": name})) is not None


def case(*changes: Changes, says: tuple[str, ...], name: str) -> Any:
    return pytest.param(changes, says, id=name)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        case(
            {"reward.reward_model.model_path": None},
            says=("reward.reward_model.model_path", "serving=external"),
            name="no model",
        ),
        case(
            {"reward.reward_model.model_path": None, "reward_model.model.path": "old/prm"},
            says=("reward.reward_model.model_path", "reward_model.model.path=old/prm"),
            name="model under the old key",
        ),
        case({"trainer.use_v1": False}, says=("trainer.use_v1=False", "leave the option out"), name="v0"),
        case({"async_training": {"x": 1}}, says=("async_training", "main_ppo"), name="fully async"),
        case(
            {"trainer.v1.trainer_mode": "separate_async"},
            says=("trainer_mode=separate_async", "sync or colocate_async"),
            name="separate_async",
        ),
        case({"trainer.v1.trainer_mode": "mine"}, says=("trainer_mode=mine", "colocate_async"), name="own trainer"),
        case(
            {"algorithm.filter_groups.enable": True},
            says=("algorithm.filter_groups.enable=True", "False"),
            name="group filter",
        ),
        case({"algorithm.adv_estimator": "remax"}, says=("adv_estimator=remax", "grpo"), name="remax"),
        case({"algorithm.adv_estimator": "gdpo"}, says=("adv_estimator=gdpo", "rloo"), name="gdpo"),
        case(
            {"reward.reward_model.rollout.skip_tokenizer_init": True},
            says=("skip_tokenizer_init=True", "False"),
            name="no tokenizer",
        ),
        case(
            {"reward.spark.verifier.max_tokens": 5000},
            says=("reward.spark.verifier.max_tokens=5000", "response_length=4096"),
            name="reply too long",
        ),
        case(
            {"reward.reward_model.rollout.max_model_len": 4096},
            says=("max_model_len=4096", "reward.spark.verifier.max_tokens"),
            name="no room for the prompt",
        ),
        case(
            {"reward.reward_model.enable": True},
            says=("enable_resource_pool=False", "serving=pool", "serving=colocate"),
            name="pool and colocated",
        ),
        case(
            COLOCATE,
            {"reward.reward_model.enable_resource_pool": True},
            says=("enable_resource_pool=True", "serving=colocate", "serving=pool"),
            name="colocate and pool",
        ),
        case(
            EXTERNAL,
            {"reward.reward_model.enable": True},
            says=("reward.reward_model.enable=True", "serving=external"),
            name="external and served here",
        ),
        case(
            EXTERNAL,
            {"reward.reward_model.enable_resource_pool": True},
            says=("enable_resource_pool=True", "serving=external"),
            name="external and pool",
        ),
        case(
            COLOCATE,
            FUNCTION,
            {"reward.reward_manager.name": "naive"},
            says=("reward.reward_manager.name=naive", "serving=pool"),
            name="colocate under a manager that reads ground truth",
        ),
        case(
            {"reward.reward_manager.name": "spark_prmkot"},
            says=("spark_prmkot", "spark_prmcot"),
            name="misspelt manager",
        ),
        case(
            {"reward.reward_manager.name": "spark_orm"},
            says=("verifier.kind=prm_cot", "reward.reward_manager.name=spark_prmcot"),
            name="manager of another kind",
        ),
        case(
            {"reward.reward_manager.name": "naive", "reward.custom_reward_function.path": "mine.py"},
            says=("reward.spark", "naive", "mine.py"),
            name="both doors closed",
        ),
        case(
            {"reward.custom_reward_function.name": "other"},
            says=("custom_reward_function.name=other", "compute_score"),
            name="another function",
        ),
        case(
            {"reward.reward_model.n_gpus_per_node": 3},
            says=("n_gpus_per_node=3", "tensor_model_parallel_size=2"),
            name="GPUs do not divide",
        ),
        case(
            {"reward.reward_model.n_gpus_per_node": 0},
            says=("reward.reward_model.n_gpus_per_node=0", "0 GPUs"),
            name="empty pool",
        ),
        case(
            COLOCATE,
            {"trainer.n_gpus_per_node": 1, "actor_rollout_ref.rollout.tensor_model_parallel_size": 1},
            says=("trainer.n_gpus_per_node=1", "the reward model gets 1", "tensor_model_parallel_size=2"),
            name="colocated on too few GPUs",
        ),
        case(
            {"trainer.n_gpus_per_node": 3, "trainer.nnodes": 3},
            says=(
                "trainer.n_gpus_per_node=3 and nnodes=3: the policy gets 9 GPUs",
                "the 2 that one replica takes",
                "actor_rollout_ref.rollout: tensor_model_parallel_size=2",
            ),
            name="GPUs do not divide among the policy's replicas",
        ),
        case(
            {"trainer.nnodes": 0},
            says=("trainer.n_gpus_per_node=8 and nnodes=0: the policy gets 0 GPUs", "change either"),
            name="all nodes given to the pool",
        ),
        case(
            {"reward.reward_manager.name": "spark_rlvr", "reward.spark.design": "rlvr"},
            {"trainer.n_gpus_per_node": 1},
            says=("trainer.n_gpus_per_node=1", "the policy gets 1 GPUs"),
            name="the policy of a baseline on too few GPUs",
        ),
        case(
            {"reward.spark.design": "selective", "algorithm.adv_estimator": "rloo"},
            says=("adv_estimator=rloo", "design=selective", "algorithm.adv_estimator=grpo", "design=process_aware"),
            name="an estimator that reads no steps",
        ),
        case(
            {"reward.spark.design": "global_step", "algorithm.adv_estimator": "gdpo"},
            says=("adv_estimator=gdpo", "algorithm.adv_estimator=grpo"),
            name="an unknown estimator for steps",
        ),
        case(
            {"reward.spark.design": "selective", "algorithm.use_kl_in_reward": True},
            says=("algorithm.use_kl_in_reward=True", "use_kl_loss=True"),
            name="steps and KL in the reward",
        ),
        case(
            {"reward.spark.design": "selective_half", "critic.enable": True},
            says=("critic.enable=True", "leave the option out"),
            name="steps and a critic",
        ),
        case(
            {"reward.spark.design": "selective", "reward.reward_manager.name": "naive"},
            says=("design=selective", "token ids", "reward.reward_manager.name=spark_prmcot"),
            name="steps without token ids",
        ),
        case(
            {"reward.spark.design": "selective", "reward.spark.verifier.kind": "orm"},
            MANAGER,
            says=("reward.spark.verifier.kind", "design=selective", "prm_cot"),
            name="steps from an ORM",
        ),
        case(
            {"reward.spark.design": "tests.test_launch:NO_SOLUTION_FITS"},
            says=("reward.spark.design", "NO_SOLUTION_FITS"),
            name="no such design in a module",
        ),
        case({"reward.spark.design": "nope"}, says=("reward.spark.design", "process_aware"), name="unknown design"),
        case(
            {"reward.reward_manager.name": "spark_format"},
            says=("spark_format", "reward.spark.design=process_aware", "reward_model=spark_format"),
            name="a manager that would override the design",
        ),
        case(
            {"reward.spark.design": "majority", "actor_rollout_ref.rollout.n": 2},
            says=("rollout.n=2", "design=majority", "raise n"),
            name="two voters",
        ),
        case(
            FUNCTION,
            {"reward.reward_manager.name": "naive", "reward.spark.design": "random"},
            says=("design=random", "reward.custom_reward_function.path"),
            name="a baseline by the reward function",
        ),
        case(
            FUNCTION,
            OVERLONG,
            {"reward.reward_manager.name": "naive"},
            says=("overlong_buffer.enable=True", "reward.custom_reward_function.path"),
            name="the overlong penalty by the reward function",
        ),
        case(
            OVERLONG,
            {"data.max_response_length": 50},
            says=("overlong_buffer.len=64", "data.max_response_length=50"),
            name="a buffer longer than the response",
        ),
        case({"reward_model": "spark_prmcot"}, says=("reward_model=spark_prmcot", "Install"), name="no Hydra plugin"),
    ],
)
def test_what_cannot_work_is_refused_with_the_option_and_the_cure(
    preset: DictConfig, changes: tuple[Changes, ...], says: tuple[str, ...]
) -> None:
    problems = refusal(changed(preset, *changes))
    assert len(problems) == 1
    assert [text for text in says if text not in problems[0]] == []


def test_all_problems_come_in_one_message(preset: DictConfig) -> None:
    config = changed(preset, {"trainer.use_v1": False, "algorithm.adv_estimator": "gdpo"}, {**MODEL, **COLOCATE})
    config.reward.reward_model.model_path = None
    assert len(refusal(config)) == 3


def test_a_pooled_verifier_gets_gpus_and_stays_awake(preset: DictConfig) -> None:
    config = changed(preset)
    engage(config)
    model = config.reward.reward_model
    assert (model.enable, model.enable_resource_pool, model.nnodes) == (True, True, 1)
    assert model.rollout.free_cache_engine is False


def test_the_size_of_a_pool_is_the_users(preset: DictConfig) -> None:
    config = changed(preset, {"reward.reward_model.nnodes": 2, "reward.reward_model.n_gpus_per_node": 4})
    engage(config)
    assert (config.reward.reward_model.nnodes, config.reward.reward_model.n_gpus_per_node) == (2, 4)


def test_a_colocated_verifier_shares_the_policys_gpus_and_sleeps(preset: DictConfig) -> None:
    config = changed(preset, COLOCATE)
    engage(config)
    model = config.reward.reward_model
    assert (model.enable, model.enable_resource_pool) == (True, False)
    assert model.rollout.free_cache_engine is True


def test_an_external_verifier_starts_no_server_and_needs_no_path(preset: DictConfig) -> None:
    config = changed(preset, EXTERNAL, {"reward.reward_model.model_path": None})
    engage(config)
    assert (config.reward.reward_model.enable, config.reward.reward_model.enable_resource_pool) == (False, False)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("design", BASELINES)
def test_a_baseline_starts_no_server_and_needs_no_path(recipe: DictConfig, design: str, pooled: bool) -> None:
    config = changed(
        recipe,
        {"reward.reward_manager.name": f"spark_{design}"},
        {"reward.reward_model.enable_resource_pool": pooled},
    )
    settings = engage(config)
    assert settings is not None
    assert not settings.asks_verifier
    assert settings.design == design
    assert (config.reward.reward_model.enable, config.reward.reward_model.enable_resource_pool) == (False, False)


@pytest.mark.parametrize("name", [*(f"spark_{design}" for design in BASELINES), "spark_rlvr_ungated"])
def test_a_baseline_differs_from_spark_in_the_reward_alone(preset: DictConfig, name: str) -> None:
    spark, baseline = changed(preset), changed(_composed([f"reward_model={name}"]), MODEL)
    for config in (spark, baseline):
        assert engage(config) is not None
    ungated = {"format_gate"} if name == "spark_rlvr_ungated" else set()
    ours, theirs = spark.reward.spark, baseline.reward.spark
    assert {key for key in ours if ours[key] != theirs[key]} == {"design"} | ungated
    for config in (spark, baseline):
        with open_dict(config):
            del config.reward
    assert baseline == spark


@pytest.mark.parametrize("mode", launch.TRAINER_MODES)
def test_the_trainer_with_our_hook_runs_in_the_recipes_mode(preset: DictConfig, mode: str) -> None:
    config = changed(preset, {"trainer.v1.trainer_mode": mode})
    engage(config)
    assert config.trainer.v1.trainer_mode == f"spark_{mode}"


@pytest.mark.parametrize("serving", [{}, COLOCATE, EXTERNAL], ids=["pool", "colocate", "external"])
def test_engaging_twice_changes_nothing_more(preset: DictConfig, serving: Changes) -> None:
    config = changed(preset, serving)
    engage(config)
    once = copy.deepcopy(config)
    assert engage(config) is not None
    assert config == once


def test_a_manager_without_the_preset_is_reached_and_has_room_for_replies(recipe: DictConfig) -> None:
    config = changed(recipe, MANAGER, MODEL)
    assert OmegaConf.is_missing(config.reward.reward_model.rollout, "name")
    engage(config)
    # verl never calls the manager of a served reward model unless a reward function is set
    assert config.reward.custom_reward_function.path == "pkg://verl_spark.rl.reward_function"
    assert config.reward.reward_model.rollout.name == "vllm"
    assert config.reward.reward_model.rollout.response_length == 4096


def test_only_rewards_and_the_trainer_mode_are_changed(preset: DictConfig) -> None:
    config = changed(preset)
    engage(config)
    config.trainer.v1.trainer_mode = preset.trainer.v1.trainer_mode
    with open_dict(config):
        config.reward = preset.reward
    assert config == preset


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reward_model.reward_manager": "dapo"}, ("reward_model.reward_manager", "reward.reward_manager.name")),
        ({"reward_model.enable": True}, ("reward_model.enable", "reward.reward_model.enable")),
        ({"reward_model.rollout.n": 2}, ("reward_model.rollout.n", "reward.reward_model.rollout.n")),
        ({"custom_reward_function.path": "mine.py"}, ("custom_reward_function.path", "reward.custom_reward_function")),
        ({"sandbox_fusion.url": "http://x"}, ("sandbox_fusion.url", "reward.sandbox_fusion.url")),
        ({"reward.custom_reward_function.path": "mine.py"}, ("mine.py", "not called")),
        ({"actor_rollout_ref.rollout.n": 1}, ("actor_rollout_ref.rollout.n=1", "raise n")),
        (
            {"reward.reward_kwargs.overlong_buffer_cfg": {"enable": True, "len": 512, "penalty_factor": 1.0}},
            ("dapo", "reward.spark.overlong_buffer={enable: true, len: 512, penalty_factor: 1.0}"),
        ),
        ({"reward.spark.zeroed_tokens": "leave_out"}, ("zeroed_tokens=leave_out", "design=process_aware")),
        (
            {"reward.spark.zeroed_tokens": "leave_out", "reward.spark.design": "global_step"},
            ("zeroed_tokens=leave_out", "selective"),
        ),
        (
            {"reward.spark.design": "majority", "reward.spark.probe_files": ["p.parquet"], "trainer.test_freq": 5},
            ("design=majority", "probe_files"),
        ),
    ],
)
def test_what_has_no_effect_is_pointed_out_and_runs(
    preset: DictConfig, change: Changes, says: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert list(advice(preset)) == []
    config = changed(preset, change)
    (line,) = advice(config)
    assert all(text in line for text in says)
    assert engage(config) is not None
    assert line in caplog.text


@pytest.mark.parametrize("estimator", launch.REPLACEABLE)
@pytest.mark.parametrize("design", ["selective", "selective_half", "global_step"])
def test_a_design_that_credits_steps_takes_the_place_of_grpo_and_says_so(
    preset: DictConfig, estimator: str, design: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = changed(preset, {"reward.spark.design": design, "algorithm.adv_estimator": estimator})
    with caplog.at_level(logging.INFO):
        assert engage(config) is not None
    (line,) = [record.getMessage() for record in caplog.records if "replaced" in record.getMessage()]
    assert f"advantages of {estimator}" in line
    assert design in line


def test_where_tokens_lose_their_advantage_they_may_be_left_out(preset: DictConfig) -> None:
    change = {"reward.spark.zeroed_tokens": "leave_out", "reward.spark.design": "selective"}
    assert list(advice(changed(preset, change))) == []


def test_a_refused_config_ends_the_program_with_the_message_alone(preset: DictConfig) -> None:
    with pytest.raises(SystemExit) as caught:
        prepare(changed(preset, {"trainer.use_v1": False}))
    assert "trainer.use_v1=False" in str(caught.value.code)


class TestCallback:
    def test_it_lets_a_good_config_pass_unchanged(self, preset: DictConfig) -> None:
        config = changed(preset)
        SparkCallback().on_run_start(config)
        SparkCallback().on_job_start(config)
        assert config == preset

    def test_it_ends_the_program_since_hydra_swallows_exceptions(self, preset: DictConfig) -> None:
        with pytest.raises(SystemExit, match=r"trainer\.use_v1"):
            SparkCallback().on_run_start(changed(preset, {"trainer.use_v1": False}))

    @pytest.mark.parametrize("policy", ["none", "other", "", "Spark_x,other"])
    def test_it_refuses_when_verl_is_told_to_leave_the_plugin_out(
        self, preset: DictConfig, policy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
        with pytest.raises(SystemExit, match=r"VERL_USE_EXTERNAL_PLUGINS(.|\n)*add spark"):
            SparkCallback().on_run_start(preset)

    @pytest.mark.parametrize(
        "variables",
        [
            {"VERL_USE_EXTERNAL_PLUGINS": "Auto"},
            {"VERL_USE_EXTERNAL_PLUGINS": "other, SPARK"},
            {"VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_USE_EXTERNAL_MODULES": "other,verl_spark.plugin"},
        ],
    )
    def test_it_accepts_every_way_in_which_verl_loads_the_plugin(
        self, preset: DictConfig, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        SparkCallback().on_run_start(preset)


def verl(tmp_path: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", "reward_model=spark_prmcot", *overrides],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("environment", "says"),
    [({}, "reward.reward_model.model_path"), ({"VERL_USE_EXTERNAL_PLUGINS": "none"}, "VERL_USE_EXTERNAL_PLUGINS=none")],
)
def test_verls_own_command_refuses_before_anything_starts(
    tmp_path: Path, environment: dict[str, str], says: str
) -> None:
    run = verl(tmp_path, "algorithm.adv_estimator=grpo", "actor_rollout_ref.rollout.name=vllm", **environment)
    assert run.returncode != 0
    assert says in run.stderr
    assert "Traceback" not in run.stderr
    assert list(tmp_path.iterdir()) == []  # not even Hydra's output folder


class TestTrainedVerifier:
    """A model that `verl-spark train` exported says what it is, and is asked as nothing else."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        Identity.of_kind(Kind.PRM, base_model="b", seed=1).write(tmp_path)
        return tmp_path

    @staticmethod
    def of(config: DictConfig, folder: Path, *changes: Changes) -> DictConfig:
        return changed(config, {"reward.reward_model.model_path": str(folder)}, *changes)

    def test_it_is_accepted_as_what_it_is(self, recipe: DictConfig, folder: Path) -> None:
        assert check(self.of(recipe, folder, {"reward.reward_manager.name": "spark_prm"})) is not None

    def test_it_is_refused_as_another_kind_with_the_cure(self, preset: DictConfig, folder: Path) -> None:
        (problem,) = refusal(self.of(preset, folder))
        for text in (str(folder), "trained as prm", "asked as prm_cot", "reward_model=spark_prm,"):
            assert text in problem

    def test_a_think_prm_is_asked_by_its_kind(self, preset: DictConfig, tmp_path: Path) -> None:
        Identity.of_kind(Kind.THINK_PRM, base_model="b", seed=1).write(tmp_path)
        (problem,) = refusal(self.of(preset, tmp_path))
        assert "set reward_model=spark_thinkprm, or" in problem
        assert check(self.of(_composed(["reward_model=spark_thinkprm"]), tmp_path)) is not None

    def test_it_is_refused_with_another_prompt(self, recipe: DictConfig, tmp_path: Path) -> None:
        identity = Identity.of_kind(Kind.PRM, base_model="b", seed=1)
        identity.model_copy(update={"prompt_sha256": "0" * 64}).write(tmp_path)
        (problem,) = refusal(self.of(recipe, tmp_path, {"reward.reward_manager.name": "spark_prm"}))
        assert "000000000000" in problem
        assert identity.prompt_sha256[:12] in problem

    def test_a_file_that_cannot_be_read_is_refused(self, preset: DictConfig, tmp_path: Path) -> None:
        (tmp_path / FILE).write_text("{")
        (problem,) = refusal(self.of(preset, tmp_path))
        assert FILE in problem

    def test_models_without_the_file_and_external_servers_are_not_asked_for_it(
        self, preset: DictConfig, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        assert check(self.of(preset, tmp_path_factory.mktemp("plain"))) is not None
        assert check(self.of(preset, folder, EXTERNAL)) is not None


class TestServedModel:
    """What an engine would refuse minutes later is refused here; the sizes are in the model's folder."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "config.json").write_text('{"max_position_embeddings": 8192, "num_attention_heads": 14}')
        return tmp_path

    @staticmethod
    def of(config: DictConfig, folder: Path, **changes: Any) -> DictConfig:
        sizes = {f"reward.reward_model.rollout.{key}": value for key, value in changes.items()}
        return changed(config, {"reward.reward_model.model_path": str(folder)}, sizes)

    def test_one_that_fits_is_accepted(self, preset: DictConfig, folder: Path) -> None:
        assert check(self.of(preset, folder, max_model_len=8192, tensor_model_parallel_size=2)) is not None
        assert check(self.of(preset, folder, tensor_model_parallel_size=2)) is not None

    def test_a_length_beyond_its_positions(self, preset: DictConfig, folder: Path) -> None:
        (problem,) = refusal(self.of(preset, folder, max_model_len=16384))
        for text in ("max_model_len=16384", "8192 positions", str(folder), "set it to 8192 or less"):
            assert text in problem

    def test_no_room_beside_the_reply_in_its_own_context(self, preset: DictConfig, folder: Path) -> None:
        (folder / "config.json").write_text('{"text_config": {"max_position_embeddings": 4096}}')
        (problem,) = refusal(self.of(preset, folder))
        assert "context of 4096 tokens has no room for a prompt beside a reply of 4096" in problem

    def test_a_tensor_parallel_size_that_does_not_divide_its_heads(self, preset: DictConfig, folder: Path) -> None:
        config = self.of(preset, folder, tensor_model_parallel_size=4)
        (problem,) = refusal(changed(config, {"reward.reward_model.n_gpus_per_node": 8, "trainer.n_gpus_per_node": 8}))
        assert "tensor_model_parallel_size=4 does not divide the 14 attention heads" in problem
        assert "set it to one of: 1, 2, 7, 14" in problem

    def test_the_policys_tensor_parallel_size_must_divide_its_heads_as_well(
        self, preset: DictConfig, folder: Path
    ) -> None:
        policy = {
            "actor_rollout_ref.model.path": str(folder),
            "actor_rollout_ref.rollout.tensor_model_parallel_size": 4,
        }
        (problem,) = refusal(changed(preset, policy))
        assert "actor_rollout_ref.rollout.tensor_model_parallel_size=4 does not divide the 14" in problem
        (folder / "config.json").write_text("{")
        (problem,) = refusal(changed(preset, policy))
        assert problem.startswith("actor_rollout_ref.model.path: ")

    def test_the_longest_prompt_and_reply_are_told_to_need_more_room(self, preset: DictConfig, folder: Path) -> None:
        lengths = {"data.max_prompt_length": 1024, "data.max_response_length": 2048}
        needed = 1024 + 2048 + 4096
        short = changed(self.of(preset, folder, max_model_len=needed - 1), lengths)
        (line,) = advice(short)
        for text in (f"max_model_len={needed - 1} is less than the {needed} tokens", f"max_model_len={needed} if"):
            assert text in line
        assert engage(short) is not None
        assert list(advice(changed(self.of(preset, folder, max_model_len=needed), lengths))) == []
        assert list(advice(changed(short, {"reward.spark.verifier.max_prompt_tokens": 500}))) == []
        (line,) = advice(changed(self.of(preset, folder), lengths, {"data.max_response_length": 4096}))
        assert "its context of 8192 tokens is less than the 9216 tokens" in line
        assert list(advice(changed(short, EXTERNAL))) == []

    def test_a_config_that_cannot_be_read(self, preset: DictConfig, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        (problem,) = refusal(self.of(preset, folder))
        assert str(folder / "config.json") in problem

    def test_what_else_is_wrong_is_said_beside_it(self, preset: DictConfig, folder: Path) -> None:
        (folder / "config.json").write_text("{")
        problems = refusal(self.of(preset, folder, tensor_model_parallel_size=3))
        assert "config.json" in problems[0]
        assert "no multiple of the 3 that one replica takes" in problems[1]


@pytest.mark.parametrize("engine", ["actor_rollout_ref", "reward.reward_model"])
def test_two_engines_that_are_awake_together_must_share_the_gpu(preset: DictConfig, engine: str) -> None:
    stays: Changes = {**COLOCATE, f"{engine}.rollout.free_cache_engine": False}
    shares: Changes = {
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.6,
        "reward.reward_model.rollout.gpu_memory_utilization": 0.5,
    }
    (problem,) = refusal(changed(preset, stays, shares))
    assert f"{engine}.rollout.free_cache_engine=False" in problem
    assert "0.6 of the policy, 0.5 of the verifier" in problem
    assert check(changed(preset, COLOCATE, shares)) is not None
    assert (
        check(changed(preset, stays, {**shares, "actor_rollout_ref.rollout.gpu_memory_utilization": 0.4})) is not None
    )


PROBE: Changes = {"reward.spark.probe_files": ["probe.parquet"], "trainer.test_freq": 5}


@pytest.mark.parametrize("files", ["val.parquet", ["val.parquet"], ["val.parquet", "probe.parquet"]])
def test_the_probe_becomes_a_part_of_validation(preset: DictConfig, files: Any) -> None:
    config = changed(preset, PROBE, {"data.val_files": files})
    engage(config)
    engage(config)
    assert list(config.data.val_files) == ["val.parquet", "probe.parquet"]


@pytest.mark.parametrize(
    ("change", "named", "cure"),
    [
        ({"trainer.test_freq": -1}, "trainer.test_freq=-1", "trainer.test_freq=10"),
        ({"data.train_files": ["a.parquet", "probe.parquet"]}, "probe.parquet", "take it out"),
    ],
)
def test_a_probe_that_is_never_asked_or_trained_on_is_refused(
    preset: DictConfig, change: Changes, named: str, cure: str
) -> None:
    (problem,) = refusal(changed(preset, PROBE, change))
    assert "reward.spark.probe_files" in problem
    assert named in problem
    assert cure in problem


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("spark/flags/few_step", "spark/flags/few_steps"),
        ("steps/one", "spark/steps/one"),
        ("zzz", "verl-spark metrics"),
        ("spark/probe/gap", "probe_files"),
    ],
)
def test_an_alarm_on_a_metric_that_is_not_there_is_refused(preset: DictConfig, name: str, cure: str) -> None:
    (problem,) = refusal(changed(preset, {"reward.spark.alarms": {name: {"above": 0.5}}}))
    assert name in problem
    assert cure in problem


def test_an_alarm_on_the_probe_is_taken_with_a_probe(preset: DictConfig) -> None:
    config = changed(preset, PROBE, {"reward.spark.alarms": {"spark/probe/gap": {"above": 0.2, "action": "stop"}}})
    settings = check(config)
    assert settings is not None
    assert settings.alarms is not None
    assert settings.alarms["spark/probe/gap"].action == "stop"


def test_alarms_are_typed_on_the_command_line() -> None:
    override = "reward.spark.alarms={spark/flags/few_steps: {above: 0.5, for_steps: 3, action: stop}}"
    settings = check(changed(_composed(["reward_model=spark_prmcot", override]), MODEL))
    assert settings is not None
    assert settings.alarms is not None
    assert settings.alarms["spark/flags/few_steps"].for_steps == 3
