"""A plain instruct model with the verifier prompt of Stage I, which says what to write and may show examples."""

from dataclasses import dataclass

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.verification import prompts
from verl_spark.verification.kinds import Kind
from verl_spark.verification.rendering import render_steps


@dataclass(frozen=True)
class InstructVerifier(StepVerifier):
    """Read as a PRM-CoT."""

    kind: Kind = Kind.PRM_COT
    examples: bool = True
    """Whether the prompt shows two worked examples."""

    @property
    def prompt_hash(self) -> str:
        """Of the prompt with or without examples."""
        return prompts.prompt_hash(prompts.stage1_prompt(reference=False), examples=self.examples)

    def request(self, item: Item) -> str:
        """The instructions, then problem and numbered steps."""
        solution = render_steps(item.steps, item.answer).text
        return prompts.stage1_message(item.problem, solution, len(item.steps), self.examples)
