"""From the text of one rollout to its reward: gate, render, one question, read, design.

Once through each room and no way back: nothing is read twice, nothing is rendered twice, and no call is made for
a reward that the gate already settled. Plain asyncio without Ray, so that a test or a script can call it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from verl_spark.rewards.credit import marked
from verl_spark.rewards.designs import Scored, get_design
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rewards.spans import TokenSpan
from verl_spark.rl.row import Info, Row, info_of, probe_row, training_row, validation_row
from verl_spark.settings import SparkSettings
from verl_spark.verification.policy_format import get_policy_format
from verl_spark.verification.prompts import verifier_message
from verl_spark.verification.rendering import render
from verl_spark.verification.signs import signs
from verl_spark.verification.steps import Span
from verl_spark.verifier.chat import Chat, control_strings
from verl_spark.verifier.judge import Answer, Question
from verl_spark.verifier.outcome import Cause, Judged, Undecided

logger = logging.getLogger(f"verl.{__name__}")  # verl's processes show its own loggers only

Ask = Callable[[Question], Awaitable[Answer]]
Locate = Callable[[Sequence[Span]], Sequence[TokenSpan]]
"""The tokens of a response's steps: `rewards.spans.step_spans` of the response's own ids and text."""


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
    """Whether rollouts are stored to be scored again: every one then carries the tokens of its steps, which another
    design may need."""

    def __post_init__(self) -> None:
        self._format = get_policy_format(self.settings.policy_format)
        self._design = get_design(self.settings.design)
        self._checker = AnswerChecker()

    async def train(self, response: str, problem: str, locate: Locate | None = None) -> Info:
        """The row of a training rollout, and its marked steps where the design credits tokens by them.

        `response` is the full decoded text, without special tokens. ValueError without `locate` for such a design."""
        if locate is None and self._design.credit.reads_steps:
            raise ValueError(f"the design {self.settings.design} needs the response's token ids; a text alone has none")
        row, scored, marks = await self._scored(response, problem)
        spans = await self._spans(response, scored, locate)
        steps = None
        if self._design.credit.reads_steps and spans is not None and scored.step_marks is not None:
            steps = marked(spans, scored.step_marks)
        return info_of(row, steps, marks, spans)

    async def validate(self, response: str, reference: str) -> Info:
        """The row of a validation response: the rule-based checker against `reference`, never the verifier."""
        correct = await self._checker.is_correct(response, reference, self._format.answer(response))
        return info_of(validation_row(correct, self._format.check(response)))

    async def probe(self, response: str, problem: str, reference: str) -> Info:
        """The row of a probe response: scored as in training, and checked by rule against `reference`."""
        row, *_ = await self._scored(response, problem)
        correct = await self._checker.is_correct(response, reference, self._format.answer(response))
        return info_of(probe_row(row, correct))

    async def _scored(self, response: str, problem: str) -> tuple[Row, Scored, tuple[int, ...] | None]:
        """The row and the score of a response, and all marks that the verifier gave it."""
        gate = self._format.check(response)
        valid = gate.valid or not self.settings.format_gate
        rendered = render(response, self._format, self.settings.rendering)
        found = signs(response, self._format), control_strings(response)
        decided = self._design.before_call(valid, rendered.n_steps)
        if decided is not None:
            row = training_row(gate, decided, rendered.n_steps, rendered.neutralised, None, False, *found)
            return row, decided, None
        answer = await self._judged(verifier_message(self.settings.verifier.kind, problem, rendered.text))
        reading = answer.outcome.reading if isinstance(answer.outcome, Judged) else None
        scored = self._design.score(valid, rendered.n_steps, reading)
        row = training_row(gate, scored, rendered.n_steps, rendered.neutralised, answer.outcome, answer.cached, *found)
        return row, scored, reading.steps if reading else None

    async def _spans(self, response: str, scored: Scored, locate: Locate | None) -> Sequence[TokenSpan] | None:
        """The tokens of the steps, where somebody needs them.

        In a thread: following a long response through its tokens takes tens of milliseconds."""
        needed = scored.step_marks is not None and self._design.credit.reads_steps
        if locate is None or not (needed or self.dumped):
            return None
        steps = self._format.step_spans(response)
        if steps is None:
            return None
        try:
            return await asyncio.to_thread(locate, steps)
        except ValueError as error:
            if needed:
                raise
            logger.warning("a dumped rollout goes without the tokens of its steps: %s", error)
            return None

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
