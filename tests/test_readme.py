"""The README says what the code does: its tables, its commands, its names."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from verl_spark import reference
from verl_spark.cli.main import app
from verl_spark.rewards.credit import MarkedStep, Rollouts
from verl_spark.settings import MANAGERS, SparkSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_settings_table_is_that_of_the_code():
    assert reference.markdown(reference.settings(), "`reward.spark.…`", "default", "meaning") in README


def test_the_metrics_table_is_that_of_the_code():
    assert reference.markdown(reference.metrics(), "metric", "meaning") in README


def test_every_setting_says_what_it_means():
    assert all(entry.meaning for entry in reference.settings())


def test_make_targets_that_the_readme_names_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= targets


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"`((?:verl_spark|examples|benchmarks|requirements|docs)/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


def test_option_names_in_the_readme_exist():
    names = {entry.name for entry in reference.settings()} | {"verifier"} | set(SparkSettings.model_fields)
    for name in re.findall(r"reward\.spark\.([a-z_.]+[a-z])", README):
        assert name in names, name


def test_managers_in_the_readme_are_those_there_are():
    assert set(re.findall(r"`(?:reward\.reward_manager\.name=)?(spark_[a-z]+)`", README)) - {
        "spark_missing",
        "spark_verdict",
        "spark_padding",
        "spark_verification",
    } <= set(MANAGERS)


def test_presets_in_the_readme_exist():
    folder = ROOT / "verl_spark" / "conf" / "reward_model"
    for name in re.findall(r"`(?:reward_model=)?(spark_(?:prmcot|rlvr)_[a-z_]+)`", README):
        assert (folder / f"{name}.yaml").exists(), name


def test_the_readmes_own_design_is_one(tmp_path, monkeypatch):
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "UpToFirstError" in block)
    (tmp_path / "my_designs.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    credit = SparkSettings(design="my_designs:FIRST_ERROR").credit
    steps = [[MarkedStep(0, 2, True), MarkedStep(2, 3, False)], [MarkedStep(0, 1, False)]]
    found = credit.advantages(Rollouts(["a", "a"], [1.0, 0.0], np.ones((2, 4), dtype=bool), steps))
    assert (found.advantages != 0).tolist() == [[True, True, True, False], [True, False, False, False]]
    assert (found.silenced != (found.advantages != 0)).all()


@pytest.mark.parametrize("command", ["settings", "metrics", "version"])
def test_the_command_line_prints_the_tables(command):
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 0
    assert result.output.strip()
