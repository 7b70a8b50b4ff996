"""What is asked of the models: every call of Stage I with its content key, its prompt and its seed.

A call is known by what determines it: stage, texts, prompt, model and sampling. Order, time, paths and the machines
that answer play no part."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from verl_spark.data.config import CriticSettings, DataConfig, RoleSettings
from verl_spark.data.problems import Problem
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

_SEEDS = 2**30  # leaves room below 2**31 for the index of a sample


@dataclass(frozen=True)
class Call:
    """One call: N samples of one message from one model."""

    stage: str
    key: str
    """SHA-256 (hex) of all that determines the samples but their number."""
    n: int
    """Samples that are wanted."""
    sampling: Sampling
    """With the seed of sample 0; sample i has that seed plus i."""
    message: Callable[[], str]
    """Writes the user turn."""

    def sampling_from(self, index: int) -> Sampling:
        """Sampling of a request for the samples from `index` on."""
        return replace(self.sampling, seed=(self.sampling.seed or 0) + index)


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
        prompt = stage_hash(self.config, stage)
        key = _digest([stage, prompt, model, role.max_tokens, role.temperature, role.top_p, *parts])
        seed = int(_digest([self.config.seed, key])[:8], 16) % _SEEDS
        return Call(stage, key, n, Sampling(role.max_tokens, role.temperature, role.top_p, seed), message)


def stage_hash(config: DataConfig, stage: str) -> str:
    """Hash of the prompt of a stage, with the settings that change its wording."""
    if stage in ("verify", "reference"):
        return prompts.prompt_hash(PROMPTS[stage], examples=config.verifier.examples)
    return prompts.prompt_hash(PROMPTS[stage])


def solution_id(problem: str, solution: str) -> str:
    """Id of a solution: a hash of its problem's text and its own."""
    return _digest([problem, solution])[:16]


def _digest(parts: list[object]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()  # JSON, so that no two lists join to one text
