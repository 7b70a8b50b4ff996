"""The way of one problem: solutions, verifications, critique and merge, records.

The same way is walked to work, where a call that is owed is asked for, and to select, where it is left out. So a
record is never made in two manners, and a run that was interrupted anywhere goes on from there."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from verl_spark.data.calls import Calls
from verl_spark.data.config import DataConfig
from verl_spark.data.methods import Method
from verl_spark.data.record import Record
from verl_spark.data.selection import dropped, refined, select, steps_of
from verl_spark.runs.calls import Call
from verl_spark.runs.problems import Problem
from verl_spark.runs.store import Store
from verl_spark.verification.reading import is_cut, without_thinking

Ask = Callable[[Call, Problem], Awaitable[bool]]
"""Sees to a call: True when it is finished or has failed for good, False while it is owed."""


class Way:
    """Walks problems of a config."""

    def __init__(self, config: DataConfig, store: Store, ask: Ask, methods: Sequence[Method]) -> None:
        self._config = config
        self._store = store
        self._ask = ask
        self._methods = methods
        self._calls = Calls(config)

    async def walk(self, problem: Problem, reference: str | None, all_records: bool) -> list[Record]:
        """Sees to all calls of a problem; the records of the solutions for which every call was seen to.

        Without `all_records` only those are made that further calls depend on. Without a `reference` the methods
        that show one have no record of this problem."""
        generate = self._calls.generate(problem)
        if not await self._ask(generate, problem):
            return []
        records: list[Record] = []
        works: list[Awaitable[list[Record]]] = []
        seen: set[str] = set()
        for sample in self._store.samples(generate):
            text = sample.text
            n_steps = steps_of(sample, seen)
            if isinstance(n_steps, str):
                records += [dropped(self._config, method, problem, text, n_steps) for method in self._methods]
                continue
            seen.add(text)
            plain = [method for method in self._methods if not method.reference]
            guided = [method for method in self._methods if method.reference]
            if plain:
                call = self._calls.verify(problem, text, n_steps)
                works.append(self._solution(problem, text, n_steps, call, plain, all_records))
            if guided and reference is not None:
                call = self._calls.reference(problem, text, n_steps, reference)
                works.append(self._solution(problem, text, n_steps, call, guided, all_records))
        for made in await asyncio.gather(*works):
            records += made
        return records

    async def _solution(
        self,
        problem: Problem,
        solution: str,
        n_steps: int,
        verify: Call,
        methods: Sequence[Method],
        all_records: bool,
    ) -> list[Record]:
        if not await self._ask(verify, problem):
            return []
        needed = [method for method in methods if all_records or method.refined]
        if not needed:
            return []
        samples = self._store.samples(verify)
        records = []
        for method in needed:
            record = select(self._config, method, problem, solution, n_steps, samples, verify.n)
            if method.refined and record.drop is None:
                whole = await self._refine(problem, record)
                if whole is None:
                    continue
                record = whole
            records.append(record)
        return records

    async def _refine(self, problem: Problem, record: Record) -> Record | None:
        """The record with its pick criticised and merged; None while a call is owed."""
        if record.text is None or record.n_steps is None:
            raise ValueError("there is no pick to refine")
        critique = self._calls.critique(problem, record.solution, record.text)
        if not await self._ask(critique, problem):
            return None
        remarks = next(iter(self._store.samples(critique)), None)
        if remarks is None or is_cut(remarks.finish_reason) or not without_thinking(remarks.text).strip():
            return refined(record, remarks, None)
        merge = self._calls.merge(problem, record.solution, record.n_steps, record.text, remarks.text)
        if not await self._ask(merge, problem):
            return None
        return refined(record, remarks, next(iter(self._store.samples(merge)), None))
