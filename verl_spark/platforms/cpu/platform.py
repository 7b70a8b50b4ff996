"""The CPU as a verl platform (interface of verl 0.9.1: `verl.plugin.platform.PlatformBase`)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform import PlatformBase


class CpuDeviceId(str):
    """The current device, both for `tensor.to(id)` (reads "cpu") and for f"{device_name}:{id}" (reads "cpu:0").

    verl 0.9.1 uses the id in both ways; an integer makes torch look for an accelerator, "cpu:cpu" is no device.
    """

    def __format__(self, spec: str) -> str:
        return format(0, spec)


class CpuDeviceModule(ModuleType):
    """`torch.cpu` with the functions that verl expects of `torch.cuda`; those about device memory do nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _device_module() -> ModuleType:
    module = CpuDeviceModule("verl_spark.platforms.cpu.device")
    functions: dict[str, Callable[..., Any]] = {
        "get_device_name": _constant("CPU"),
        "get_rng_state": lambda *args: torch.get_rng_state(),
        "set_rng_state": lambda state, *args: torch.set_rng_state(state),
        "manual_seed": torch.manual_seed,
        "manual_seed_all": torch.manual_seed,
        "mem_get_info": _constant((0, 0)),
    }
    functions |= dict.fromkeys(
        ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"), _constant(0)
    )
    functions |= dict.fromkeys(
        ("empty_cache", "ipc_collect", "reset_peak_memory_stats", "set_per_process_memory_fraction"), _constant(None)
    )
    vars(module).update(functions)
    return module


_DEVICE_MODULE = _device_module()


class PlatformCPU(PlatformBase):  # type: ignore[misc]  # verl ships no types
    """One CPU device per process. Ray schedules on *logical* GPUs: start it with `+ray_kwargs.ray_init.num_gpus=N`.

    verl 0.9.1 counts only the Ray resources GPU and NPU when it checks a resource pool ("Total available GPUs 0 is less
    than total desired GPUs 1"), so the platform uses that name.
    """

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    device_module = property(lambda self: _DEVICE_MODULE)

    def is_available(self) -> bool:
        return True

    def current_device(self) -> CpuDeviceId:
        return CpuDeviceId("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # Ray numbers its logical GPUs with it; nothing else reads it here

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False  # weights then travel to vLLM through shared memory

    def rollout_env_vars(self) -> dict[str, str]:
        """Settings of vLLM's CPU worker, unless the user set them."""
        defaults = {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # trainer and engine take turns on the same cores
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB per engine; its own default is half of the machine's memory
            # Lets the engine run its model in its own process (`distributed_executor_backend=uni`): vLLM's CPU platform
            # replaces "uni" by "mp" otherwise, only to pin threads, which is off here. One process less to start, and
            # no message queue left behind in /dev/shm.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        }
        return {name: os.environ.get(name, default) for name, default in defaults.items()}

    def cudart(self) -> None:
        return None
