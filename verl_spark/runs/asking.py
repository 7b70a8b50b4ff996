"""Asking what is owed: every answer is kept before anything depends on it, and nothing is asked twice.

A call that failed in a way that may pass is owed and asked again by the next run; one that cannot succeed is set aside
with its cause and never asked again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verl_spark.runs.calls import Call
from verl_spark.runs.journal import Sample
from verl_spark.runs.store import Store
from verl_spark.verifier.client import CallFailed, Reply
from verl_spark.verifier.engine import Engine

logger = logging.getLogger(__name__)


@dataclass
class Asked:
    """What a run has asked so far."""

    requests: int = 0
    samples: int = 0
    completion_tokens: int = 0
    failed: int = 0
    """Requests that failed and are owed; the next run asks them again."""
    set_aside: int = 0
    """Requests that failed for good."""
    last_failure: str = ""


class Asker:
    """Sees to calls, of the stages in `allowed` only, and counts them in `progress`."""

    def __init__(
        self,
        store: Store,
        engines: Mapping[str, Engine],
        allowed: Collection[str],
        progress: Asked,
        report: Callable[[], None] = lambda: None,
    ) -> None:
        """`engines` by stage; `report` is called whenever the progress has changed."""
        self._store = store
        self._engines = engines
        self._allowed = allowed
        self._progress = progress
        self._report = report
        self._under_way: dict[str, asyncio.Future[bool]] = {}

    async def ask(self, call: Call, place: str) -> bool:
        """True when the call is finished or has failed for good, False while it is owed.

        `place` says where its texts were read. Cancelling it loses the request in flight only."""
        if not self._store.owed(call):
            return True
        if call.stage not in self._allowed:
            return False
        if call.key in self._under_way:  # the same texts again, under another id
            return await self._under_way[call.key]
        self._under_way[call.key] = seen_to = asyncio.get_running_loop().create_future()
        try:
            done = await self._send(call, place)
            seen_to.set_result(done)
        finally:
            del self._under_way[call.key]
            seen_to.cancel()  # of no effect on a result
        self._report()
        return done

    async def _send(self, call: Call, place: str) -> bool:
        try:
            while owed := self._store.owed(call):  # an engine may give fewer samples than asked for
                first = call.n - owed
                self._progress.requests += 1
                replies = await self._engines[call.stage].sample(call.message(), call.sampling_from(first), owed)
                self._keep(call, first, replies)
        except CallFailed as error:
            self._progress.last_failure = str(error)
            logger.info("%s of %s failed: %s", call.stage, place, error)
            if not error.permanent:
                self._progress.failed += 1
                return False
            self._progress.set_aside += 1
            self._store.fail(call, str(error), place)
        return True

    def _keep(self, call: Call, first: int, replies: Sequence[Reply]) -> None:
        samples = [
            Sample(
                index=index,
                text=reply.text,
                finish_reason=reply.finish_reason,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                seconds=round(reply.seconds, 3) if index == first else 0.0,
            )
            for index, reply in enumerate(replies, first)
        ]
        self._store.finish(call, samples)
        self._progress.samples += len(samples)
        self._progress.completion_tokens += sum(sample.completion_tokens for sample in samples)


async def in_window(
    works: AsyncIterator[Coroutine[Any, Any, None]], window: int, tick: Callable[[], None] = lambda: None
) -> None:
    """Does all works, at most `window` at a time, and calls `tick` after each. The first error ends the others."""
    running: set[asyncio.Task[None]] = set()
    try:
        async for work in works:
            running.add(asyncio.create_task(work))
            while len(running) >= window:
                running = await _next_done(running)
                tick()
        while running:
            running = await _next_done(running)
            tick()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _next_done(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """The tasks that are left when at least one has ended. Raises the error of one that failed."""
    done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return left
