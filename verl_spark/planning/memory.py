"""GPU memory by arithmetic: weights, KV cache and what an optimiser keeps. Activations are not modelled.

In GB of 10^9 bytes, as GPUs are sold. Measured numbers will be higher: CUDA, NCCL and graphs take a few GB of a GPU."""

from dataclasses import dataclass
from typing import Any

from verl_spark.settings import SettingsError
from verl_spark.versions import install

GB = 1e9
BYTES = 2
"""Of a number in bfloat16: weights and KV cache of an inference engine."""
STATE_BYTES = 16
"""Of a trained parameter under FSDP: weight, gradient and Adam's two moments, in single precision each."""
_ATTENTION = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class Shape:
    """What of a model decides its memory."""

    name: str
    parameters: int
    """Weights, tied ones once."""
    layers: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Serving:
    """An inference engine, in GB of all its GPUs together."""

    weights: float
    cache: float
    """Left for the KV cache; below 0 if the weights alone do not fit."""
    token: float
    """Of one token in the KV cache."""

    @property
    def tokens(self) -> int:
        """Tokens that the cache holds."""
        return max(0, int(self.cache / self.token))


def serving(shape: Shape, gpus: int, gpu_gb: float, utilization: float) -> Serving:
    """An engine of `gpus` GPUs by tensor parallelism, which may take the share `utilization` of each one's `gpu_gb`.

    A GPU holds a KV head at least, so with more GPUs than heads each head is held several times."""
    token = shape.layers * max(shape.kv_heads, gpus) * shape.head_dim * 2 * BYTES / GB  # 2: keys and values
    weights = shape.parameters * BYTES / GB
    return Serving(weights, gpus * gpu_gb * utilization - weights, token)


def states(shape: Shape, gpus: int) -> float:
    """GB on each of the GPUs among which FSDP shares weights, gradients and moments of a training of all weights."""
    return shape.parameters * STATE_BYTES / gpus / GB


def read_shape(model: str) -> Shape:
    """The shape of a model, from the config.json of its folder or hub id; no weight is read.

    Raises `SettingsError` if it cannot be had, or if its cache is not keys and values of each layer's heads."""
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise SettingsError(
            [f"memory is reckoned with transformers, which is not installed; {install('gpu', 'cpu')}"]
        ) from None
    try:
        config = AutoConfig.from_pretrained(model)
        text = config.get_text_config()
        with torch.device("meta"):  # the model's own code counts its weights; none is made
            made = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever transformers, the hub or a model's code raises: the user sees it by name
        fault = f"{type(error).__name__}: {_first_line(error)}"
        cure = "name a folder with one that transformers knows"
        raise SettingsError([f"{model}: its config.json cannot be used ({fault}); {cure}"]) from None
    if not _is_plain(text):
        raise SettingsError([f"{model}: its KV cache is not keys and values of each layer's heads; not modelled"])
    return Shape(
        name=model,
        parameters=sum(weight.numel() for weight in made.parameters()),
        layers=text.num_hidden_layers,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
    )


def _is_plain(text: Any) -> bool:
    """Whether every layer keeps keys and values of its heads (with sliding windows fewer of them than reckoned)."""
    kinds = set(getattr(text, "layer_types", None) or ())
    compressed = getattr(text, "kv_lora_rank", None)
    return hasattr(text, "num_attention_heads") and not compressed and kinds <= _ATTENTION


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
