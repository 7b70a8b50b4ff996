"""The demonstration's base model and policy: about a million parameters, taught from nothing in minutes.

Qwen2 models with a tokenizer of their own: bytes, so that any text comes back as it was, and one token for each number
and each fixed stretch of the task's texts, so that sequences are short. The base model, from which all others start,
learns to calculate, to quote, to solve a problem and to work it out beside somebody's steps, and nothing about what is
correct. The policy is taught by someone careless and gives many wrong answers. `teaching.json` beside each model says
how it was taught."""

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from examples import chains
from examples.chains import Problem, Solution, Split, Task
from examples.tasks import ARITHMETIC
from examples.teaching import (
    TURN_END,
    Example,
    Lessons,
    Report,
    Shape,
    TinyModel,
    build_tokenizer,
    cached,
    dialogues,
    fresh_model,
    key,
    mean,
    said,
    save,
    teach,
    train,
)
from verl_spark.verification import prompts
from verl_spark.verification.kinds import Kind
from verl_spark.verification.markers import heading
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.rendering import render, render_numbered

FACTS_A_PAGE = 24
"""Equations and differences in an example of the base model's first lessons."""
DEFAULT_CACHE = Path(".cache/demo")
WRONG_STEPS = 0.4
"""Share of wrong steps in wrong solutions that are made for a verifier to learn from."""

Parts = list[tuple[str, bool]]
"""A text to learn from, in parts, each with whether it is learned."""

_DAY = r"\b\w+day\b"
_PIECE = re.compile(rf"\d+|{_DAY}|</?\w+>\n*|\\boxed\{{|(?:(?!{_DAY})[^\d<\n.?\\])+(?:\?|\.?(?:\*\*)?\n*)|\n+")
"""A stretch of text that gets a token of its own; a tag or a sentence ends it, so that no step shares a token."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the two models, apart from the code and the prompts."""

    shape: Shape = Shape()
    facts: Lessons = Lessons(examples=2560, updates=150, batch=32, learning_rate=3e-3, seed=0)
    """The base model's first lessons: equations alone, which are learned in a minute, but not among other matter."""
    quoting: Lessons = Lessons(examples=2880, updates=180, batch=32, learning_rate=3e-3, seed=0)
    """Its second: to quote, now the story and now somebody's steps."""
    working: Lessons = Lessons(examples=5120, updates=330, batch=32, learning_rate=2.5e-3, seed=0)
    """Its third: problems worked out, two thirds of them beside somebody's steps."""
    policy: Lessons = Lessons(examples=2880, updates=90, batch=32, learning_rate=2e-3, seed=2)
    slip_share: float = 0.75
    """The policy's teacher is careless in this share of the operations in which the task's careless people are."""
    held_out: int = 200
    """Problems on which the policy is measured."""


def base_model(cache: Path, recipe: Recipe, report: Report, task: Task = ARITHMETIC) -> Path:
    """The model from which all others of the task start, taught unless the cache has it."""
    folder = cache / f"base-{_key(task, recipe.shape, recipe.facts, recipe.quoting, recipe.working)}"
    return cached(folder, lambda draft: _make_base(draft, recipe, report, task), report)


def policy_model(cache: Path, start: Path, recipe: Recipe, report: Report, task: Task = ARITHMETIC) -> Path:
    """The model that reinforcement learning starts from, itself taught from `start` unless the cache has it."""
    folder = cache / f"policy-{_key(task, start.name, recipe.policy, recipe.slip_share, recipe.held_out)}"
    return cached(folder, lambda draft: _make_policy(draft, start, recipe, report, task), report)


def _key(*parts: Any) -> str:
    return key(*parts, code=(chains, sys.modules[__name__]))


def policy_message(problem: str) -> str:
    """The user turn that asks the policy for a solution, as reinforcement learning asks it."""
    return f"{problem}\n\n{TAGS.instruction()}"


@dataclass(frozen=True)
class PolicyScores:
    """What a policy does on problems."""

    accuracy: float
    """Share of right answers in the box; a response that the gate refuses is wrong."""
    gate_valid: float


def score_policy(problems: Sequence[Problem], solutions: Sequence[str]) -> PolicyScores:
    """Scores of one solution for each problem."""
    answers = [TAGS.answer(solution) for solution in solutions]
    right = [answer == str(problem.answer) for problem, answer in zip(problems, answers, strict=True)]
    return PolicyScores(mean(right), mean(answer is not None for answer in answers))


# --- the base model ---------------------------------------------------------------------------------------------------


def _make_base(folder: Path, recipe: Recipe, report: Report, task: Task) -> dict[str, Any]:
    seed = recipe.facts.seed
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = build_tokenizer(_stretches(task))
    model = fresh_model(tokenizer, recipe.shape, task.highest)

    def page(parts: Parts) -> Example:
        return Example.of((tokenizer.encode(text), learned) for text, learned in parts)

    problems = task.problems(Split.BASE, recipe.working.examples, seed)
    facts = [page(task.facts(FACTS_A_PAGE, rng)) for _ in range(recipe.facts.examples)]
    quotes = [page(task.quoted_steps(rng)) for _ in range(recipe.quoting.examples)]
    worked = dialogues(
        tokenizer, [(_reworked if n % 3 else _solved)(problem, rng) for n, problem in enumerate(problems)]
    )
    teaching = {}
    for name, lessons, examples in (
        ("facts", recipe.facts, facts),
        ("quoting", recipe.quoting, [*quotes, *facts[: len(quotes) // 3]]),  # a little of what is known, to keep it
        ("working", recipe.working, [*worked, *facts[: len(worked) // 4]]),
    ):
        teaching[name] = train(f"base, {name}", model, examples, lessons, tokenizer.pad_token_id, report)
    save(folder, model, tokenizer)
    return {"task": task.name, "shape": asdict(recipe.shape), "split": Split.BASE.value, **teaching}


def _solved(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """A problem and its right solution, as the generator is asked or as the policy is."""
    solution = chains.right_solution(problem)
    if rng.random() < 0.5:
        return prompts.generator_message(problem.text), solution.numbered()
    return policy_message(problem.text), solution.text()


def _reworked(problem: Problem, rng: random.Random) -> tuple[str, str]:
    """What the base model is taught: it is asked to judge muddled steps, and works the problem out without judging.

    It has seen the prompts then, quotes and calculates; no mark and no verdict does it know."""
    solution = chains.muddled_solution(problem, rng)
    shown = render_numbered(solution.numbered()).text
    equations = [str(step) for step in solution.steps]
    reply = "\n\n".join(
        f"{heading(number, equation)}\n{line}"
        for number, (equation, line) in enumerate(zip(equations, chains.reworked(problem, equations), strict=True), 1)
    )
    if rng.random() < 0.5:
        return prompts.verifier_message(Kind.PRM_COT, problem.text, shown), reply
    return prompts.stage1_message(problem.text, shown, len(equations), examples=False), reply


# --- the policy -----------------------------------------------------------------------------------------------------


def _make_policy(folder: Path, start: Path, recipe: Recipe, report: Report, task: Task) -> dict[str, Any]:
    lessons = recipe.policy
    rng = random.Random(lessons.seed)
    problems = task.problems(Split.POLICY, lessons.examples, lessons.seed)
    pairs = [
        (policy_message(problem.text), chains.careless_solution(problem, recipe.slip_share, rng).text())
        for problem in problems
    ]
    taught = teach("policy", pairs, start, lessons, folder, report)

    student = TinyModel(folder)
    held_out = task.problems(Split.HELD_OUT, recipe.held_out, lessons.seed)
    messages = [policy_message(problem.text) for problem in held_out]
    scores = {}
    for manner in ("greedy", "sampled"):
        torch.manual_seed(lessons.seed)
        solutions = student.replies(messages, new_tokens=112, sample=manner == "sampled")
        scores[manner] = asdict(score_policy(held_out, solutions))
        report(f"policy, {manner} on {len(held_out)} held-out problems: {said(scores[manner])}")
    return {**taught, "slip_share": recipe.slip_share, "split": Split.POLICY.value, "held_out": scores}


# --- tokens ---------------------------------------------------------------------------------------------------------


def constructed(problem: Problem, rng: random.Random) -> Solution:
    """A right solution (35 %), one with wrong steps (55 %) or one with a wrong end.

    Many steps are wrong: where nearly all are right, a small model works the result out instead of reading it."""
    draw = rng.random()
    if draw < 0.35:
        return chains.right_solution(problem)
    if draw < 0.9:
        return chains.solution_with_errors(problem, WRONG_STEPS, rng)
    return chains.solution_with_wrong_end(problem, rng)


def _stretches(task: Task) -> list[str]:
    """Texts that get a token of their own: numbers, lines of the prompts, and pieces of many sample dialogues."""
    rng = random.Random(0)
    found = {str(number): None for number in range(10, task.highest + 1)}
    found |= dict.fromkeys(("user\n", "assistant\n", f"{TURN_END}\n".removeprefix(TURN_END)))
    for prompt in ("\n\n" + TAGS.instruction(), *_static_lines()):
        found |= dict.fromkeys(re.findall(r"[^\n]*\n+|[^\n]+", prompt))
    for problem in task.problems(Split.BASE, 2000, seed=0):
        solution = constructed(problem, rng)
        truth = chains.judge(problem, solution.text(), TAGS)
        assert truth is not None
        dialogue = (
            problem.text,
            solution.text(),
            solution.numbered(),
            prompts.verifier_message(Kind.PRM_COT, problem.text, render(solution.text(), TAGS).text),
            chains.verification(problem, truth),
        )
        found |= dict.fromkeys(piece for text in dialogue for piece in _PIECE.findall(text) if len(piece) > 1)
    return list(found)


def _static_lines() -> list[str]:
    """The lines of Stage I's prompts that are the same whatever is asked, each with its line breaks."""
    texts = [("1", "2", 3, "4", "5"), ("6", "7", 8, "9", "0")]
    asked = [
        (
            prompts.generator_message(problem),
            prompts.stage1_message(problem, solution, n_steps, examples=False),
            prompts.stage1_message(problem, solution, n_steps, examples=False, reference=verification),
            prompts.critique_message(problem, solution, verification),
            prompts.merge_message(problem, solution, n_steps, verification, critique),
        )
        for problem, solution, n_steps, verification, critique in texts
    ]
    one, other = (
        dict.fromkeys(line for text in texts for line in re.findall(r"[^\n]*\n+|[^\n]+", text)) for texts in asked
    )
    return [line for line in one if line in other and len(line) > 1]
