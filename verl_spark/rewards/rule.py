"""The rule-based answer check of validation: math-verify, in a child process that a deadline can kill.

math-verify's own time-outs use signals, which do not work in the threads and event loops of a reward worker, and
a pathological expression can keep sympy busy for ever."""

import asyncio
import logging
import multiprocessing

from pebble import ProcessExpired, ProcessPool

logger = logging.getLogger(__name__)

DEADLINE_S = 20.0
"""For one answer; parsing and comparing takes milliseconds unless it takes for ever. Covers the child's start."""


def _equal(response: str, reference: str) -> bool:
    from math_verify import parse, verify  # imports sympy: in the child only

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-out is off; ours is on
    gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
    return bool(verify(gold, parse(response, parsing_timeout=None), timeout_seconds=None))


class AnswerChecker:
    """Compares answers with references. One child process, started when first needed."""

    def __init__(self) -> None:
        self._pool: ProcessPool | None = None

    async def is_correct(self, response: str, reference: str, answer: str | None = None) -> bool:
        """Whether the response's final answer equals `reference` mathematically.

        `answer` is the content of the response's box, if known: when it equals the reference as text, no process
        is asked. A check that runs into the deadline counts as not equal and is logged.
        """
        reference = reference.strip()
        if answer is not None and answer.strip() == reference:
            return True
        if self._pool is None:
            self._pool = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"))
        check = self._pool.schedule(_equal, args=(response, reference), timeout=DEADLINE_S)
        try:
            return await asyncio.wrap_future(check)
        except (TimeoutError, asyncio.TimeoutError, ProcessExpired):
            logger.warning("the answer check against %r ran into its %g s and counts as wrong", reference, DEADLINE_S)
            return False

    def close(self) -> None:
        """Ends the child process."""
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None
