"""Examples in documents and docstrings do what they say."""

import doctest
import importlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.mock_server import serving
from tests.docs.pages import PAGES, ROOT, Page
from tests.report import made
from verl_spark.rewards.credit import MarkedStep, Rollouts
from verl_spark.settings import SparkSettings

PAGE = Page(ROOT / "docs" / "extending.md")
BLOCKS = [
    pytest.param(code, id=f"{page}-{place}") for page in PAGES for place, code in enumerate(page.blocks("python"))
]
SERVER = "http://localhost:8000/v1"
WITH_EXAMPLES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "verl_spark").rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.fixture(scope="module")
def server():
    with serving() as url:
        yield url


@pytest.mark.parametrize("code", BLOCKS)
async def test_a_python_block_runs(code, tmp_path, server):
    """As a program of its own, in a folder that has the run of which some speak, with their server at another place."""
    await made.run(tmp_path / "outputs" / "my_run")
    program = tmp_path / "shown_block.py"
    program.write_text(code.replace(SERVER, server))
    run = subprocess.run([sys.executable, program.name], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_own_design_is_one(tmp_path, monkeypatch):
    (code,) = (block for block in PAGE.blocks("python") if "UpToFirstError" in block)
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
