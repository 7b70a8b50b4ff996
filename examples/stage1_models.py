"""The tiny generator, verifier and critic of Stage I, taught on disjoint problems.

They start from the demonstration's base model. The generator is taught by someone careless, verifier and critic with
errors of a stated rate; `teaching.json` beside each model says so."""

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples import chains, tiny_models
from examples.chains import Problem, Split, Task, Truth
from examples.tasks import ARITHMETIC
from examples.teaching import Lessons, Report, cached, key, teach
from examples.tiny_models import Recipe, base_model
from verl_spark.verification import prompts
from verl_spark.verification.rendering import render_numbered
from verl_spark.verification.steps import answer_of, numbered_steps


@dataclass(frozen=True)
class Stage1Recipe:
    """How the three models are taught; they start from the demonstration's base model."""

    base: Recipe = Recipe()
    generator: Lessons = Lessons(examples=2880, updates=90, batch=32, learning_rate=2e-3, seed=11)
    slip_share: float = 0.75
    """The generator's teacher is careless in this share of the operations in which the task's careless people are."""
    verifier: Lessons = Lessons(examples=3840, updates=110, batch=32, learning_rate=1.5e-3, seed=12)
    label_error: float = 0.05
    """Share of marks that are wrong in what the verifier is taught; none where it is shown the reference."""
    critic: Lessons = Lessons(examples=6400, updates=200, batch=32, learning_rate=1.5e-3, seed=13)
    critique_error: float = 0.1
    """Share of marks about which the critic is taught the wrong thing."""


@dataclass(frozen=True)
class Stage1Models:
    """Folders of the models."""

    generator: Path
    verifier: Path
    critic: Path | None
    """None where no method needs it."""


class _Numbered:
    """Solutions as Stage I has them, for `chains.judge`."""

    def step_bodies(self, text: str) -> list[str] | None:
        spans = numbered_steps(text)
        return None if spans is None else [span.body for span in spans]

    def answer(self, text: str) -> str | None:
        return answer_of(text)


NUMBERED = _Numbered()
Maker = Callable[[Path, Path, "Stage1Recipe", Report, Task], dict[str, Any]]


def stage1_models(
    cache: Path,
    recipe: Stage1Recipe = Stage1Recipe(),
    report: Report = print,
    critic: bool = True,
    task: Task = ARITHMETIC,
) -> Stage1Models:
    """The models, taught unless the cache has them; without the critic if it is not wanted."""
    base = base_model(cache, recipe.base, report, task)

    def folder(name: str, make: Maker, *parts: Any) -> Path:
        place = cache / f"{name}-{_key(task, base.name, *parts)}"
        return cached(place, lambda draft: make(draft, base, recipe, report, task), report)

    return Stage1Models(
        generator=folder("generator", _make_generator, recipe.generator, recipe.slip_share),
        verifier=folder("verifier", _make_verifier, recipe.verifier, recipe.label_error),
        critic=folder("critic", _make_critic, recipe.critic, recipe.critique_error) if critic else None,
    )


def generator_pairs(recipe: Stage1Recipe, task: Task = ARITHMETIC) -> list[tuple[str, str]]:
    """What the generator is taught: numbered solutions of someone careless."""
    lessons, rng = recipe.generator, random.Random(recipe.generator.seed)
    return [
        (
            prompts.generator_message(problem.text),
            chains.careless_solution(problem, recipe.slip_share, rng).numbered(),
        )
        for problem in task.problems(Split.GENERATOR, lessons.examples, lessons.seed)
    ]


def verifier_pairs(recipe: Stage1Recipe, task: Task = ARITHMETIC) -> list[tuple[str, str]]:
    """What the verifier is taught: verifications in which a share of the marks is wrong.

    Every third prompt shows the reference answer, and there the marks are right: it says which solutions are wrong."""
    rng = random.Random(recipe.verifier.seed)
    pairs = []
    for index, (problem, solution, truth) in enumerate(_judged(task, Split.VERIFIER, recipe.verifier, rng)):
        reference = str(problem.answer) if index % 3 == 0 else None
        marks = truth.marks if reference else chains.turned(truth.marks, recipe.label_error, rng)
        shown = render_numbered(solution).text
        message = prompts.stage1_message(problem.text, shown, len(marks), examples=False, reference=reference)
        pairs.append((message, chains.verification(problem, truth, marks)))
    return pairs


def critic_pairs(recipe: Stage1Recipe, task: Task = ARITHMETIC) -> list[tuple[str, str]]:
    """What the critic is taught: critiques, and verifications into which they are merged, half of each."""
    rng = random.Random(recipe.critic.seed)
    pairs = []
    for index, (problem, solution, truth) in enumerate(_judged(task, Split.CRITIC, recipe.critic, rng)):
        given = chains.turned(truth.marks, recipe.label_error, rng)
        believed = chains.turned(truth.marks, recipe.critique_error, rng)
        verification = chains.verification(problem, truth, given)
        critique = "\n".join(
            f"Step {number}: {equation}. The mark {'stands' if mark == belief else 'is wrong'}."
            for number, (equation, mark, belief) in enumerate(
                zip(_equations(problem, len(given)), given, believed, strict=True), 1
            )
        )
        shown = render_numbered(solution).text
        if index % 2:
            pairs.append((prompts.critique_message(problem.text, shown, verification), critique))
        else:
            message = prompts.merge_message(problem.text, shown, len(given), verification, critique)
            pairs.append((message, chains.verification(problem, truth, believed)))
    return pairs


def _equations(problem: Problem, count: int) -> list[str]:
    """The right equations of the problem, for a solution of `count` steps."""
    found = [str(step) for step in problem.steps] + [chains.NOTHING] * count
    return found[:count]


def _judged(task: Task, split: Split, lessons: Lessons, rng: random.Random) -> list[tuple[Problem, str, Truth]]:
    """Problems with a constructed numbered solution each, and the truth about it.

    A quarter is right, a quarter has errors of all kinds, the others are by someone who misreads and by someone
    careless, as the generator's are."""
    makers = (
        chains.right_solution,
        lambda problem: chains.solution_with_errors(problem, tiny_models.WRONG_STEPS, rng),
        lambda problem: chains.misreading_solution(problem, 0.4, rng),
        lambda problem: chains.careless_solution(problem, 0.5, rng),
    )
    found = []
    for problem in task.problems(split, lessons.examples, lessons.seed):
        solution = rng.choice(makers)(problem).numbered()
        truth = chains.judge(problem, solution, NUMBERED)
        assert truth is not None
        found.append((problem, solution, truth))
    return found


def _make_generator(folder: Path, base: Path, recipe: Stage1Recipe, report: Report, task: Task) -> dict[str, Any]:
    taught = teach("generator", generator_pairs(recipe, task), base, recipe.generator, folder, report)
    return {**taught, "slip_share": recipe.slip_share, "split": Split.GENERATOR.value}


def _make_verifier(folder: Path, base: Path, recipe: Stage1Recipe, report: Report, task: Task) -> dict[str, Any]:
    taught = teach("verifier", verifier_pairs(recipe, task), base, recipe.verifier, folder, report)
    return {**taught, "label_error": recipe.label_error, "split": Split.VERIFIER.value}


def _make_critic(folder: Path, base: Path, recipe: Stage1Recipe, report: Report, task: Task) -> dict[str, Any]:
    taught = teach("critic", critic_pairs(recipe, task), base, recipe.critic, folder, report)
    return {**taught, "critique_error": recipe.critique_error, "split": Split.CRITIC.value}


def _key(*parts: Any) -> str:
    return key(*parts, code=(chains, tiny_models, sys.modules[__name__]))
