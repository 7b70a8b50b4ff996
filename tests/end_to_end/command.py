"""Our command line in a process of its own, so that vLLM and Ray leave nothing in the test's."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from verl_spark.platforms.cpu.overrides import environment


def verl_spark(*arguments: Any, timeout_s: float = 800) -> str:
    """What `verl-spark` prints with these arguments, on the CPU platform; fails with its output if it fails."""
    command = [str(Path(sys.executable).with_name("verl-spark")), *map(str, arguments)]
    variables = {**os.environ, **environment()}
    run = subprocess.run(command, env=variables, timeout=timeout_s, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    return run.stdout
