"""PRM, PRM-CoT and think-PRM: generative reward models that mark every step in our contract."""

from collections.abc import Sequence
from dataclasses import dataclass

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.prediction import Prediction, of_reading
from verl_spark.runs.journal import Sample
from verl_spark.settings import reply_tokens
from verl_spark.verification import prompts
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import read
from verl_spark.verification.rendering import render_steps


@dataclass(frozen=True)
class StepVerifier:
    """Asked as in RL: same prompt, same rendering, same reader. Paragraph p is step p + 1."""

    kind: Kind
    locates: bool = True
    votes: bool = False

    @property
    def prompt_hash(self) -> str:
        """Of the prompt of its kind."""
        return prompts.prompt_hash(prompts.verifier_prompt(self.kind))

    @property
    def max_tokens(self) -> int:
        """As in RL."""
        return reply_tokens(self.kind)

    def request(self, item: Item) -> str:
        """Problem and numbered steps."""
        return prompts.verifier_message(self.kind, item.problem, render_steps(item.steps, item.answer).text)

    def predict(self, item: Item, replies: Sequence[Sample]) -> Prediction:
        """The first step that the reply marks as incorrect."""
        reply = replies[0]
        reading = read(reply.text, self.kind, reply.finish_reason)
        return of_reading(reading, len(item.steps), reply.finish_reason)
