"""Replicas of the in-process engine on a Ray cluster: the least loaded one answers, and none is missed when it dies.

A replica is an actor with a whole `VllmEngine`. When one dies, with its node or alone, its requests are asked again
elsewhere and it is started anew, `restarts` times. The requests of an engine go on as long as one replica is left."""

import asyncio
import logging
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from verl_spark.verifier.client import CallFailed, Reply, Sampling
from verl_spark.verifier.engine import EngineDied, EngineSettings
from verl_spark.verifier.vllm_engine import VllmEngine

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""Between two words about replicas that do not come up."""
STOP_S = 30.0
"""Longest wait for a replica that shall end its vLLM process before it is killed."""


@dataclass(eq=False)
class _Replica:
    actor: Any
    started: "asyncio.Task[None]"
    restarts_left: int
    in_flight: int = 0


class RayEngine:
    """Several `VllmEngine` as one; see `engine.Engine` for what `sample` promises."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._replicas: list[_Replica] = []
        self._owns_ray = False

    async def __aenter__(self) -> "RayEngine":
        """Starts Ray if need be and all replicas, and returns when the first is up. Raises `EngineDied` if it fails."""
        if not ray.is_initialized():
            ray.init(address=self._settings.ray_address)
            self._owns_ray = True
        try:
            self._replicas = [self._launch(self._settings.restarts) for _ in range(self._settings.replicas)]
            await self._first_start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def sample(self, message: str, sampling: Sampling, n: int) -> list[Reply]:
        """The `n` replies to `message`, all of one replica."""
        failure: CallFailed | RayActorError = EngineDied("no replica is left; the log says how they died")
        async with self._slots:
            for attempt in range(1, self._settings.attempts + 1):
                if not self._replicas:
                    break
                replica = min(self._replicas, key=lambda r: (not r.started.done(), r.in_flight))
                replica.in_flight += 1
                try:
                    await asyncio.shield(replica.started)  # it serves others too
                    replies: list[Reply] = await _result(replica.actor.sample.remote(message, sampling, n))
                    return [replace(reply, attempts=attempt) for reply in replies]
                except (RayActorError, EngineDied) as error:
                    self._lost(replica, failure := error)
                finally:
                    replica.in_flight -= 1
        raise EngineDied(f"{failure}") from failure

    async def _first_start(self) -> None:
        """Waits for the first replica, for as long as it takes: a cluster may grow. Says what it waits for."""
        starts = [replica.started for replica in self._replicas]
        while not (done := (await asyncio.wait(starts, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED))[0]):
            free = ray.available_resources()
            logger.warning(
                "no replica of %s is up yet. Each needs %g CPUs and %g GPUs, and the cluster has %g and %g free; if it "
                "does not grow, lower replicas, num_cpus_per_replica or num_gpus_per_replica",
                self._settings.model,
                self._settings.num_cpus_per_replica,
                self._settings.num_gpus_per_replica,
                free.get("CPU", 0),
                free.get("GPU", 0),
            )
        for task in done:
            task.result()

    def _launch(self, restarts_left: int) -> _Replica:
        actor = ray.remote(VllmEngine).options(
            num_cpus=self._settings.num_cpus_per_replica,
            num_gpus=self._settings.num_gpus_per_replica,
            max_concurrency=self._settings.max_concurrency + 1,  # and one to stop it
        )
        handle = actor.remote(self._settings)
        return _Replica(handle, asyncio.create_task(_start(handle)), restarts_left)

    def _lost(self, replica: _Replica, error: Exception) -> None:
        if replica not in self._replicas:  # another of its requests was here before
            return
        self._replicas.remove(replica)
        ray.kill(replica.actor)
        logger.warning("a replica died and is started %d more times: %s", replica.restarts_left, error)
        if replica.restarts_left:
            self._replicas.append(self._launch(replica.restarts_left - 1))

    async def _close(self) -> None:
        replicas, self._replicas = self._replicas, []
        up = [replica.actor for replica in replicas if replica.started.done()]
        for replica in replicas:
            replica.started.cancel()
        stops = [asyncio.wait_for(actor.stop.remote(), STOP_S) for actor in up]
        await asyncio.gather(*(replica.started for replica in replicas), *stops, return_exceptions=True)
        for replica in replicas:
            ray.kill(replica.actor)
        if self._owns_ray:
            ray.shutdown()
            self._owns_ray = False


async def _start(actor: Any) -> None:
    try:
        await _result(actor.start.remote())
    except Exception as error:  # whatever a model, its arguments or a machine can meet
        raise EngineDied(f"a replica did not start: {type(error).__name__}: {error}") from error


async def _result(reference: Any) -> Any:
    """What the actor's method returned; what it raised is raised here as it was there."""
    try:
        return await reference
    except RayTaskError as error:
        raise error.cause from None
