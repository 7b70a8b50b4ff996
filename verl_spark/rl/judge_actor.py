"""The judge of a run as a named Ray actor: one memory and one limit for all reward workers.

The trainer hook starts it, since it alone knows the verifier's addresses and lives as long as the run; reward
workers look it up when they first need it."""

from collections.abc import Sequence
from typing import Any

import ray

from verl_spark.settings import SparkSettings
from verl_spark.verifier.client import Client, Sampling
from verl_spark.verifier.judge import Answer, Judge, Question

NAME = "spark_judge"


class JudgeActor:
    """`Judge` behind Ray, with its client's life bound to the actor's."""

    def __init__(self, settings: SparkSettings, base_urls: Sequence[str], model: str, api_key: str | None) -> None:
        verifier = settings.verifier
        self._client = Client(
            base_urls,
            model,
            max_concurrency=verifier.max_concurrency,
            timeout_s=verifier.timeout_s,
            deadline_s=verifier.deadline_s,
            attempts=verifier.attempts,
            api_key=api_key,
        )
        sampling = Sampling(verifier.token_limit, verifier.temperature, verifier.top_p, verifier.seed)
        self._judge = Judge(self._client, sampling)
        self._open = False
        self._settings = settings

    async def judge(self, question: Question) -> Answer:
        """The answer to `question`; waits inside the client's bounds and never raises for a verifier's fault."""
        if not self._open:
            self._open = True  # before the await: two first questions must not open two pools
            await self._client.__aenter__()
        return await self._judge.judge(question)

    async def settings(self) -> SparkSettings:
        """The settings of the run, for a reward function that verl calls without its config."""
        return self._settings


def start_judge(settings: SparkSettings, base_urls: Sequence[str], model: str, api_key: str | None = None) -> Any:
    """The run's judge actor; the caller keeps the handle, and the actor ends with its owner."""
    actor = ray.remote(JudgeActor)
    # Every rollout of a step may wait at once; Ray's default admits 1,000.
    options = actor.options(name=NAME, num_cpus=0, max_concurrency=100_000)
    return options.remote(settings, list(base_urls), model, api_key)


class RemoteJudge:
    """The run's judge as seen from a reward worker; looked up at the first question."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def __call__(self, question: Question) -> Answer:
        """The judge's answer to `question`. Raises `RuntimeError` when this run has no judge."""
        answer: Answer = await self._found().judge.remote(question)
        return answer

    async def settings(self) -> SparkSettings:
        """The settings of the run."""
        settings: SparkSettings = await self._found().settings.remote()
        return settings

    def _found(self) -> Any:
        if self._handle is None:
            try:
                self._handle = ray.get_actor(NAME)
            except ValueError:
                raise RuntimeError(
                    "no SPARK judge is running in this job: the trainer hook did not start one. Use verl's main_ppo "
                    "with trainer.use_v1=True, and see what `verl-spark doctor` says about the plugin."
                ) from None
        return self._handle
