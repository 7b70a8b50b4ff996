"""The rule-based answer check of validation and RLVR: math-verify, in child processes that a deadline can kill.

math-verify's own time-outs use signals, which do not work in the threads and event loops of a reward worker, and
a pathological expression can keep sympy busy for ever."""

import asyncio
import concurrent.futures
import logging
import multiprocessing
from collections.abc import Sequence
from typing import Any

from pebble import ProcessExpired, ProcessPool

logger = logging.getLogger(__name__)

_UNFINISHED = (TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError, ProcessExpired)

DEADLINE_S = 20.0
"""For one answer; parsing and comparing takes milliseconds unless it takes for ever. Covers the child's start."""
_SMALL = 5e-6  # of a number below 1: what rounding to six digits may change


def _equal(response: str, reference: str) -> bool:
    from math_verify import parse, verify  # imports sympy: in the child only

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-out is off; ours is on
    gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
    found = parse(response, parsing_timeout=None)
    return bool(verify(gold, found, timeout_seconds=None)) and not _differ_small(gold, found)


def _differ_small(gold: Sequence[Any], found: Sequence[Any]) -> bool:
    """Whether these are different numbers near 0, of which math-verify holds any two equal; `gold` and `found` are what
    it has read."""
    try:
        one, other = complex(gold[0]), complex(found[0])
    except (IndexError, TypeError, ValueError, OverflowError):  # nothing read, or no number in the range of floats
        return False
    return 0 < abs(one) < 1 and abs(one - other) > _SMALL * abs(one)


class AnswerChecker:
    """Compares answers with references. `processes` children at most, started when first needed."""

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes
        self._pool: ProcessPool | None = None

    async def is_correct(self, response: str, reference: str, answer: str | None = None) -> bool:
        """As `compare`; a check that comes to no result counts as not equal."""
        return bool(await self.compare(response, reference, answer))

    async def compare(self, response: str, reference: str, answer: str | None = None) -> bool | None:
        """Whether the response's final answer equals `reference` mathematically; None if the deadline came first.

        `answer` is the content of the response's box, if known: when it equals the reference as text, no process
        is asked. A check without a result is logged.
        """
        reference = reference.strip()
        if answer is not None and answer.strip() == reference:
            return True
        try:
            return await asyncio.wrap_future(self._started(response, reference))
        except _UNFINISHED:
            _tell_unfinished(reference)
            return None

    def compare_all(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """For each (answer, reference) what `compare` says of it; waits, for callers without an event loop."""
        checks = [self._started(f"\\boxed{{{answer}}}", reference) for answer, reference in pairs]
        return [_result(check, reference) for check, (_, reference) in zip(checks, pairs, strict=True)]

    def _started(self, response: str, reference: str) -> "concurrent.futures.Future[bool]":
        if self._pool is None:
            self._pool = ProcessPool(max_workers=self._processes, context=multiprocessing.get_context("spawn"))
        return self._pool.schedule(_equal, args=(response, reference), timeout=DEADLINE_S)

    def close(self) -> None:
        """Ends the child processes."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None


def _result(check: "concurrent.futures.Future[bool]", reference: str) -> bool | None:
    try:
        return check.result()
    except _UNFINISHED:
        _tell_unfinished(reference)
        return None


def _tell_unfinished(reference: str) -> None:
    logger.warning("the answer check against %r came to no result within its %g s", reference, DEADLINE_S)
