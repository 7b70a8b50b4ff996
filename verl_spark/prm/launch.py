"""verl's SFT command for one of the presets: the same overrides as on verl's own command line."""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from verl_spark import configs
from verl_spark.configs import get
from verl_spark.platforms import cpu
from verl_spark.platforms.cpu.overrides import SFT_CPU_OVERRIDES
from verl_spark.settings import SettingsError

PRIMARY = "sft_trainer_engine"


def overrides_of(preset: str, given: Sequence[str]) -> list[str]:
    """All overrides of a run: the preset, on the CPU platform what it takes, and what the user gave, which wins."""
    return [f"+sft={preset}", *(SFT_CPU_OVERRIDES if cpu.is_requested() else ()), *given]


def composed(overrides: Sequence[str]) -> DictConfig:
    """verl's SFT config with these overrides. Raises `SettingsError` as `configs.composed` does."""
    return configs.composed(PRIMARY, overrides)


def command(config: DictConfig, overrides: Sequence[str], rendezvous: str | None = None) -> list[str]:
    """The command: torchrun with `trainer.n_gpus_per_node` processes on each of `trainer.nnodes` nodes.

    `rendezvous` is `HOST:PORT` of one of the nodes; all of them start the same command. Raises `SettingsError` when
    there are several nodes and none is named."""
    nodes, processes = get(config, "trainer.nnodes"), get(config, "trainer.n_gpus_per_node")
    if nodes == 1:
        place = ["--standalone"]
    elif rendezvous:
        place = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={rendezvous}"]
    else:
        raise SettingsError([f"trainer.nnodes={nodes}: name the place where the nodes meet, --rendezvous HOST:PORT"])
    torchrun = [sys.executable, "-m", "torch.distributed.run", *place, f"--nproc-per-node={processes}"]
    return [*torchrun, "-m", "verl.trainer.sft_trainer", *overrides]
