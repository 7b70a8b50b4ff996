"""The README says what the code does: its tables, its commands, its names."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from verl_spark import reference
from verl_spark.cli.main import app
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
    } <= set(MANAGERS)


@pytest.mark.parametrize("command", ["settings", "metrics", "version"])
def test_the_command_line_prints_the_tables(command):
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 0
    assert result.output.strip()
