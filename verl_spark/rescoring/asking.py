"""Asking a verifier about stored rollouts: every reply is kept as it comes, and nothing is asked twice.

Asked and read as in training: same prompt, same rendering, same sampling, same reader."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any

from verl_spark.rescoring.dumps import Rollout
from verl_spark.rescoring.scoring import wanted
from verl_spark.rl.scoring import Ask, Scorer
from verl_spark.runs.asking import Asked, Asker, in_window
from verl_spark.runs.calls import Call, make_call
from verl_spark.runs.store import Store
from verl_spark.verification.prompts import prompt_hash, verifier_prompt
from verl_spark.verifier.client import Sampling
from verl_spark.verifier.engine import Engine
from verl_spark.verifier.judge import Answer, Question
from verl_spark.verifier.outcome import Cause, Cost, Undecided, outcome_of

STAGE = "score"
"""Kind of the calls; the replies lie in `calls/score.jsonl`."""


class Replies:
    """The replies of one model about stored rollouts, in an open store."""

    def __init__(self, store: Store, scorers: Sequence[Scorer], model: str, seed: int) -> None:
        self._store = store
        self._scorers = scorers
        self._model = model
        self._seed = seed
        verifier = scorers[0].settings.verifier
        self._sampling = Sampling(verifier.token_limit, verifier.temperature, verifier.top_p)

    async def owed(self, rollouts: Iterable[Rollout]) -> bool:
        """Whether any question about these rollouts has still to be asked."""
        for rollout in rollouts:
            questions = await wanted(rollout, self._scorers)
            if any(self._store.owed(self._call(question)) for question in questions):
                return True
        return False

    async def ask(
        self, rollouts: Iterable[Rollout], engine: Engine, window: int, progress: Asked, report: Callable[[], None]
    ) -> None:
        """Asks what is owed, `window` rollouts at a time; `progress` counts what failed and is owed still."""
        asker = Asker(self._store, {STAGE: engine}, [STAGE], progress, report)

        async def see_to(rollout: Rollout) -> None:
            for question in await wanted(rollout, self._scorers):
                await asker.ask(self._call(question), rollout.place)

        async def works() -> AsyncIterator[Coroutine[Any, Any, None]]:
            for rollout in rollouts:
                yield see_to(rollout)

        await in_window(works(), window)

    def of(self, rollout: Rollout) -> Ask:
        """Answers with the replies that are there; a question that failed for good has no verdict."""

        async def ask(question: Question) -> Answer:
            samples = self._store.samples(self._call(question))
            if not samples:
                return Answer(Undecided(Cause.FAILED))
            reply = samples[0]
            cost = Cost(reply.prompt_tokens, reply.completion_tokens, reply.seconds, 1)
            return Answer(outcome_of(reply.text, reply.finish_reason, question.kind, cost))

        return ask

    def _call(self, question: Question) -> Call:
        message = str(question.prompt)
        prompt = prompt_hash(verifier_prompt(question.kind))
        kind = question.kind.value
        return make_call(
            STAGE, 1, self._sampling, self._seed, lambda: message, kind, message, prompt=prompt, model=self._model
        )
