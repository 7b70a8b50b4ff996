"""The presets on verl's own SFT config, and the command that is run."""

import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from tests.prm import made
from verl_spark.cli.main import app
from verl_spark.platforms.cpu.overrides import SFT_CPU_OVERRIDES
from verl_spark.prm.launch import command, composed, overrides_of
from verl_spark.prm.settings import PRESETS, SftSettings
from verl_spark.settings import SettingsError


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_choice_on_verls_own_config(preset):
    before, after = composed([]), composed([f"+sft={preset}", "spark.data=d", "trainer.seed=5"])
    settings = SftSettings.from_config(after)
    assert settings.kind is PRESETS[preset]
    assert after.data.train_files == f"d/{settings.kind.value}/train.parquet"
    assert (after.data.seed, after.engine.seed) == (5, 5)
    assert "spark" not in before
    changed = {key for key in after if key != "spark" and after[key] != before[key]}
    assert changed == {"model", "data", "optim", "engine", "trainer"}


def test_the_command_line_wins_over_the_preset():
    config = composed(["+sft=spark_prm", "optim.lr=3", "data.custom_cls.name=Mine", "data.max_length=9"])
    assert (config.optim.lr, config.data.custom_cls.name, config.data.max_token_len_per_gpu) == (3, "Mine", 9)


def test_a_misspelt_preset_or_key_is_refused_with_what_there_is():
    with pytest.raises(SettingsError, match=r"(?s)spark_prmkot.*spark_prmcot"):
        composed(["+sft=spark_prmkot"])
    with pytest.raises(SettingsError, match=r"optim\.lrr"):
        composed(["+sft=spark_prm", "optim.lrr=1"])


def test_the_command_is_verls_own_with_the_same_overrides():
    given = overrides_of("spark_orm", ["model.path=m", "spark.data=d"])
    made_of = command(composed(given), given)
    assert made_of[:5] == [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1"]
    assert made_of[5:] == ["-m", "verl.trainer.sft_trainer", "+sft=spark_orm", "model.path=m", "spark.data=d"]


def test_processes_and_nodes_are_those_of_verls_keys():
    config = composed(["+sft=spark_orm", "trainer.n_gpus_per_node=8", "trainer.nnodes=2"])
    assert "--nproc-per-node=8" in command(config, [], "a:1")
    assert {"--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=a:1"} <= set(command(config, [], "a:1"))
    with pytest.raises(SettingsError, match="--rendezvous HOST:PORT"):
        command(config, [])


def test_on_the_cpu_platform_its_overrides_come_before_the_users(monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    given = overrides_of("spark_orm", ["engine.strategy=fsdp"])
    assert given == ["+sft=spark_orm", *SFT_CPU_OVERRIDES, "engine.strategy=fsdp"]
    assert composed(given).engine.strategy == "fsdp"
    monkeypatch.delenv("VERL_PLATFORM")
    assert overrides_of("spark_orm", []) == ["+sft=spark_orm"]


def test_every_setting_is_explained():
    assert [name for name, field in SftSettings.model_fields.items() if not field.description] == []


def test_check_prints_the_trained_tokens(model, data):
    small = [f"model.path={model}", f"spark.data={data}", "data.train_batch_size=4"]
    result = CliRunner().invoke(app, ["train", "check", "prmcot", *small])
    assert result.exit_code == 0, result.output
    assert "tokens are trained, from '#' to '<|im_end|>'" in result.output.replace("\n", " ")
    assert "## Step 1" in result.output


@pytest.mark.parametrize(("kind", "says"), [("prmkot", "there are: orm, prm, prmcot, thinkprm"), ("prm", "spark.data")])
def test_the_command_refuses_in_a_line(model, kind, says):
    result = CliRunner().invoke(app, ["train", "check", kind, f"model.path={model}"])
    assert result.exit_code == 2
    assert says in result.output.replace("\n", " ")


def test_settings_are_printed():
    assert "check_data" in CliRunner().invoke(app, ["train", "settings"]).output


def test_verls_own_command_refuses_before_anything_is_written(tmp_path, data):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cwd").mkdir()
    overrides = [f"model.path={tmp_path}/empty", f"spark.data={data}", "data.truncation=left"]
    run = subprocess.run(
        [sys.executable, "-m", "verl.trainer.sft_trainer", "+sft=spark_prmcot", *overrides],
        env={**os.environ, "VERL_PLATFORM": "cpu", "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path / "cwd",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode != 0
    assert "without config.json" in run.stderr
    assert "data.truncation=left" in run.stderr
    assert "Traceback" not in run.stderr
    assert list((tmp_path / "cwd").iterdir()) == []


def test_the_config_shows_what_it_trains():
    config = composed(["+sft=spark_prmcot", "spark.data=d"])
    assert OmegaConf.to_container(config.spark, resolve=True)["export"] == "checkpoints/spark_sft/prm_cot/export"
    assert made.PRESET[PRESETS["spark_prmcot"]] == "spark_prmcot"
