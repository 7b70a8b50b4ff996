"""The CPU platform outside a run: what it costs when nobody asks for it, and what a process sees when asked."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("verl")


def python(code: str, **env: str) -> str:
    """Output of `code` in a fresh interpreter: both the platform and its hooks last as long as the process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **env}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("selector", [{}, {"VERL_PLATFORM": "nvidia"}])
def test_not_asked_for_it_changes_nothing(selector: dict[str, str]) -> None:
    code = """
import sys
from verl_spark.platforms.cpu import activate
before = len(sys.meta_path)
print(activate(), len(sys.meta_path) - before, "torch" in sys.modules, "verl" in sys.modules)
"""
    assert python(code, **selector) == "False 0 False False"


def test_asked_for_it_loads_neither_torch_nor_verl() -> None:
    code = """
import sys
from verl_spark.platforms.cpu import activate
print(activate(), activate(), "torch" in sys.modules, "verl" in sys.modules)
"""
    assert python(code, VERL_PLATFORM="cpu") == "True True False False"


def test_verl_sees_the_cpu_as_its_device() -> None:
    code = """
import verl
from verl_spark.platforms.cpu import activate
activate()
import torch
from importlib.metadata import version
from verl.utils.device import get_device_id, get_device_name
moved = torch.zeros(1).to(get_device_id()).device
named = torch.device(f"{get_device_name()}:{get_device_id()}")
print(get_device_name(), moved, named, version("vllm").endswith("+cpu"))
"""
    assert python(code, VERL_PLATFORM="cpu").splitlines()[-1] == "cpu cpu cpu:0 True"
