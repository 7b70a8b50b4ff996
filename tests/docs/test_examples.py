"""Examples in documents and docstrings do what they say."""

import doctest
import importlib

import numpy as np
import pytest

from tests.docs.pages import ROOT, Page
from verl_spark.rewards.credit import MarkedStep, Rollouts
from verl_spark.settings import SparkSettings

EXTENDING = Page(ROOT / "docs" / "extending.md").blocks("python")
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "verl_spark").rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.mark.parametrize("code", EXTENDING, ids=range(len(EXTENDING)))
def test_a_python_block_runs(code, tmp_path, monkeypatch):
    (tmp_path / "shown_block.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "shown_block", raising=False)
    importlib.import_module("shown_block")


def test_the_own_design_is_one(tmp_path, monkeypatch):
    (code,) = (block for block in EXTENDING if "UpToFirstError" in block)
    (tmp_path / "my_designs.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    credit = SparkSettings(design="my_designs:FIRST_ERROR").credit
    steps = [[MarkedStep(0, 2, True), MarkedStep(2, 3, False)], [MarkedStep(0, 1, False)]]
    found = credit.advantages(Rollouts(["a", "a"], [1.0, 0.0], np.ones((2, 4), dtype=bool), steps))
    assert (found.advantages != 0).tolist() == [[True, True, True, False], [True, False, False, False]]
    assert (found.silenced != (found.advantages != 0)).all()


def test_examples_in_docstrings():
    assert WITH_EXAMPLES
    for name in WITH_EXAMPLES:
        result = doctest.testmod(importlib.import_module(name), raise_on_error=False)
        assert result.attempted > 0, name
        assert result.failed == 0, name
