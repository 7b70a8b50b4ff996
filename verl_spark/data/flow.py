"""The flow: problems go through all stages at once, a bounded number of them at a time, and no one waits for another.

`runs.asking` asks and keeps; what could not be asked is owed to the next run."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.references import read_references
from verl_spark.data.selection import stages
from verl_spark.data.way import Way
from verl_spark.files import replacing
from verl_spark.runs.asking import Asked, Asker, in_window
from verl_spark.runs.calls import Call
from verl_spark.runs.cost import Stopwatch
from verl_spark.runs.problems import Problem, read_problems
from verl_spark.runs.rows import BadRow
from verl_spark.runs.store import Store
from verl_spark.settings import SettingsError
from verl_spark.verifier.engine import Engine, open_engine

BAD_ROWS_FILE = "bad_rows.jsonl"


@dataclass
class Progress(Asked):
    """What a run has done so far."""

    problems: int = 0
    bad_rows: int = 0


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
        self._report = report
        self._asker = Asker(store, engines, allowed, self.progress, lambda: report(self.progress))
        self._way = Way(config, store, self._ask, config.chosen)

    async def run(self) -> Progress:
        """Sees to every problem; what could not be finished is owed. Cancelling it loses requests in flight only."""
        watch = Stopwatch(self._config.output)
        try:
            with _bad_rows_file(self._config.output) as note:
                await in_window(self._works(note), self._config.window, watch.tick)
        finally:
            watch.stop()
        return self.progress

    async def _works(self, note: Callable[[BadRow], None]) -> AsyncIterator[Coroutine[Any, Any, None]]:
        references = references_of(self._config)
        problems = read_problems(self._config.problems)
        while problem := await asyncio.to_thread(next, problems, None):  # a download must not stop the rest
            if isinstance(problem, BadRow):
                self.progress.bad_rows += 1
                note(problem)
            else:
                yield self._problem(problem, references.get(problem.id))

    async def _problem(self, problem: Problem, reference: str | None) -> None:
        await self._way.walk(problem, reference, all_records=False)
        self.progress.problems += 1
        self._report(self.progress)

    async def _ask(self, call: Call, problem: Problem) -> bool:
        return await self._asker.ask(call, problem.source)


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


@contextmanager
def _bad_rows_file(folder: Path) -> Iterator[Callable[[BadRow], None]]:
    """Writes bad rows to a file that appears when all rows were read."""
    with replacing(folder / BAD_ROWS_FILE) as file:

        def note(row: BadRow) -> None:
            file.write(json.dumps({"row": row.place, "reason": row.reason}) + "\n")

        yield note
