"""Asking one model for samples, wherever it runs: one interface, three engines, the same replies.

    async with open_engine(settings) as engine:
        replies = await engine.sample("What is 2 + 3?", Sampling(max_tokens=64, temperature=0.7, seed=1), n=8)

`server` is `client.Client`, `vllm` is `vllm_engine.VllmEngine`, `ray` is `ray_engine.RayEngine`. Neither vLLM nor Ray
is imported before an engine that needs it is opened."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from verl_spark.settings import BaseUrl, Node, Seconds, VariableName
from verl_spark.verifier.client import CallFailed, Client, Reply, Sampling
from verl_spark.verifier.limits import Limits
from verl_spark.versions import mixture

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]

_TENSOR = "tensor_parallel_size"
_SIZES = (_TENSOR, "pipeline_parallel_size")
_ROOM = "max_model_len"


class EngineDied(CallFailed):
    """The engine is gone, and every request to it fails until it is started again."""


class Engine(Protocol):
    """Asks one model for samples. An async context manager, used inside one event loop."""

    async def sample(self, message: str, sampling: Sampling, n: int, /) -> list[Reply]:
        """Up to `n` replies to `message` as one user turn, at least one, in order; all from one request.

        With `sampling.seed = s`, sample i has the seed s + i: asking later for what is missing from sample k on, with
        the seed s + k, gives the same. vLLM refuses n > 1 at temperature 0. Raises `CallFailed`, whose `permanent`
        says whether asking again can help.
        """
        ...

    async def __aenter__(self) -> "Engine": ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EngineSettings(Node):
    """A model, and where and how it runs. Keys of another kind than the chosen one are not read."""

    kind: Literal["server", "vllm", "ray"] = "server"
    """`server`: OpenAI-compatible servers that are up already; `vllm`: vLLM in this process; `ray`: replicas of the
    same on a Ray cluster."""
    model: str
    """Name under which the servers offer the model; of `vllm` and `ray`, its folder or its Hugging Face name."""
    max_concurrency: PositiveInt = 128
    """Requests in flight over all servers or replicas; each asks for all samples of one prompt."""
    deadline_s: Seconds = 7200.0
    """Seconds for one request with all its attempts, queueing included. It is asked again on the next start."""
    attempts: PositiveInt = 4
    """Times that one request is sent at most: to servers after faults that can pass, to replicas after a death."""
    base_urls: tuple[BaseUrl, ...] = ()
    """Servers of `server`, such as `[http://host:8000/v1]`; they share the requests. Start vLLM's with
    `--generation-config vllm`: the model's own defaults (top_k and the like) would be mixed into the sampling."""
    timeout_s: Seconds = 3600.0
    """Seconds for one attempt at a server, queueing in it included."""
    api_key_env: VariableName | None = None
    """Name of the environment variable with the servers' key; the key itself never stands in a config."""
    vllm: dict[str, Any] = Field(default_factory=dict)
    """Engine arguments of vLLM for `vllm` and `ray`, by its own names: `dtype`, `max_model_len`,
    `tensor_parallel_size`, `gpu_memory_utilization`, …"""
    replicas: PositiveInt = 1
    """Engines of `ray`."""
    num_gpus_per_replica: Amount = 1.0
    """GPUs that Ray reserves for a replica: `vllm.tensor_parallel_size` of them, or 0 without GPUs."""
    num_cpus_per_replica: Amount = 1.0
    """CPUs that Ray reserves for a replica."""
    restarts: NonNegativeInt = 3
    """Times that each replica is started again after it died."""
    ray_address: str | None = None
    """Cluster of `ray`, such as `auto`; null is the one this process is connected to, or a new one on this machine."""

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return math.prod(size for name in _SIZES if isinstance(size := self.vllm.get(name, 1), int))

    def cramped(self, own: str, key: str, max_tokens: int) -> Iterator[str]:
        """Why a reply as long as the setting `key` allows has no room beside a prompt; else nothing.

        `own` is the key of these settings."""
        room = self.vllm.get(_ROOM)
        if self.kind != "server" and isinstance(room, int) and 0 < room <= max_tokens:
            yield (
                f"{key}: a reply of {max_tokens} tokens has no room beside a prompt in {own}.vllm.{_ROOM}={room}; "
                "lower the first or raise the second"
            )

    def binding(self) -> dict[str, Any]:
        """What of it a restart in the same folder must repeat, as plain values: the model and its vLLM arguments."""
        return self.model_dump(mode="json", include={"model", "vllm"})

    @model_validator(mode="after")
    def _relations(self) -> "EngineSettings":
        if problems := list(self._contradictions()):
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        if self.kind == "server" and not self.base_urls:
            yield (
                "base_urls: kind=server needs at least one server; set base_urls=[http://host:8000/v1], or kind=vllm "
                "to run the model in this process"
            )
        if self.kind == "server" and self.timeout_s > self.deadline_s:
            yield (
                f"timeout_s: one attempt may take {self.timeout_s:g} s, but a whole request only "
                f"deadline_s={self.deadline_s:g} s; lower timeout_s or raise deadline_s"
            )
        if "model" in self.vllm:
            yield "vllm.model: the model is named by the key `model` beside `vllm`; leave vllm.model out"
        if self.kind == "ray" and 0 < self.num_gpus_per_replica < self.gpus != 1:
            split = ", ".join(f"vllm.{name}={self.vllm[name]}" for name in _SIZES if name in self.vllm)
            yield (
                f"num_gpus_per_replica: a replica takes {self.gpus} GPUs ({split}), and Ray gives it "
                f"{self.num_gpus_per_replica:g}; set num_gpus_per_replica={self.gpus}, or split the model less"
            )


def open_engine(settings: EngineSettings) -> Engine:
    """The engine of these settings, to be entered with `async with`; nothing is started or connected before that.

    Raises `ValueError` when `api_key_env` names a variable that is not set, and when vLLM cannot work in this
    environment, or with this model, as it is.
    """
    if settings.kind != "server" and (problems := list(_problems(settings))):
        raise ValueError("; ".join(problems))
    if settings.kind == "vllm":
        from verl_spark.verifier.vllm_engine import VllmEngine

        return VllmEngine(settings)
    if settings.kind == "ray":
        from verl_spark.verifier.ray_engine import RayEngine

        return RayEngine(settings)
    key = os.environ.get(settings.api_key_env) if settings.api_key_env else None
    if settings.api_key_env and not key:
        raise ValueError(
            f"api_key_env: the environment variable {settings.api_key_env} is not set; export the key in it"
        )
    return Client(
        settings.base_urls,
        settings.model,
        max_concurrency=settings.max_concurrency,
        timeout_s=settings.timeout_s,
        deadline_s=settings.deadline_s,
        attempts=settings.attempts,
        api_key=key,
    )


def _problems(settings: EngineSettings) -> Iterator[str]:
    """What vLLM would stumble over, as far as this environment and a local model's folder say it."""
    yield from (f"kind={settings.kind}: {problem}" for problem in mixture())
    try:
        limits = Limits.of(Path(settings.model).expanduser())
    except ValueError as error:
        yield f"model: {error}"
        return
    size = settings.vllm.get(_TENSOR, 1)
    if isinstance(size, int) and size > 0:
        yield from limits.undivided(settings.model, f"vllm.{_TENSOR}", size)
