"""What is asked of the models: every call of Stage I with its texts, its prompt and its sampling."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from verl_spark.data.config import CriticSettings, DataConfig, RoleSettings
from verl_spark.runs.calls import Call, digest, make_call
from verl_spark.runs.problems import Problem
from verl_spark.verification import prompts
from verl_spark.verification.rendering import render_numbered
from verl_spark.verifier.client import Sampling

PROMPTS: Mapping[str, str] = MappingProxyType(
    {
        "generate": "generator",
        "verify": prompts.stage1_prompt(reference=False),
        "reference": prompts.stage1_prompt(reference=True),
        "critique": "critique",
        "merge": "merge",
    }
)
"""Name of the prompt of every stage."""

STAGES = tuple(PROMPTS)
"""Kinds of calls; each has its own journal."""


class Calls:
    """Builds the calls of a config."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config

    def generate(self, problem: Problem) -> Call:
        """M solutions of a problem."""
        role = self.config.generator
        message = partial(prompts.generator_message, problem.text)
        return self._call("generate", role, role.engine.model, role.n, message, problem.text)

    def verify(self, problem: Problem, solution: str, n_steps: int) -> Call:
        """N verifications of a solution, which has `n_steps` steps."""
        return self._verify("verify", self.config.verifier.n, problem, solution, n_steps, None)

    def reference(self, problem: Problem, solution: str, n_steps: int, reference: str) -> Call:
        """Verifications of a solution by a verifier that is shown the reference answer."""
        assert self.config.references is not None, "the config refuses the method without them"
        return self._verify("reference", self.config.references.n, problem, solution, n_steps, reference)

    def critique(self, problem: Problem, solution: str, verification: str) -> Call:
        """A critique of a verification."""

        def message() -> str:
            return prompts.critique_message(problem.text, render_numbered(solution).text, verification)

        return self._refine("critique", message, problem.text, solution, verification)

    def merge(self, problem: Problem, solution: str, n_steps: int, verification: str, critique: str) -> Call:
        """The verification with its critique worked in."""

        def message() -> str:
            shown = render_numbered(solution).text
            return prompts.merge_message(problem.text, shown, n_steps, verification, critique)

        return self._refine("merge", message, problem.text, solution, verification, critique)

    def _verify(self, stage: str, n: int, problem: Problem, solution: str, n_steps: int, reference: str | None) -> Call:
        role = self.config.verifier

        def message() -> str:
            shown = render_numbered(solution).text
            return prompts.stage1_message(problem.text, shown, n_steps, role.examples, reference)

        return self._call(stage, role, role.engine.model, n, message, problem.text, solution, reference or "")

    def _refine(self, stage: str, message: Callable[[], str], *parts: str) -> Call:
        return self._call(stage, self.config.critic, self.config.critic_engine.model, 1, message, *parts)

    def _call(
        self,
        stage: str,
        role: RoleSettings | CriticSettings,
        model: str,
        n: int,
        message: Callable[[], str],
        *parts: str,
    ) -> Call:
        sampling = Sampling(role.max_tokens, role.temperature, role.top_p)
        prompt = stage_hash(self.config, stage)
        return make_call(stage, n, sampling, self.config.seed, message, *parts, prompt=prompt, model=model)


def stage_hash(config: DataConfig, stage: str) -> str:
    """Hash of the prompt of a stage, with the settings that change its wording."""
    if stage in ("verify", "reference"):
        return prompts.prompt_hash(PROMPTS[stage], examples=config.verifier.examples)
    return prompts.prompt_hash(PROMPTS[stage])


def solution_id(problem: str, solution: str) -> str:
    """Id of a solution: a hash of its problem's text and its own."""
    return digest([problem, solution])[:16]
