"""The flow: problems go through all stages at once, a bounded number of them at a time, and no one waits for another.

Every answer is journalled before anything depends on it. A call that failed in a way that may pass is owed and asked
again by the next run; one that cannot succeed is set aside with its cause and never asked again."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from verl_spark.data.calls import STAGES, Call
from verl_spark.data.config import DataConfig
from verl_spark.data.cost import Stopwatch
from verl_spark.data.files import replacing
from verl_spark.data.journal import Sample
from verl_spark.data.problems import Problem, read_problems
from verl_spark.data.references import read_references
from verl_spark.data.rows import BadRow
from verl_spark.data.selection import stages
from verl_spark.data.store import Store
from verl_spark.data.way import Way
from verl_spark.settings import SettingsError
from verl_spark.verifier.client import CallFailed, Reply
from verl_spark.verifier.engine import Engine, open_engine

logger = logging.getLogger(__name__)

BAD_ROWS_FILE = "bad_rows.jsonl"


@dataclass
class Progress:
    """What a run has done so far."""

    problems: int = 0
    bad_rows: int = 0
    requests: int = 0
    samples: int = 0
    completion_tokens: int = 0
    failed: int = 0
    """Requests that failed and are owed; the next run asks them again."""
    set_aside: int = 0
    """Requests that failed for good."""
    last_failure: str = ""


class Flow:
    """Asks what is owed, of the stages in `allowed` only."""

    def __init__(
        self,
        config: DataConfig,
        store: Store,
        engines: Mapping[str, Engine],
        allowed: Collection[str] = STAGES,
        report: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """`engines` by stage; `report` is called whenever the progress has changed."""
        self.progress = Progress()
        self._config = config
        self._store = store
        self._engines = engines
        self._allowed = allowed
        self._report = report
        self._under_way: dict[str, asyncio.Future[bool]] = {}
        self._way = Way(config, store, self._ask, config.chosen)

    async def run(self) -> Progress:
        """Sees to every problem; what could not be finished is owed. Cancelling it loses requests in flight only."""
        references = references_of(self._config)
        watch = Stopwatch(self._config.output)
        running: set[asyncio.Task[None]] = set()
        try:
            with _bad_rows_file(self._config.output) as note:
                problems = read_problems(self._config.problems)
                while problem := await asyncio.to_thread(next, problems, None):  # a download must not stop the rest
                    if isinstance(problem, BadRow):
                        self.progress.bad_rows += 1
                        note(problem)
                        continue
                    running.add(asyncio.create_task(self._problem(problem, references.get(problem.id))))
                    while len(running) >= self._config.window:
                        running = await _next_done(running)
                        watch.tick()
                while running:
                    running = await _next_done(running)
                    watch.tick()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            watch.stop()
        return self.progress

    async def _problem(self, problem: Problem, reference: str | None) -> None:
        await self._way.walk(problem, reference, all_records=False)
        self.progress.problems += 1
        self._report(self.progress)

    async def _ask(self, call: Call, problem: Problem) -> bool:
        if not self._store.owed(call):
            return True
        if call.stage not in self._allowed:
            return False
        if call.key in self._under_way:  # the same texts again, under another id
            return await self._under_way[call.key]
        self._under_way[call.key] = seen_to = asyncio.get_running_loop().create_future()
        try:
            done = await self._send(call, problem)
            seen_to.set_result(done)
        finally:
            del self._under_way[call.key]
            seen_to.cancel()  # of no effect on a result
        self._report(self.progress)
        return done

    async def _send(self, call: Call, problem: Problem) -> bool:
        try:
            while owed := self._store.owed(call):  # an engine may give fewer samples than asked for
                first = call.n - owed
                self.progress.requests += 1
                replies = await self._engines[call.stage].sample(call.message(), call.sampling_from(first), owed)
                self._keep(call, first, replies)
        except CallFailed as error:
            self.progress.last_failure = str(error)
            logger.info("%s of %s failed: %s", call.stage, problem.source, error)
            if not error.permanent:
                self.progress.failed += 1
                return False
            self.progress.set_aside += 1
            self._store.fail(call, str(error), problem.source)
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
        self.progress.samples += len(samples)
        self.progress.completion_tokens += sum(sample.completion_tokens for sample in samples)


def references_of(config: DataConfig) -> dict[str, str]:
    """References by problem id; nothing is read unless a method shows them to the verifier."""
    if config.references is None or not any(method.reference for method in config.chosen):
        return {}
    return dict(read_references(config.problems, config.references))


@asynccontextmanager
async def open_engines(config: DataConfig, allowed: Collection[str] = STAGES) -> AsyncIterator[dict[str, Engine]]:
    """The engines of the stages in `allowed` that the methods need; one for all stages that are configured alike."""
    settings = {
        "generate": config.generator.engine,
        "verify": config.verifier.engine,
        "reference": config.verifier.engine,
        "critique": config.critic_engine,
        "merge": config.critic_engine,
    }
    engines: dict[str, Engine] = {}
    async with AsyncExitStack() as stack:
        for stage in sorted({stage for method in config.chosen for stage in stages(method)} & set(allowed)):
            alike = next((known for known in engines if settings[known] == settings[stage]), None)
            if alike:
                engines[stage] = engines[alike]
                continue
            try:
                engine = open_engine(settings[stage])
            except ValueError as error:
                raise SettingsError([str(error)]) from None
            engines[stage] = await stack.enter_async_context(engine)
        yield engines


async def _next_done(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """The tasks that are left when at least one has ended. Raises the error of one that failed."""
    done, left = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return left


@contextmanager
def _bad_rows_file(folder: Path) -> Iterator[Callable[[BadRow], None]]:
    """Writes bad rows to a file that appears when all rows were read."""
    with replacing(folder / BAD_ROWS_FILE) as file:

        def note(row: BadRow) -> None:
            file.write(json.dumps({"row": row.place, "reason": row.reason}) + "\n")

        yield note
