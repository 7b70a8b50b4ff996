"""From the text of one rollout to its reward: gate, render, one question, read, design.

Once through each room and no way back: nothing is read twice, nothing is rendered twice, and no call is made for
a reward that the gate already settled. Plain asyncio without Ray, so that a test or a script can call it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from verl_spark.rewards.chance import Place, coin
from verl_spark.rewards.credit import MarkedStep, marked
from verl_spark.rewards.designs import Baseline, Basis, Scored, State, ruled
from verl_spark.rewards.overlong import overlong_penalty
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rewards.spans import TokenSpan
from verl_spark.rl.row import Info, info_of, training_row, validation_row
from verl_spark.settings import SparkSettings
from verl_spark.verification.boxes import last_box
from verl_spark.verification.gate import Gate
from verl_spark.verification.policy_format import get_policy_format
from verl_spark.verification.prompts import verifier_message
from verl_spark.verification.rendering import render
from verl_spark.verification.steps import Span
from verl_spark.verifier.chat import Chat
from verl_spark.verifier.judge import Answer, Question
from verl_spark.verifier.outcome import Cause, Judged, Undecided

T = TypeVar("T")
Ask = Callable[[Question], Awaitable[Answer]]
Locate = Callable[[Sequence[Span]], Sequence[TokenSpan]]
"""The tokens of a response's steps: `rewards.spans.step_spans` of the response's own ids and text."""


@dataclass(frozen=True)
class Facts:
    """What a reward may go by beside a response's text. None: the caller does not know it, or it is not needed."""

    n_tokens: int | None = None
    """Tokens of the response; for the overlong penalty."""
    most_tokens: int | None = None
    """Longest response that the policy may write; likewise."""
    reference: str | None = None
    """Reference answer; for the design `rlvr`."""
    place: Place | None = None
    """For the design `random`."""


NOTHING = Facts()


@dataclass
class Scorer:
    """Scores rollouts under `settings`.

    `ask` sends a question to the judge of the run. With `tokenizer`, the verifier's prompt travels as token ids;
    without one (an external server) as text, in which the client breaks up control strings.
    """

    settings: SparkSettings
    ask: Ask
    tokenizer: Any = None

    def __post_init__(self) -> None:
        self._format = get_policy_format(self.settings.policy_format)
        self._design = self.settings.reward_design
        self._checker = AnswerChecker()

    async def train(self, response: str, problem: str, locate: Locate | None = None, facts: Facts = NOTHING) -> Info:
        """The row of a training rollout, and its marked steps where the design credits tokens by them.

        `response` is the full decoded text, without special tokens. Under the design `majority` the row waits, as
        missing, for the vote of its group (`rl.votes`). ValueError without `locate`, or a fact, that the settings need.
        """
        if locate is None and self._design.credit.reads_steps:
            raise ValueError(f"the design {self.settings.design} needs the response's token ids; a text alone has none")
        gate = self._format.check(response)
        valid = gate.valid or not self.settings.format_gate
        rendered = render(response, self._format, self.settings.rendering)
        overlong = self._overlong(facts)
        decided = self._design.before_call(valid, rendered.n_steps)
        if decided is None and isinstance(self._design, Baseline):
            decided = await self._ruled(self._design.basis, response, gate, facts)
        if decided is not None:
            row = training_row(gate, decided, rendered.n_steps, rendered.neutralised, None, False, overlong)
            # With the gate open it need not be where a valid response has it.
            return info_of(row, answer=last_box(response) if decided.state is State.WAITING else None)
        answer = await self._judged(verifier_message(self.settings.verifier.kind, problem, rendered.text))
        reading = answer.outcome.reading if isinstance(answer.outcome, Judged) else None
        scored = self._design.score(valid, rendered.n_steps, reading)
        row = training_row(
            gate, scored, rendered.n_steps, rendered.neutralised, answer.outcome, answer.cached, overlong
        )
        return info_of(row, await self._steps(response, scored, locate))

    async def validate(self, response: str, reference: str) -> Info:
        """The row of a validation response: the rule-based checker against `reference`, never the verifier."""
        correct = await self._checker.is_correct(response, reference, self._format.answer(response))
        return info_of(validation_row(correct, self._format.check(response)))

    async def _ruled(self, basis: Basis, response: str, gate: Gate, facts: Facts) -> Scored:
        """Score of a valid response by what the design's verdicts rest on."""
        match basis:
            case Basis.REFERENCE:
                reference = _given(facts.reference, "a reference answer", self.settings.design)
                answer = gate.answer.box.content if gate.answer else None
                return ruled(await self._checker.compare(response, reference, answer), State.UNCHECKED)
            case Basis.CHANCE:
                place = _given(facts.place, "the rollout's place in the run", self.settings.design)
                return ruled(coin(self.settings.seed, place), State.OK)
            case Basis.GROUP:
                return ruled(None, State.WAITING)

    def _overlong(self, facts: Facts) -> float:
        buffer = self.settings.overlong_buffer
        if not buffer.enable:
            return 0.0
        n_tokens = _given(facts.n_tokens, "the response's number of tokens", "overlong_buffer")
        most = _given(facts.most_tokens, "the longest response's number of tokens", "overlong_buffer")
        return overlong_penalty(n_tokens, most, buffer.len, buffer.penalty_factor)

    async def _steps(self, response: str, scored: Scored, locate: Locate | None) -> tuple[MarkedStep, ...] | None:
        """In a thread: following a long response through its tokens takes tens of milliseconds."""
        if scored.step_marks is None or locate is None or not self._design.credit.reads_steps:
            return None
        steps = self._format.step_spans(response)
        if steps is None:
            return None
        return marked(await asyncio.to_thread(locate, steps), scored.step_marks)

    @cached_property
    def _chat(self) -> Chat:
        return Chat(self.tokenizer)

    async def _judged(self, message: str) -> Answer:
        kind = self.settings.verifier.kind
        if self.tokenizer is None:
            return await self.ask(Question(message, kind))  # the client breaks up control strings
        ids = self._chat.prompt_ids(message)
        limit = self.settings.verifier.max_prompt_tokens
        if limit is not None and len(ids) > limit:
            return Answer(Undecided(Cause.TOO_LONG, f"{len(ids)} tokens, the limit is {limit}"))
        return await self.ask(Question(tuple(ids), kind))


def _given(fact: T | None, what: str, who: str) -> T:
    if fact is None:
        raise ValueError(f"{who} needs {what}, which the caller of Scorer.train did not give")
    return fact
