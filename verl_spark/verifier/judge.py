"""One judge for a whole run: every question is asked once, by one client, with one limit.

A greedy verifier answers the same question in the same way, so a question that was judged, or is being judged,
is not asked again. The judge is plain asyncio; `verl_spark.rl.judge_actor` puts it into a Ray actor, so that the
limit and the memory are shared by all reward workers."""

import asyncio
import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from verl_spark.verification.kinds import Kind
from verl_spark.verifier.client import CallFailed, Client, PromptTooLong, Sampling
from verl_spark.verifier.outcome import Cause, Cost, Outcome, Undecided, outcome_of

REMEMBERED = 200_000
"""Outcomes kept, oldest forgotten first: about 50 steps of the paper's 4,096 calls, some 100 MB."""


@dataclass(frozen=True)
class Question:
    """A rendered verifier prompt: token ids where we tokenise, text where the server does."""

    prompt: str | Sequence[int]
    kind: Kind

    def key(self) -> bytes:
        """Content hash: order, time and the asking worker play no part."""
        body = self.prompt.encode() if isinstance(self.prompt, str) else array("q", self.prompt).tobytes()
        return hashlib.sha256(self.kind.value.encode() + b"\0" + body).digest()


@dataclass(frozen=True)
class Answer:
    """The outcome of a question, and whether it was known (or under way) when the question came."""

    outcome: Outcome
    cached: bool = False


class Judge:
    """Asks a verifier through `client` and reads what it replies."""

    def __init__(self, client: Client, sampling: Sampling) -> None:
        self._client = client
        self._sampling = sampling
        self._known: OrderedDict[bytes, Outcome] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[Outcome]] = {}

    async def judge(self, question: Question) -> Answer:
        """The outcome of `question`; never raises for what a verifier or a network can do."""
        if self._sampling.temperature > 0:  # another sample may say something else: ask
            return Answer(await self._ask(question))
        key = question.key()
        if key in self._known:
            self._known.move_to_end(key)
            return Answer(self._known[key], cached=True)
        if key in self._under_way:
            return Answer(_free(await asyncio.shield(self._under_way[key])), cached=True)
        task = self._under_way[key] = asyncio.create_task(self._ask(question))
        try:
            outcome = await asyncio.shield(task)
        finally:
            if task.done():
                del self._under_way[key]
            else:  # our caller was cancelled; others may wait for the answer
                task.add_done_callback(lambda _: self._under_way.pop(key, None))
        if not (isinstance(outcome, Undecided) and outcome.cause is Cause.FAILED):  # a failure may pass
            self._known[key] = _free(outcome)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return Answer(outcome)

    async def _ask(self, question: Question) -> Outcome:
        try:
            reply = await self._client.complete(question.prompt, self._sampling)
        except PromptTooLong as error:
            return Undecided(Cause.TOO_LONG, str(error))
        except CallFailed as error:
            return Undecided(Cause.FAILED, str(error))
        cost = Cost(reply.prompt_tokens, reply.completion_tokens, reply.seconds, reply.attempts)
        return outcome_of(reply.text, reply.finish_reason, question.kind, cost)


def _free(outcome: Outcome) -> Outcome:
    """The same outcome at no cost, and without its text: both are with the first who asked."""
    return replace(outcome, cost=Cost(), reply="")
