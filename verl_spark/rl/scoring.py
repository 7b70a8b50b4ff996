"""From the text of one rollout to its reward: gate, render, one question, read, design.

Once through each room and no way back: nothing is read twice, nothing is rendered twice, and no call is made for
a reward that the gate already settled. Plain asyncio without Ray, so that a test or a script can call it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from verl_spark.rewards.chance import Place, coin
from verl_spark.rewards.credit import marked
from verl_spark.rewards.designs import Baseline, Basis, Scored, State, ruled
from verl_spark.rewards.overlong import overlong_penalty
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rewards.spans import TokenSpan
from verl_spark.rl.row import Info, Row, info_of, probe_row, training_row, validation_row
from verl_spark.settings import SparkSettings
from verl_spark.verification.boxes import last_box
from verl_spark.verification.policy_format import Parsed, get_policy_format
from verl_spark.verification.prompts import verifier_message
from verl_spark.verification.rendering import render_parsed
from verl_spark.verification.signs import signs
from verl_spark.verification.steps import Span
from verl_spark.verifier.chat import Chat, control_strings
from verl_spark.verifier.judge import Answer, Question
from verl_spark.verifier.outcome import Cause, Judged, Outcome, Undecided

logger = logging.getLogger(f"verl.{__name__}")  # verl's processes show its own loggers only

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
    training: bool = True
    """Whether this is a rollout of a training step; only there a coin falls or a group votes."""


NOTHING = Facts()


class NotGiven(ValueError):
    """A fact is not known by which the reward goes; the message names both."""


@dataclass
class Scorer:
    """Scores rollouts under `settings`.

    `ask` sends a question to the judge of the run. With `tokenizer`, the verifier's prompt travels as token ids;
    without one (an external server) as text, in which the client breaks up control strings.
    """

    settings: SparkSettings
    ask: Ask
    tokenizer: Any = None
    dumped: bool = False
    """Whether rollouts are stored: every one then carries the verifier's reply and, to be scored again, the tokens of
    its steps, which another design may need."""
    checker: AnswerChecker = field(default_factory=AnswerChecker)
    """The rule-based answer check."""

    def __post_init__(self) -> None:
        self._format = get_policy_format(self.settings.policy_format)
        self._design = self.settings.reward_design

    async def train(
        self,
        response: str,
        problem: str,
        locate: Locate | None = None,
        facts: Facts = NOTHING,
        ask: Ask | None = None,
    ) -> Info:
        """The row of a training rollout, and its marked steps where the design credits tokens by them.

        `response` is the full decoded text, without special tokens. An `ask` given here answers about this rollout in
        place of the scorer's. Under the design `majority` the row waits, as missing, for the vote of its group
        (`rl.votes`). Raises ValueError without a `locate` that the settings need, `NotGiven` without such a fact.
        """
        if locate is None and self._design.credit.reads_steps:
            raise ValueError(f"the design {self.settings.design} needs the response's token ids; a text alone has none")
        parsed = self._format.parse(response)
        row, scored, outcome = await self._scored(parsed, problem, facts, ask or self.ask)
        spans = await self._spans(parsed, scored, locate)
        steps = None
        if self._design.credit.reads_steps and spans is not None and scored.step_marks is not None:
            steps = marked(spans, scored.step_marks)
        # With the gate open it need not be where a valid response has it.
        answer = last_box(response) if scored.state is State.WAITING else None
        marks = outcome.reading.steps if isinstance(outcome, Judged) else None
        reply = outcome.reply if outcome is not None and self.dumped else ""
        return info_of(row, steps, marks, spans, answer, reply)

    async def validate(self, response: str, reference: str) -> Info:
        """The row of a validation response: the rule-based checker against `reference`, never the verifier."""
        gate = self._format.check(response)
        correct = await self.checker.is_correct(response, reference, gate.stated)
        return info_of(validation_row(correct, gate))

    async def probe(self, response: str, problem: str, reference: str, facts: Facts = NOTHING) -> Info:
        """The row of a probe response: scored as in training, and checked by rule against `reference`.

        Where a coin or a vote would decide all rewards are missing: both are for the rollouts of a training step, and
        the zeros of refused responses alone would be no average."""
        parsed = self._format.parse(response)
        facts = replace(facts, reference=reference, training=False)
        row, *_ = await self._scored(parsed, problem, facts, self.ask)
        correct = await self.checker.is_correct(response, reference, parsed.gate.stated)
        return info_of(probe_row(row, correct))

    async def _scored(self, parsed: Parsed, problem: str, facts: Facts, ask: Ask) -> tuple[Row, Scored, Outcome | None]:
        """The row and the score of a response, and what came of asking the verifier; None if it was not asked."""
        gate = parsed.gate
        valid = gate.valid or not self.settings.format_gate
        rendered = render_parsed(parsed, self.settings.rendering)
        found = signs(parsed), control_strings(parsed.text), self._overlong(facts)
        decided = self._design.before_call(valid, rendered.n_steps)
        if isinstance(self._design, Baseline):
            if not facts.training and self._design.basis.of_training:
                decided = ruled(None, State.WAITING)
            elif decided is None:
                decided = await self._ruled(self._design.basis, parsed, facts)
        if decided is not None:
            row = training_row(gate, decided, rendered.n_steps, rendered.neutralised, None, False, *found)
            return row, decided, None
        answer = await self._judged(verifier_message(self.settings.verifier.kind, problem, rendered.text), ask)
        reading = answer.outcome.reading if isinstance(answer.outcome, Judged) else None
        scored = self._design.score(valid, rendered.n_steps, reading)
        row = training_row(gate, scored, rendered.n_steps, rendered.neutralised, answer.outcome, answer.cached, *found)
        return row, scored, answer.outcome

    async def _ruled(self, basis: Basis, parsed: Parsed, facts: Facts) -> Scored:
        """Score of a valid response by what the design's verdicts rest on."""
        match basis:
            case Basis.REFERENCE:
                reference = _given(facts.reference, f"design={self.settings.design} needs a reference answer")
                equal = await self.checker.compare(parsed.text, reference, parsed.gate.stated)
                return ruled(equal, State.UNCHECKED)
            case Basis.CHANCE:
                place = _given(facts.place, f"design={self.settings.design} needs the rollout's place in the run")
                return ruled(coin(self.settings.seed, place), State.OK)
            case Basis.GROUP:
                return ruled(None, State.WAITING)

    def _overlong(self, facts: Facts) -> float:
        buffer = self.settings.overlong_buffer
        if not buffer.enable:
            return 0.0
        n_tokens = _given(facts.n_tokens, "overlong_buffer needs the response's number of tokens")
        most = _given(facts.most_tokens, "overlong_buffer needs the longest response's number of tokens")
        return overlong_penalty(n_tokens, most, buffer.len, buffer.penalty_factor)

    async def _spans(self, parsed: Parsed, scored: Scored, locate: Locate | None) -> Sequence[TokenSpan] | None:
        """The tokens of the steps, where somebody needs them.

        In a thread: following a long response through its tokens takes tens of milliseconds."""
        needed = scored.step_marks is not None and self._design.credit.reads_steps
        if locate is None or parsed.spans is None or not (needed or self.dumped):
            return None
        try:
            return await asyncio.to_thread(locate, parsed.spans)
        except ValueError as error:
            if needed:
                raise
            logger.warning("a dumped rollout goes without the tokens of its steps: %s", error)
            return None

    @cached_property
    def _chat(self) -> Chat:
        return Chat(self.tokenizer)

    async def _judged(self, message: str, ask: Ask) -> Answer:
        kind = self.settings.verifier.kind
        if self.tokenizer is None:
            return await ask(Question(message, kind))  # the client breaks up control strings
        ids = self._chat.prompt_ids(message)
        limit = self.settings.verifier.max_prompt_tokens
        if limit is not None and len(ids) > limit:
            return Answer(Undecided(Cause.TOO_LONG, f"{len(ids)} tokens, the limit is {limit}"))
        return await ask(Question(tuple(ids), kind))


def _given(fact: T | None, need: str) -> T:
    if fact is None:
        raise NotGiven(need)
    return fact
