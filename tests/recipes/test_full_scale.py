"""Every script of the recipes composes: each command that it would run is checked by the code that would run it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import requires
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
import yaml
from omegaconf import DictConfig, OmegaConf
from typer.testing import CliRunner

from recipes import problems
from tests.prm import made
from tests.recipes.scripts import FULL, ONE_GPU, PROBLEMS, RECIPES, Command, arms, checked, dry, sft_config
from verl_spark.cli.main import app
from verl_spark.data.builders import Solved, write_format_sft
from verl_spark.data.methods import METHODS
from verl_spark.evaluation.leakage import Benchmark, find_leakage
from verl_spark.planning.memory import Shape, serving
from verl_spark.prm.check import check as check_sft
from verl_spark.runs.problems import ProblemSettings, read_problems
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS

NAMES = [
    pytest.param(folder, arm[0], id=f"{folder.name}-{arm[0]}")
    for folder in (FULL, ONE_GPU)
    for arm in arms(folder)
    if not arm[0].startswith("data_")
]
WITH_VERIFIER = [arm for arm in arms(FULL) if arm[1] != "-"]
ROOT = RECIPES.parent
(USAGE_ERROR,) = typer.BadParameter.__bases__  # click's own, or that of the click inside newer versions of typer


def rl(folder: Path, **variables: str):
    (command,) = dry(folder / "4_rl.sh", **variables)
    return checked(command)


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Path]:
    """OUT of each recipe after 0_problems.sh: every command of it has run, with a small file in place of the hub."""
    rows = [
        {
            "prompt": [{"role": "user", "content": text}],
            "reward_model": {"ground_truth": f'["{n + 1}"]'},
            "task": "Math",
            "conversations": [{"from": "human", "value": text}],
            "problem": text,
            "question": text,
            "answer": f"#### {n + 1}",
        }
        for n in range(8)
        for text in (f"What is {n} + 1?",)
    ]
    source = tmp_path_factory.mktemp("source") / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sizes = {"STAGE1_PROBLEMS": "3", "RL_PROBLEMS": "4", "PROBE_PROBLEMS": "1", "TEST_PROBLEMS": "2"}
    made = {}
    for folder in (FULL, ONE_GPU):
        made[folder] = tmp_path_factory.mktemp(folder.name)
        script = folder / "0_problems.sh"
        for command in dry(script, "--source", str(source), OUT=str(made[folder]), REFERENCES="1", **sizes):
            result = CliRunner().invoke(PROBLEMS, list(command.words[2:]))
            assert result.exit_code == 0, result.output
    return made


class TestRl:
    @pytest.mark.parametrize(("folder", "arm"), NAMES)
    def test_every_arm_composes_and_passes_all_checks(self, folder: Path, arm: str) -> None:
        config = rl(folder, ARM=arm)
        (kind, method, prompts) = next(line[1:4] for line in arms(folder) if line[0] == arm)
        assert config.data.train_files.endswith(f"/{prompts}.parquet")
        assert config.trainer.experiment_name == f"{arm}-1"
        served = config.reward.reward_model
        assert bool(served.enable) is (kind != "-")
        assert (served.model_path or "").endswith("" if kind == "-" else f"prm/{kind}-{method}-1/export")

    def test_arms_of_data_differ_in_the_reward_model_and_in_nothing_else(self) -> None:
        lines = [arm for arm in arms(FULL) if arm[0].startswith("data_")]
        usual = {"prmcot": "process_aware", "prm": "prm"}
        for name, kind, method, *_ in lines:
            (command,) = dry(FULL / "4_rl.sh", ARM=name)
            words = [
                word.replace(f"{kind}-{method}-1", f"{kind}-step-1").replace(f"{name}-1", f"{usual[kind]}-1")
                for word in command.words
            ]
            assert tuple(words) == dry(FULL / "4_rl.sh", ARM=usual[kind])[0].words
        assert sorted(line[1:3] for line in lines) == sorted(
            (kind, method) for kind in usual for method in METHODS if method != "step"
        )

    def test_arms_differ_in_the_reward_and_in_nothing_else(self) -> None:
        (first,) = dry(FULL / "4_rl.sh", ARM="process_aware")
        (other,) = dry(FULL / "4_rl.sh", ARM="rlvr")
        changed = {word.split("=")[0].lstrip("+") for word in {*first.words} ^ {*other.words}}
        records = {"trainer.experiment_name", "trainer.default_local_dir", "trainer.rollout_data_dir"}
        assert {key for key in changed if not key.startswith("reward")} == {"data.train_files"} | records

    def test_several_nodes_with_a_pool_for_the_verifier(self) -> None:
        config = rl(FULL, NODES="3", SERVING="pool", REWARD_NODES="1")
        assert (config.trainer.nnodes, config.reward.reward_model.nnodes) == (2, 1)
        assert config.reward.reward_model.enable_resource_pool
        assert not config.reward.reward_model.rollout.free_cache_engine

    def test_several_nodes_with_a_colocated_verifier(self) -> None:
        config = rl(FULL, NODES="4")
        assert (config.trainer.nnodes, config.reward.reward_model.enable_resource_pool) == (4, False)

    def test_servers_that_are_up_already(self) -> None:
        urls = "http://a:8000/v1,http://b:8000/v1"
        config = rl(FULL, SERVING="external", VERIFIER_URLS=urls)
        assert list(config.reward.spark.verifier.base_urls) == urls.split(",")
        assert not config.reward.reward_model.enable

    def test_serving_that_cannot_work_is_refused(self) -> None:
        with pytest.raises(SettingsError, match="base_urls"):
            rl(FULL, SERVING="external")
        with pytest.raises(SettingsError, match="serving"):
            rl(FULL, SERVING="elsewhere")

    @pytest.mark.parametrize(("nodes", "serve"), [("1", "1"), ("2", "2"), ("3", "0")])
    def test_a_pool_that_leaves_no_node_for_verifier_or_training_is_refused(self, nodes: str, serve: str) -> None:
        variables = {"DRY_RUN": "1", "SERVING": "pool", "NODES": nodes, "REWARD_NODES": serve}
        run = subprocess.run(
            ["bash", FULL / "4_rl.sh"], env={**os.environ, **variables}, capture_output=True, text=True
        )
        assert (run.returncode, run.stdout) == (2, "")
        assert f"REWARD_NODES={serve} of NODES={nodes}" in run.stderr

    def test_what_the_paper_says_is_what_is_set(self) -> None:
        config = rl(FULL)
        policy, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
        assert (config.algorithm.adv_estimator, rollout.n, config.data.train_batch_size) == ("grpo", 16, 256)
        assert (policy.ppo_mini_batch_size, policy.optim.lr, policy.optim.lr_scheduler_type) == (256, 1e-6, "constant")
        assert (policy.use_kl_loss, policy.kl_loss_coef, policy.kl_loss_type) == (True, 0.001, "low_var_kl")
        assert (policy.entropy_coeff, policy.clip_ratio_low, policy.clip_ratio_high) == (0, 0.2, 0.2)
        assert (config.data.max_prompt_length, config.data.max_response_length) == (2048, 2048)
        assert (rollout.tensor_model_parallel_size, rollout.temperature, rollout.top_p) == (2, 1.0, 1.0)
        assert (config.trainer.total_epochs, config.trainer.save_freq, config.trainer.test_freq) == (25, 50, 10)
        assert config.trainer.total_training_steps is None
        assert rl(FULL, STEPS="300").trainer.total_training_steps == 300

    def test_what_is_typed_behind_the_script_wins(self) -> None:
        (command,) = dry(FULL / "4_rl.sh", "actor_rollout_ref.rollout.n=8", "reward.spark.design=step_augmented")
        config = checked(command)
        assert (config.actor_rollout_ref.rollout.n, config.reward.spark.design) == (8, "step_augmented")

    def test_with_flash_attention_verls_defaults_stay(self) -> None:
        assert "attn_implementation" in rl(FULL).actor_rollout_ref.model.override_config
        assert rl(FULL, FLASH_ATTN="1").actor_rollout_ref.model.override_config == {}

    def test_an_arm_that_is_not_there_is_refused_with_those_that_are(self) -> None:
        run = subprocess.run(["bash", FULL / "4_rl.sh"], env={**os.environ, "ARM": "x"}, capture_output=True, text=True)
        assert run.returncode == 2
        assert all(arm[0] in run.stderr for arm in arms(FULL))

    def test_without_the_stage_before_nothing_is_started(self, tmp_path: Path) -> None:
        variables = {**os.environ, "OUT": str(tmp_path)}
        run = subprocess.run(["bash", FULL / "4_rl.sh"], env=variables, capture_output=True, text=True)
        assert run.returncode == 2
        assert "no checkpoint is there" in run.stderr
        assert "+" not in run.stdout

    def test_verls_own_command_takes_it(self, tmp_path: Path) -> None:
        (tmp_path / "format_sft").mkdir()
        (tmp_path / "format_sft" / "latest_checkpointed_iteration.txt").write_text("3190")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {**os.environ, "OUT": str(tmp_path), "PATH": path, "ARM": "selective"}
        run = subprocess.run(
            ["bash", FULL / "4_rl.sh", "--cfg", "job"], env=variables, cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        job = yaml.safe_load(run.stdout[run.stdout.index("\nactor_rollout_ref:") :])
        assert job["reward"]["spark"]["design"] == "selective"
        assert job["actor_rollout_ref"]["model"]["path"] == f"{tmp_path}/format_sft/global_step_3190/huggingface"


class TestOtherStages:
    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_problems_are_the_files_that_the_other_stages_name(self, folder: Path, outs: dict[Path, Path]) -> None:
        out = outs[folder]
        commands = [command for script in ("1_data.sh", "4_rl.sh") for command in dry(folder / script, OUT=str(out))]
        commands += dry(folder / "4_rl.sh", OUT=str(out), ARM="rlvr")
        named = {name for one in commands for name in re.findall(r"/problems/([\w.]+)", shlex.join(one.words))}
        assert named == {path.name for path in (out / "problems").iterdir()}

    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_problems_without_references_and_of_the_usual_size(self, folder: Path) -> None:
        asked = [checked(command) for command in dry(folder / "0_problems.sh")]
        assert {one["name"] for one in asked} <= problems.DATA_SETS.keys()
        stage1, training = asked[0], asked[1]
        assert (training["skip"], training["references"]) == (stage1["count"], False)
        if folder is FULL:
            assert (stage1["count"], training["count"], stage1["references"]) == (8000, 17000, False)

    @pytest.mark.parametrize(
        ("folder", "variables"),
        [
            (FULL, {}),
            (FULL, {"NODES": "4", "METHODS": "single,outcome,step,meta_step,meta_outcome,meta_single,reference"}),
            (ONE_GPU, {}),
        ],
        ids=["one node", "several nodes, all methods", "one GPU"],
    )
    def test_data(self, folder: Path, variables: dict[str, str], outs: dict[Path, Path], tmp_path: Path) -> None:
        shutil.copytree(outs[folder] / "problems", tmp_path / "problems")
        commands = dry(folder / "1_data.sh", OUT=str(tmp_path), **variables)
        configs = [checked(command) for command in commands]
        for command, config in zip(commands, configs, strict=True):
            if "--dry-run" in command.words or "leakage" in command.words:  # they ask no model
                result = CliRunner().invoke(app, list(command.words[1:]))
                assert result.exit_code == 0, result.output
            if "--dry-run" in command.words:
                lines = len(Path(config.problems.path).read_text().splitlines())
                assert f" {lines * config.generator.n * config.verifier.n}" in result.output
            if "leakage" in command.words:
                assert len(json.loads((config.output / "leakage.json").read_text())) == 3
        nodes = int(variables.get("NODES", "1"))
        if folder is FULL:
            gpus = {
                engine.replicas * engine.num_gpus_per_replica
                for config in configs
                for engine in (config.generator.engine, config.verifier.engine)
            }
            assert gpus == {8 * nodes}
        assert ("refine" in {command.words[2] for command in commands}) is (nodes == 4)

    def test_what_the_paper_says_of_stage_1_is_what_is_set(self) -> None:
        config = checked(dry(FULL / "1_data.sh")[0])
        roles = (config.generator, config.verifier)
        assert [role.engine.model for role in roles] == ["Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen3-32B"]
        assert [(role.n, role.temperature, role.top_p, role.max_tokens) for role in roles] == [
            (8, 0.7, 0.95, 8192),
            (16, 0.8, 0.95, 8192),
        ]

    @pytest.mark.parametrize(("arm", "kind", "method"), [arm[:3] for arm in WITH_VERIFIER])
    def test_reward_models(self, arm: str, kind: str, method: str) -> None:
        (command,) = dry(FULL / "2_prm.sh", ARM=arm)
        config = checked(command)
        assert config.spark.data.endswith(f"/{method}")
        assert command.words[2] == kind == config.spark.kind.replace("_", "")
        if method == "step":  # the other arms of data ask as that does
            trained = rl(FULL, ARM=arm).reward
            assert trained.spark.verifier.kind == config.spark.kind
            assert trained.reward_model.rollout.max_model_len == config.data.max_length

    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_a_reward_model_passes_the_checks_that_read_model_and_data(self, folder: Path, tmp_path: Path) -> None:
        model, data = made.base_model(tmp_path / "model"), made.sft_files(tmp_path / "stage1" / "sft" / "step", 300)
        (command,) = dry(folder / "2_prm.sh", f"model.path={model}", OUT=str(tmp_path))
        found = check_sft(sft_config(command))
        assert found.settings.data == data
        assert not any(one.problem for one in found.trained)

    def test_a_reward_models_training_starts_on_several_nodes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = made.base_model(tmp_path / "model")
        made.sft_files(tmp_path / "stage1" / "sft" / "step", 300)
        nodes = {"NODES": "2", "RENDEZVOUS": "a:1"}
        (command,) = dry(FULL / "2_prm.sh", f"model.path={model}", OUT=str(tmp_path), **nodes)
        started: list[list[str]] = []
        monkeypatch.setattr(os, "execv", lambda _, words: started.append(words))
        ended = CliRunner().invoke(app, [*command.words[1:]])
        assert ended.exit_code == 0, ended.output
        assert {"--nnodes=2", "--rdzv-endpoint=a:1", f"model.path={model}"} <= {*started[0]}

    def test_several_nodes_meet(self) -> None:
        (command,) = dry(FULL / "2_prm.sh", NODES="2", RENDEZVOUS="a:1")
        assert command.words[-2:] == ("--rendezvous", "a:1")
        (command,) = dry(FULL / "3_format_sft.sh", NODES="2", RENDEZVOUS="a:1")
        assert {"--nnodes=2", "--rdzv-endpoint=a:1"} <= {*command.words}
        assert checked(command).trainer.nnodes == 2

    def test_an_arm_without_a_verifier_has_no_reward_model(self) -> None:
        variables = {**os.environ, "DRY_RUN": "1", "ARM": "rlvr"}
        run = subprocess.run(["bash", FULL / "2_prm.sh"], env=variables, capture_output=True, text=True)
        assert (run.returncode, run.stdout) == (2, "")

    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_the_format_training(self, folder: Path) -> None:
        (command,) = dry(folder / "3_format_sft.sh")
        config = checked(command)
        assert "hf_model" in config.checkpoint.save_contents
        if folder is FULL:
            assert (config.optim.lr, config.data.train_batch_size, config.trainer.total_epochs) == (5e-6, 64, 2)
            assert config.data.max_length == 4096

    def test_the_policy_learns_its_format_without_a_chat_template(self, tmp_path: Path, monkeypatch) -> None:
        """By verl's own class, in the template of the recipe: the response and the end of the text, no more."""
        from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

        template = (FULL / "plain.jinja").read_text()
        monkeypatch.setenv("CHAT_TEMPLATE", template)
        (command,) = dry(FULL / "3_format_sft.sh")
        config = checked(command)
        assert config.model.custom_chat_template == template
        solved = [Solved("p", "What is 1 + 1?", "Step 1: 1 + 1 = 2\n\nAnswer: 2")]
        write_format_sft(solved, tmp_path, seed=0, validation_share=0.0)
        tokenizer = made.tokenizer(config.model.custom_chat_template, eos=made.PAD)
        rows = MultiTurnSFTDataset(str(tmp_path / "train.parquet"), tokenizer, config.data)
        row = rows[0]
        ids, trained = row["input_ids"].tolist(), row["loss_mask"].bool().tolist()
        response = tokenizer.decode([one for one, is_trained in zip(ids, trained, strict=True) if is_trained])
        assert TAGS.check(response.removesuffix(tokenizer.eos_token)).valid
        assert response.endswith(f"</answer>{tokenizer.eos_token}")
        asked = [{"role": "user", "content": f"What is 1 + 1?\n\n{TAGS.instruction()}"}]
        prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        assert tokenizer.decode(ids) == f"{prompt}{response}"

    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_evaluations(self, folder: Path) -> None:
        seen = [command for arm in arms(folder) for command in dry(folder / "5_eval.sh", ARM=arm[0])]
        judged = [command for command in seen if command.words[2] == "processbench"]
        assert len(judged) == sum(arm[1] != "-" for arm in arms(folder))
        solved = {checked(command).output.name for command in seen if command.words[2] == "math"}
        assert solved == {f"{arm[0]}-1" for arm in arms(folder)}
        for command in judged:
            checked(command)

    @pytest.mark.parametrize("part", ["verifier", "policy"])
    def test_evaluations_of_local_files(self, part: str) -> None:
        (command,) = dry(FULL / "5_eval.sh", "data.path=files", PARTS=part)
        assert checked(command).data.path == "files"


class TestSlurm:
    """The job script with stand-ins for Slurm's and Ray's commands, which say what they were asked."""

    @pytest.fixture
    def started(self, tmp_path: Path):
        tools = tmp_path / "bin"
        tools.mkdir()
        for name, text in {
            "scontrol": "printf 'a\\nb\\nc\\n'",
            "srun": 'echo "$NODES ${RAY_ADDRESS:-${RENDEZVOUS:-}} $*" >>"$LOG"',
        }.items():
            (tools / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (tools / name).chmod(0o755)

        def start(script: str) -> list[str]:
            log = tmp_path / "log"
            variables = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(log)}
            job = {"SLURM_JOB_NODELIST": "x", **variables}
            subprocess.run(["bash", FULL / "slurm.sh", script, "k=v"], env=job, check=True, timeout=60)
            return log.read_text().splitlines()

        return start

    @pytest.mark.parametrize("script", ["2_prm.sh", "3_format_sft.sh"])
    def test_a_training_of_torchrun_starts_on_every_node(self, started, script: str) -> None:
        (line,) = started(script)
        assert line == f"3 a:6379 --ntasks-per-node=1 bash {script} k=v"

    @pytest.mark.parametrize("script", ["1_data.sh", "4_rl.sh", "5_eval.sh"])
    def test_the_others_start_once_beside_a_cluster(self, started, script: str) -> None:
        lines = started(script)
        where = {node: [line for line in lines if f"--nodelist={node} " in line] for node in "abc"}
        assert all(line.startswith("3 a:6379 ") for line in lines)
        assert sum("ray start --head --port=6379 --block" in line for line in where["a"]) == 1
        for node in "bc":
            (line,) = where[node]
            assert line.endswith("ray start --address=a:6379 --block")
        assert sum(line.endswith(f"bash {script} k=v") for line in where["a"]) == 1

    def test_ray_takes_these_options(self) -> None:
        from ray.scripts.scripts import start

        lines = re.findall(r"ray start (.*) &", (FULL / "slurm.sh").read_text())
        assert len(lines) == 2
        for line in lines:
            words = shlex.split(line.replace('"$PORT"', "6379").replace('"$RAY_ADDRESS"', "a:6379"))
            start.make_context("start", words)


SCRIPTS = [*FULL.glob("*.sh"), *ONE_GPU.glob("*.sh")]


class TestShell:
    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
    def test_scripts_stop_at_the_first_error_and_continue_no_line_into_a_comment(self, script: Path) -> None:
        text = script.read_text()
        assert script.name == "settings.sh" or "\nset -euo pipefail\n" in text
        assert not re.search(r"\\[ \t]*#|\\[ \t]+$", text, re.MULTILINE)
        assert not re.search(r"\\\n\s*#", text)
        subprocess.run(["bash", "-n", script], check=True)

    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_every_variable_has_an_effect(self, folder: Path) -> None:
        texts = [(RECIPES / "common.sh").read_text(), *(path.read_text() for path in folder.glob("*.sh"))]
        text = "\n".join(texts)
        names = set(re.findall(r"^([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
        assert {"SEED", "ARM", "OUT", "FLASH_ATTN"} <= names
        for name in names:
            uses = re.sub(rf"^{name}=\$\{{{name}:-.*$", "", text, flags=re.MULTILINE)
            assert re.search(rf"\$\{{?{name}\b|env:{name}\b", uses), name

    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_every_seed_reaches_the_training(self, folder: Path) -> None:
        for script, keys in {
            "2_prm.sh": {"trainer.seed"},
            "3_format_sft.sh": {"trainer.seed"},
            "4_rl.sh": {"data.seed", "actor_rollout_ref.rollout.seed", "reward.spark.seed"},
        }.items():
            (command,) = dry(folder / script, SEED="77")
            assert {key for key, _, value in (word.partition("=") for word in command.words) if value == "77"} >= keys


class TestNames:
    """A recipe that names a setting which is not there cannot pass."""

    @pytest.mark.parametrize(
        ("stage", "typo"),
        [
            ("0_problems.sh", "--cuont=5"),
            ("0_problems.sh", "--skip=-1"),
            ("1_data.sh", "--text-filed=x"),
            ("1_data.sh", "verifier.tmperature=0.1"),
            ("1_data.sh", "generator.engine.vlm={}"),
            ("2_prm.sh", "spark.dta=x"),
            ("2_prm.sh", "optim.learning_rate=1"),
            ("3_format_sft.sh", "trainer.epochs=1"),
            ("4_rl.sh", "reward.spark.desing=orm"),
            ("4_rl.sh", "actor_rollout_ref.rollout.m=16"),
            ("4_rl.sh", "+reward.spark.desing=orm"),
            ("5_eval.sh", "verifier.knd=orm"),
            ("5_eval.sh", "policy.prmpt=tags"),
        ],
    )
    def test_a_typo_is_an_error(self, stage: str, typo: str) -> None:
        commands = dry(FULL / stage, typo)
        assert commands
        for command in commands:
            with pytest.raises((SettingsError, USAGE_ERROR)):
                checked(command)

    def test_a_command_that_nobody_checks_is_an_error(self) -> None:
        with pytest.raises(KeyError):
            checked(Command(("verl-spark", "eval", "nothing")))

    @pytest.mark.parametrize("version", ["pinned", "installed"])
    @pytest.mark.parametrize("folder", [FULL, ONE_GPU])
    def test_vllm_knows_the_engines_arguments(self, folder: Path, version: str) -> None:
        """That which verl pins for GPUs, and that which is here."""
        known = {"pinned": pinned_arguments, "installed": installed_arguments}[version]()
        named = {*engine_arguments(folder)}
        assert "max_model_len" in named
        assert named - known == set()


def installed_arguments() -> set[str]:
    from vllm.engine.arg_utils import AsyncEngineArgs

    return {field.name for field in fields(AsyncEngineArgs)}


def pinned_arguments() -> set[str]:
    """Of the vLLM that verl's extra pins, and with it ours for GPUs."""
    (pin,) = (line for line in requires("verl") or () if line.startswith("vllm=="))
    file = Path(__file__).with_name(f"vllm_{pin.split(';')[0].removeprefix('vllm==').strip()}_arguments.txt")
    return {line for line in file.read_text().splitlines() if not line.startswith("#")}


def engine_arguments(folder: Path) -> Iterator[str]:
    """Names that a recipe hands to vLLM: in Stage I, in the evaluations, and through verl in RL."""
    stage1 = (command for command in dry(folder / "1_data.sh") if command.words[2] == "run")
    for command in [*stage1, *dry(folder / "5_eval.sh")]:
        config = checked(command)
        for role in ("generator", "verifier", "policy"):
            if hasattr(config, role):
                yield from getattr(config, role).engine.vllm
    config = rl(folder)
    for rollout in (config.actor_rollout_ref.rollout, config.reward.reward_model.rollout):
        given: DictConfig = rollout.engine_kwargs.get("vllm") or OmegaConf.create()
        yield from map(str, given)


class TestProblems:
    @pytest.fixture
    def skywork(self, tmp_path: Path) -> Path:
        rows = [
            {"prompt": [{"role": "user", "content": f"What is {n} + 1?"}], "reward_model": {"ground_truth": truth}}
            for n in range(20)
            for truth in (f'["{n + 1}"]',)
        ]
        rows[3]["reward_model"]["ground_truth"] = "['4']"  # as Python writes a list
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
        return path

    def run(self, *arguments: object) -> str:
        result = CliRunner().invoke(PROBLEMS, [*map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    def test_parts_are_disjoint_and_the_same_in_every_run(self, skywork: Path, tmp_path: Path) -> None:
        files = [tmp_path / name for name in ("a.jsonl", "b.parquet", "c.parquet", "again.parquet")]
        parts = [(0, 8), (8, 8), (16, 4), (8, 8)]
        for file, (skip, count) in zip(files, parts, strict=True):
            assert f"{count} problems" in self.run(
                "skywork", file, "--skip", skip, "--count", count, "--source", skywork
            )
        first = {json.loads(line)["problem"] for line in files[0].open()}
        others = [{row["prompt"][0]["content"] for row in pq.read_table(file).to_pylist()} for file in files[1:]]
        assert len(first | others[0] | others[1]) == 20
        assert others[0] == others[2]

    def test_parts_are_files_that_the_next_stages_read(self, skywork: Path, tmp_path: Path) -> None:
        lines, rows = tmp_path / "a.jsonl", tmp_path / "b.parquet"
        self.run("skywork", lines, "--count", 5, "--references", "--source", skywork)
        self.run("skywork", rows, "--count", 5, "--source", skywork)
        found = list(read_problems(ProblemSettings(path=str(lines))))
        assert [one.text for one in found] == [
            one.text for one in read_problems(ProblemSettings(path=str(rows), text_field="prompt"))
        ]
        (leak,) = find_leakage(found, [Benchmark.load("rows", rows, "prompt")])
        assert len(leak.prompt_ids(exact=True)) == 5

    def test_references_are_there_only_if_they_are_asked_for(self, skywork: Path, tmp_path: Path) -> None:
        plain, asked, lines = tmp_path / "plain.parquet", tmp_path / "asked.parquet", tmp_path / "lines.jsonl"
        self.run("skywork", plain, "--source", skywork)
        self.run("skywork", asked, "--references", "--source", skywork)
        self.run("skywork", lines, "--references", "--source", skywork)
        assert {row["reward_model"]["ground_truth"] for row in pq.read_table(plain).to_pylist()} == {""}
        for row in pq.read_table(asked).to_pylist():
            (number,) = re.findall(r"\d+(?= \+)", row["prompt"][0]["content"])
            assert row["reward_model"]["ground_truth"] == str(int(number) + 1)
        assert all("answer" in json.loads(line) for line in lines.open())

    def test_eurus_gives_its_mathematics_without_its_request_for_a_box(self, tmp_path: Path) -> None:
        rows = [
            {"task": task, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "hm"}]}
            for task, text in (
                ("Math", "What is 2?\n\nPresent the answer in LaTex format: \\boxed{Your answer}"),
                ("Coding", "Sort."),
            )
        ]
        source = tmp_path / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.run("eurus", tmp_path / "out.jsonl", "--source", source)
        (row,) = map(json.loads, (tmp_path / "out.jsonl").open())
        assert row["problem"] == "What is 2?"

    def test_gsm8ks_answer_is_what_stands_behind_its_marks(self, tmp_path: Path) -> None:
        source = tmp_path / "rows.jsonl"
        source.write_text(json.dumps({"question": "How many?", "answer": "Many.\n#### 1,200"}) + "\n")
        self.run("gsm8k", tmp_path / "out.parquet", "--references", "--source", source)
        (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert row["reward_model"]["ground_truth"] == "1200"

    @pytest.mark.parametrize(
        ("name", "file", "options", "said"),
        [
            ("skywrk", "a.jsonl", {}, "skywork"),
            ("skywork", "a.txt", {}, ".jsonl"),
            ("eurus", "a.jsonl", {"references": True}, "--references"),
            ("skywork", "a.jsonl", {"count": 100}, "20 problems"),
            ("gsm8k", "a.jsonl", {}, "question"),
        ],
    )
    def test_what_cannot_be_done_is_refused(self, skywork: Path, tmp_path, name, file, options, said) -> None:
        given = {"count": None, "skip": 0, "references": False, "source": skywork, **options}
        with pytest.raises(SettingsError, match=re.escape(said)):
            problems.write(name, tmp_path / file, **given)
        assert not (tmp_path / file).exists()


def test_the_kinds_of_the_tables_are_those_there_are() -> None:
    names = {kind.value.replace("_", "") for kind in Kind}
    assert {arm[1] for folder in (FULL, ONE_GPU) for arm in arms(folder)} <= {*names, "-"}
    assert OmegaConf.load(FULL / "stage1.yaml").methods == ["step"]


SHAPES = {
    "7.6": Shape("Qwen2.5-Math-7B", 7_620_000_000, 28, 4, 128),
    "14.8": Shape("Qwen2.5-14B", 14_770_000_000, 48, 8, 128),
    "32.8": Shape("Qwen3-32B", 32_760_000_000, 64, 8, 128),
    "70.6": Shape("Llama-3.1-70B", 70_600_000_000, 80, 8, 128),
}


class TestEstimates:
    """The README's memory is that of the planner, for models of these sizes (as their cards give them)."""

    ROW = re.compile(r"^\| .+, ([\d.]+) B, (\d) GPUs?(?: at ([\d.]+))? \|.*\| ([\d,]+) \|$", re.MULTILINE)

    def test_tokens_in_the_cache(self) -> None:
        rows = self.ROW.findall((FULL / "README.md").read_text())
        assert len(rows) == 7
        for size, gpus, share, tokens in rows:
            found = serving(SHAPES[size], int(gpus), 80, float(share or 0.9))
            assert found.tokens == pytest.approx(int(tokens.replace(",", "")), rel=0.01)
