"""The demonstration's policy and PRM-CoT: about a million parameters each, taught from nothing in minutes.

Both are Qwen2 models with a tokenizer of their own: bytes, so that any text comes back as it was, and one token
for each number and each fixed stretch of the task's texts, so that sequences are short. Both start from one base
model, which has been drilled in single operations and in quoting. The policy is then taught by someone careless and
gives many wrong answers; the PRM-CoT is taught by programmatic verifications of right solutions, of solutions with
injected errors and of the policy's own. `teaching.json` beside each model says how it was taught and what it can do
on held-out problems.

    python -m examples.tiny_models [CACHE_FOLDER]
"""

import random
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from examples import arithmetic
from examples.arithmetic import Problem, Solution, Split, Truth
from examples.teaching import (
    TURN_END,
    Example,
    Lessons,
    Report,
    Shape,
    TinyModel,
    build_tokenizer,
    cached,
    fresh_model,
    key,
    mean,
    said,
    save,
    teach,
    train,
)
from verl_spark.verification import prompts, rendering
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.reading import read

DEFAULT_CACHE = Path(".cache/demo")
FACTS_A_PAGE = 6
WRONG_STEPS = 0.4
"""Share of wrong steps in the wrong solutions that the PRM-CoT is taught with."""

_DAY = r"\b\w+day\b"
_PIECE = re.compile(rf"\d+|{_DAY}|</?\w+>\n*|\\boxed\{{|(?:(?!{_DAY})[^\d<\n.?\\])+(?:\?|\.?(?:\*\*)?\n*)|\n+")
"""A stretch of text that gets a token of its own; a tag or a sentence ends it, so that no step shares a token."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the two models, apart from the code and the prompts."""

    shape: Shape = Shape()
    drills: Lessons = Lessons(examples=22400, updates=700, batch=32, learning_rate=3e-3, seed=0)
    """The base model's lessons: operations to work out and steps to quote."""
    policy: Lessons = Lessons(examples=7040, updates=220, batch=32, learning_rate=2e-3, seed=2)
    slip_share: float = 0.5
    """The policy's teacher forgets to carry in this share of the additions of a large number that carry."""
    prm: Lessons = Lessons(examples=12800, updates=400, batch=32, learning_rate=3e-3, seed=3)
    prm_drills: float = 0.25
    """Share of more drills among the examples of the PRM-CoT."""
    prm_policy_samples: int = 1200
    """Examples among those of the PRM-CoT whose solutions the policy wrote."""
    held_out: int = 300
    """Problems on which the models are measured."""


@dataclass(frozen=True)
class DemoModels:
    """Folders of the two models, each with its tokenizer and `teaching.json`."""

    policy: Path
    prm: Path


def demo_models(cache: Path = DEFAULT_CACHE, recipe: Recipe = Recipe(), report: Report = print) -> DemoModels:
    """The two models, taught unless the cache has them.

    A model's folder is named by what determines it and is there as a whole or not at all."""
    base = base_model(cache, recipe, report)
    policy_key = _key(base.name, recipe.policy, recipe.slip_share, recipe.held_out)
    prm_key = _key(policy_key, recipe)
    policy = cached(cache / f"policy-{policy_key}", lambda folder: _make_policy(folder, base, recipe, report), report)
    prm = cached(cache / f"prm-cot-{prm_key}", lambda folder: _make_prm(folder, base, policy, recipe, report), report)
    return DemoModels(policy, prm)


def base_model(cache: Path, recipe: Recipe, report: Report) -> Path:
    """The model from which all others start, drilled unless the cache has it."""
    folder = cache / f"base-{_key(recipe.shape, recipe.drills)}"
    return cached(folder, lambda draft: _make_base(draft, recipe, report), report)


def _key(*parts: Any) -> str:
    return key(*parts, code=(arithmetic, sys.modules[__name__]))


def policy_message(problem: str) -> str:
    """The user turn that asks the policy for a solution, as reinforcement learning asks it."""
    return f"{problem}\n\n{TAGS.instruction()}"


def verifier_message(problem: str, solution: str) -> str:
    """The user turn that asks the PRM-CoT for a verification, as reinforcement learning asks it."""
    return prompts.verifier_message(Kind.PRM_COT, problem, rendering.render(solution, TAGS).text)


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


@dataclass(frozen=True)
class Agreement:
    """How far verifications agree with the truth about solutions that have steps and pass the gate."""

    solutions: int
    readable: float
    """Share of verifications with a verdict and a mark for every step."""
    steps: float
    """Share of right marks among all steps of readable verifications."""
    verdict: float
    """Share of right verdicts, unreadable ones being wrong."""
    first_error: float
    """Share in which the first wrong step (or its absence) is right."""
    false_yes: float
    """Share of Yes among wrong solutions."""
    false_no: float
    """Share of No among right solutions."""


def agreement(truths: Sequence[Truth], verifications: Sequence[str]) -> Agreement:
    """Agreement of one verification for each solution with the truth about it."""
    marks, verdicts, first, readable = [], [], [], []
    yes: dict[bool, list[bool]] = {True: [], False: []}
    for truth, verification in zip(truths, verifications, strict=True):
        reading = read(verification, Kind.PRM_COT)
        steps = reading.steps if reading.steps is not None and len(reading.steps) == len(truth.marks) else None
        readable.append(steps is not None and reading.outcome is not None)
        marks += [given == right for given, right in zip(steps or (), truth.marks, strict=steps is not None)]
        verdicts.append(reading.outcome is truth.verdict)
        first.append(steps is not None and (steps.index(0) if 0 in steps else None) == truth.first_error)
        yes[truth.verdict].append(reading.outcome is True)
    return Agreement(
        solutions=len(truths),
        readable=mean(readable),
        steps=mean(marks),
        verdict=mean(verdicts),
        first_error=mean(first),
        false_yes=mean(yes[False]),
        false_no=1 - mean(yes[True]) if yes[True] else 0.0,
    )


# --- the base model ---------------------------------------------------------------------------------------------------


def _make_base(folder: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    torch.manual_seed(recipe.drills.seed)
    rng = random.Random(recipe.drills.seed)
    tokenizer = build_tokenizer(_stretches())
    model = fresh_model(tokenizer, recipe.shape, arithmetic.HIGHEST)
    pages = drills(tokenizer, recipe.drills.examples, rng, concluding=False)
    taught = train("base", model, pages, recipe.drills, tokenizer.pad_token_id, report)
    save(folder, model, tokenizer)
    return {"shape": asdict(recipe.shape), "facts_a_page": FACTS_A_PAGE, **taught}


def drills(tokenizer: PreTrainedTokenizerFast, count: int, rng: random.Random, concluding: bool) -> list[Example]:
    """Pages of operations to work out, of steps to quote and, when `concluding`, of marks to conclude from."""

    def page(number: int) -> list[tuple[str, bool]]:
        if concluding and number % 4 == 0:
            return arithmetic.concluded_marks(rng)
        return arithmetic.quoted_steps(rng) if number % 2 else arithmetic.checked_facts(FACTS_A_PAGE, rng)

    return [Example.of((tokenizer.encode(text), taught) for text, taught in page(number)) for number in range(count)]


# --- the policy -----------------------------------------------------------------------------------------------------


def _make_policy(folder: Path, base: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    lessons = recipe.policy
    rng = random.Random(lessons.seed)
    problems = arithmetic.problems(Split.POLICY, lessons.examples, lessons.seed)
    pairs = [
        (policy_message(problem.text), arithmetic.careless_solution(problem, recipe.slip_share, rng).text())
        for problem in problems
    ]
    taught = teach("policy", pairs, base, lessons, folder, report)

    student = TinyModel(folder)
    held_out = arithmetic.problems(Split.HELD_OUT, recipe.held_out, lessons.seed)
    messages = [policy_message(problem.text) for problem in held_out]
    scores = {}
    for manner in ("greedy", "sampled"):
        torch.manual_seed(lessons.seed)
        solutions = student.replies(messages, new_tokens=112, sample=manner == "sampled")
        scores[manner] = asdict(score_policy(held_out, solutions))
        report(f"policy, {manner} on {len(held_out)} held-out problems: {said(scores[manner])}")
    return {**taught, "slip_share": recipe.slip_share, "split": Split.POLICY.value, "held_out": scores}


# --- the PRM-CoT ----------------------------------------------------------------------------------------------------


def _make_prm(folder: Path, base: Path, policy_folder: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    lessons = recipe.prm
    rng = random.Random(lessons.seed)
    policy = TinyModel(policy_folder)
    more = drills(policy.tokenizer, int(recipe.prm_drills * lessons.examples), rng, concluding=True)
    problems = arithmetic.problems(Split.PRM, lessons.examples - len(more), lessons.seed)
    torch.manual_seed(lessons.seed)
    own = problems[: recipe.prm_policy_samples]
    solutions = policy.replies([policy_message(problem.text) for problem in own], new_tokens=112, sample=True)
    solutions += [constructed(problem, rng).text() for problem in problems[len(own) :]]

    pairs = []
    for problem, solution in zip(problems, solutions, strict=True):
        truth = arithmetic.judge(problem, solution, TAGS)
        if truth is not None:
            target = arithmetic.verification(problem, truth)
            pairs.append((verifier_message(problem.text, solution), target))
    taught = teach("PRM-CoT", pairs, base, lessons, folder, report, more)

    student = TinyModel(folder)
    held_out = arithmetic.problems(Split.HELD_OUT, recipe.held_out, lessons.seed)
    torch.manual_seed(lessons.seed)
    sampled = policy.replies([policy_message(problem.text) for problem in held_out], new_tokens=112, sample=True)
    scores = {}
    for source, texts in {
        "policy_samples": sampled,
        "constructed": [constructed(problem, rng).text() for problem in held_out],
    }.items():
        scores[source] = asdict(_verify(student, held_out, texts))
        report(f"PRM-CoT on {source.replace('_', ' ')}: {said(scores[source])}")
    return {
        **taught,
        "split": Split.PRM.value,
        "policy": policy_folder.name,
        "policy_samples": len(own),
        "drills": len(more),
        "label_error": 0.0,
        "held_out": scores,
    }


def constructed(problem: Problem, rng: random.Random) -> Solution:
    """A right solution (35 %), one with wrong steps (55 %) or one with a wrong end.

    Many steps are wrong: where nearly all are right, a small model works the result out instead of reading it."""
    draw = rng.random()
    if draw < 0.35:
        return arithmetic.right_solution(problem)
    if draw < 0.9:
        return arithmetic.solution_with_errors(problem, WRONG_STEPS, rng)
    return arithmetic.solution_with_wrong_end(problem, rng)


def _verify(prm: TinyModel, problems: Sequence[Problem], solutions: Sequence[str]) -> Agreement:
    judged = [
        (truth, verifier_message(problem.text, solution))
        for problem, solution in zip(problems, solutions, strict=True)
        if TAGS.check(solution).valid and (truth := arithmetic.judge(problem, solution, TAGS)) is not None
    ]
    truths, messages = zip(*judged, strict=True)
    return agreement(truths, prm.replies(messages, new_tokens=160, sample=False))


# --- tokens ---------------------------------------------------------------------------------------------------------


def _stretches() -> list[str]:
    """Texts that get a token of their own: numbers, lines of the prompts, and pieces of many sample dialogues."""
    rng = random.Random(0)
    found = {str(number): None for number in range(10, arithmetic.HIGHEST + 1)}
    found |= dict.fromkeys(("user\n", "assistant\n", f"{TURN_END}\n".removeprefix(TURN_END)))
    for prompt in ("\n\n" + TAGS.instruction(), *_static_lines()):
        found |= dict.fromkeys(re.findall(r"[^\n]*\n+|[^\n]+", prompt))
    for problem in arithmetic.problems(Split.PRM, 2000, seed=0):
        solution = constructed(problem, rng)
        truth = arithmetic.judge(problem, solution.text(), TAGS)
        assert truth is not None
        dialogue = (
            problem.text,
            solution.text(),
            solution.numbered(),
            verifier_message(problem.text, solution.text()),
            arithmetic.verification(problem, truth),
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


if __name__ == "__main__":
    torch.set_num_threads(2)
    demo_models(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_CACHE)
