"""The GPU benchmark as far as a CPU can tell: its refusals, its data, its figures, its report."""

import json
import sys
import time
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from omegaconf import OmegaConf, open_dict
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks import gpu, gpu_reward, gpu_task
from benchmarks.gpu_report import write_report
from benchmarks.mock_server import serving, stats_of
from examples import stage2
from examples.stage1_models import Stage1Models
from examples.verl_run import Run as Ended
from examples.verl_run import run_child, side_by_side
from verl_spark.configs import composed
from verl_spark.data.config import DataConfig
from verl_spark.launch import engage
from verl_spark.prm import launch as sft
from verl_spark.prm.rows import fault, read_rows
from verl_spark.prm.settings import SftSettings
from verl_spark.verification.kinds import Kind

app, measuring = typer.Typer(), typer.Typer()
app.command()(gpu.main)
measuring.command()(gpu_task.main)
Run = partial(Ended, seconds=1.0, log=Path("log"), metrics=[])


def start(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_it_is_refused_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda *_, **__: None)
    run = start("--model", tmp_path, "--folder", tmp_path / "out")
    assert run.exit_code != 0
    assert "no GPU" in str(run.exception)
    assert not (tmp_path / "out").exists()


def test_an_unknown_part_is_refused_by_name(tmp_path):
    run = start("--parts", "sft,stf", "--folder", tmp_path)
    assert run.exit_code == 2
    assert "stf" in run.output


def test_a_part_that_fails_leaves_its_cause_and_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "machine", lambda: {"gpu": "G", "versions": {"verl": "0.9.1"}})
    version = gpu.Part(lambda bench: {"output": bench.child("doctor", [sys.executable, "-V"], 60)})
    monkeypatch.setitem(gpu.PARTS, "doctor", version)
    bench = gpu.Bench(tmp_path, tmp_path / "model")
    assert not gpu.run_part("held_out", bench)
    assert gpu.run_part("doctor", bench)
    text = write_report(tmp_path, list(gpu.PARTS)).read_text()
    assert "the part sft has made no model yet" in text
    assert "Python 3." in text
    assert text.index("## doctor") < text.index("## held_out")
    assert [part["part"] for part in json.loads((tmp_path / "report.json").read_text())] == ["doctor", "held_out"]


def test_the_report_needs_no_gpu_and_shows_spread_and_interval(tmp_path):
    f1 = {"value": 50.0, "low": 40.0, "high": 60.0}
    figures = {"seconds": gpu.spread([3.0, 1.0, 2.0]), "at": [1.5, 2.0], "f1": f1}
    part = {"part": "sft", "error": None, "figures": figures, "wall_seconds": 1.0, "commands": ["verl-spark train"]}
    (tmp_path / "part_sft.json").write_text(json.dumps({**part, "machine": {"gpu": "H", "versions": {"torch": "2"}}}))
    assert start("--report", "--folder", tmp_path).exit_code == 0
    text = (tmp_path / "report.md").read_text()
    assert "H; torch 2" in text
    assert "- seconds: median 2, quartiles 1 to 3, lowest 1, highest 3" in text
    assert "- f1: 50 [40, 60]" in text
    assert "- at: 1.5, 2" in text
    assert "verl-spark train" in text


def test_the_figures_of_a_training_leave_the_first_steps_out():
    metrics = {"train/global_tokens": 100, "perf/max_memory_allocated_gb": 1.0, "perf/max_memory_reserved_gb": 2.0}
    steps = [{**metrics, "train/loss": float(20 - number)} for number in range(20)]
    slow = [50.0 * number for number in range(gpu.WARM_UP)]
    times = [*slow, *(slow[-1] + 2.0 * number for number in range(1, 20 - gpu.WARM_UP + 1))]
    figures = gpu.sft_figures(steps, times, batch=128)
    assert figures["seconds a step"]["highest"] == figures["seconds a step"]["lowest"] == 2.0
    assert figures["tokens/s"] == 50.0
    assert figures["samples/s"] == 128 / 2
    assert figures["loss, first step"] == 20.0


def test_its_sft_rows_may_train_a_prm_cot(tmp_path):
    folder = gpu_task.write_sft_files(tmp_path, 40)
    rows = list(read_rows([folder / "prm_cot" / f"{split}.parquet" for split in ("train", "validation")]))
    assert len(rows) == 40
    assert not [fault(row, Kind.PRM_COT) for row in rows if fault(row, Kind.PRM_COT)]


def test_a_command_of_its_own_gets_a_log_and_an_end(tmp_path):
    code, _ = run_child([sys.executable, "-c", "print('said')"], tmp_path / "one.log", timeout_s=60)
    assert code == 0
    assert "said" in (tmp_path / "one.log").read_text()
    code, _ = run_child([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "two.log", timeout_s=0.5)
    assert code < 0
    assert Path(tmp_path / "two.log").is_file()


def test_an_error_ends_what_runs_side_by_side(tmp_path):
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    runs = []

    def fail_once_they_run():
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        with side_by_side(2) as pool:
            runs.extend(pool.submit(run_child, sleeper, log, timeout_s=500) for log in logs)
            while not all(log.exists() for log in logs):
                time.sleep(0.05)
            raise KeyError

    with pytest.raises(KeyError):
        fail_once_they_run()
    assert all(run.result()[0] < 0 for run in runs)


def test_the_reward_stage_and_a_bare_client_ask_the_same():
    some = gpu_reward.pairs(6, seed=0)
    with serving() as url:
        for asked, way in ((6, gpu_reward.reward_stage), (12, gpu_reward.bare_client)):
            assert way(url, "mock")(some) > 0
            assert stats_of(url)["ok"] == asked
            assert stats_of(url)["distinct_prompts"] == 6
    with serving("--schedule=http400") as url, pytest.raises(RuntimeError, match="0 of 6 solutions got a reward"):
        gpu_reward.reward_stage(url, "mock")(some)


def test_rl_takes_the_tiny_models_of_one_demonstration(tmp_path):
    with pytest.raises(FileNotFoundError, match="--demo"):
        _ = gpu.Bench(tmp_path).tiny
    with pytest.raises(FileNotFoundError, match=r"0 of policy-\*, one is needed"):
        _ = gpu.Bench(tmp_path, demo=tmp_path).tiny
    for part in ("policy-a", "prm-cot-b/training/export", "generator-c", "verifier-d", "verifier-e"):
        (tmp_path / part).mkdir(parents=True)
    bench = gpu.Bench(tmp_path, demo=tmp_path)
    assert bench.tiny == (tmp_path / "policy-a", tmp_path / "prm-cot-b/training/export")
    with pytest.raises(FileNotFoundError, match=r"2 of verifier-\*"):
        _ = bench.stage1_models
    (tmp_path / "verifier-e").rmdir()
    with pytest.raises(FileNotFoundError, match=r"0 of base-\*, one is needed"):
        _ = bench.base
    assert bench.stage1_models == Stage1Models(tmp_path / "generator-c", tmp_path / "verifier-d", None)


class Taken(Exception):
    """The overrides of a training that was not started."""


def taken(monkeypatch, part, bench):
    """The overrides with which a part would start its trainer."""

    def trainer(self, name, command, overrides, **_):
        raise Taken(*overrides)

    with monkeypatch.context() as patch:
        patch.setattr(gpu.Bench, "trainer", trainer)
        patch.setattr(gpu, "_memory", lambda _: nullcontext())
        patch.setattr(gpu, "_server", lambda *_: nullcontext("http://localhost:1/v1"))
        with pytest.raises(Taken) as found:
            gpu.PARTS[part].measure(bench)
    return found.value.args


@pytest.fixture
def bench(tmp_path):
    """With empty folders for the demonstration's models and for the data of the part `stage1`."""
    cache, picked = tmp_path / "cache", tmp_path / "out" / "stage1" / "data" / "sft" / "step"
    for folder in (cache / "base-a", cache / "policy-a", cache / "prm-cot-b" / "training" / "export", picked):
        folder.mkdir(parents=True)
    return gpu.Bench(tmp_path / "out", demo=cache)


@pytest.mark.parametrize(
    ("part", "serving"),
    [("rl", "colocate"), ("rl_pool", "pool"), ("rl_external", "external"), ("rl_selective", "colocate")],
)
def test_a_training_on_a_gpu_is_one_that_our_checks_take(part, serving, bench, monkeypatch):
    config = composed("ppo_trainer", taken(monkeypatch, part, bench))
    assert engage(config).serving == serving
    assert config.reward.reward_model.enable_resource_pool is (serving == "pool")


def test_stage_2_on_a_gpu_is_the_demonstrations_but_for_the_platform(bench, monkeypatch):
    ours = sft.composed(sft.overrides_of("spark_prmcot", taken(monkeypatch, "prm", bench)))
    theirs = []
    monkeypatch.setattr(stage2, "run_command", lambda _, __, overrides, **___: theirs.extend(overrides) or Run(0))
    stage2.train_prm(bench.base, bench.picked, Kind.PRM_COT, bench.folder / "prm" / "run")
    demos = sft.composed(sft.overrides_of("spark_prmcot", theirs))
    SftSettings.from_config(ours)
    assert ours.model.override_config.attn_implementation == "sdpa" or find_spec("flash_attn")
    assert ours.data.max_token_len_per_gpu >= demos.data.max_token_len_per_gpu  # a step in one piece, here as there
    platform = ("override_config", "use_remove_padding", "use_fused_kernels", "enable_gradient_checkpointing")
    for config in (ours, demos):
        with open_dict(config):
            del config.data["max_token_len_per_gpu"]
            for key in platform:
                config.model.pop(key, None)
    assert OmegaConf.to_container(ours) == OmegaConf.to_container(demos)


def test_stage_2_trains_anew_and_rl_takes_its_model(bench, monkeypatch):
    old = bench.folder / "prm" / "old"
    old.mkdir(parents=True)
    asked = []

    def trainer(self, *_, **__):
        self.exported("prm").mkdir(parents=True)
        return Run(0, metrics=[{"train/loss": 1.0}])

    def child(self, name, command, timeout_s):
        asked.append(command[2:])
        (self.folder / name).mkdir()
        (self.folder / name / "result.json").write_text('{"items": 400}')

    monkeypatch.setattr(gpu.Bench, "trainer", trainer)
    monkeypatch.setattr(gpu.Bench, "child", child)
    monkeypatch.setattr(gpu, "_times", lambda _: [])
    monkeypatch.setattr(gpu, "sft_figures", lambda *_: {"steps": 1})
    found = gpu.PARTS["prm"].measure(bench)
    assert not old.exists()
    assert found["held out"] == {"items": 400}
    assert found["training"]["steps"] == 1
    made = bench.folder / "prm" / "run" / "export"
    ((module, model, folder, *options),) = asked
    assert (module, model, folder) == ("benchmarks.gpu_task", str(made), str(bench.folder / "prm" / "held_out"))
    measured = get_command(measuring).make_context("gpu_task", [model, folder, *options]).params
    assert (measured["items"], measured["context"], measured["reply_tokens"]) == (400, 384, 192)
    overrides = taken(monkeypatch, "rl", bench)
    assert f"reward.reward_model.model_path={made}" in overrides


def test_stage_2_says_what_it_lacks(bench):
    bench.picked.rmdir()
    with pytest.raises(FileNotFoundError, match="the part stage1 has made no data yet; run it first"):
        gpu.PARTS["prm"].measure(bench)


DEMOS = {"stage1", "prm", "rl", "rl_pool", "rl_external", "rl_selective", "reward"}


@pytest.mark.parametrize(
    ("given", "count", "left_out"),
    [
        ((), 1, gpu.PARTS.keys() - {"doctor"}),
        (("--model", "--demo"), 1, {"processbench", "rl_pool"}),
        (("--model", "--demo"), 2, {"processbench"}),
        (("--model", "--processbench"), 1, DEMOS),
        (("--model", "--demo", "--processbench"), 2, set()),
    ],
)
def test_what_lacks_a_folder_or_a_gpu_is_left_out_and_that_is_said(given, count, left_out, tmp_path, monkeypatch):
    run = []
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(gpu, "gpus", lambda: count)
    monkeypatch.setattr(gpu, "run_part", lambda name, _: not run.append(name))
    folders = [word for option in given for word in (option, tmp_path)]
    started = start("--folder", tmp_path, *folders)
    assert started.exit_code == 0
    assert run == [name for name in gpu.PARTS if name not in left_out]
    (said,) = [line for line in started.output.splitlines() if line.startswith("left out: ")] or [""]
    assert all(f"{name} (takes " in said for name in left_out)
    assert said.count("(takes ") == len(left_out)


def test_a_part_that_is_named_is_started_whatever_it_lacks(tmp_path, monkeypatch):
    run = []
    monkeypatch.setattr(gpu, "gpus", lambda: 1)
    monkeypatch.setattr(gpu, "run_part", lambda name, _: not run.append(name))
    started = start("--folder", tmp_path, "--parts", "rl_pool,doctor")
    assert started.exit_code == 0
    assert run == ["doctor", "rl_pool"]
    assert "left out" not in started.output


def test_stage_1_on_a_gpu_is_verl_spark_data_with_its_own_share_of_memory(tmp_path, monkeypatch):
    """The command lines are read as the commands read them; what the calls would have left is put there."""
    for part in ("generator-c", "verifier-d"):
        (tmp_path / part).mkdir()
    asked = []

    def child(self, name, command, timeout_s):
        at = command.index("data")
        config = DataConfig.load(
            Path(command[at + 2].partition("=")[2]), [key for key in command[at + 3 :] if key[0] != "-"]
        )
        asked.append((command[at + 1], config))
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / "records").mkdir(exist_ok=True)
        (config.output / "records" / "single.jsonl").touch()
        (config.output / "cost.json").write_text(json.dumps({"total": {"calls": 9}, "methods": {"step": {"kept": 3}}}))
        line = {"method": "step", "label": "outcome", "truth": "right", "accuracy": None}
        (config.output / "quality.json").write_text(json.dumps({"accuracy": [line]}))

    monkeypatch.setattr(gpu.Bench, "child", child)
    found = gpu.stage1(gpu.Bench(tmp_path / "out", demo=tmp_path))
    assert found == {"cost": {"calls": 9}, "kept": {"step": 3}, "accuracy": {"step, outcome, right": None}}
    assert [name for name, _ in asked] == ["run", "quality"]
    for _, config in asked:
        assert [role.engine.vllm["gpu_memory_utilization"] for role in (config.generator, config.verifier)] == [
            0.2,
            0.2,
        ]
        assert config.verifier.engine.vllm["dtype"] == "bfloat16"
