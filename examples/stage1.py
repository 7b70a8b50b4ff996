"""Stage I in small: every method out of the same verifications, on a task whose truth a program knows.

    python -m examples.stage1 [--problems N] [--folder DIR] [--cache DIR]

A tiny generator, verifier and critic are taught on disjoint problems, the verifier and the critic with errors of a
stated rate; then `verl-spark data` does the rest as at full scale, with the same prompts (the worked examples left
out, which these models cannot use), vLLM in the process, and no reference but for the method that needs one. The truth
comes in at the end, to say how right the labels are."""

import asyncio
import json
import os
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from examples import arithmetic, tiny_models
from examples.arithmetic import Problem, Split, Truth
from examples.teaching import Example, Lessons, Report, TinyModel, cached, key, teach
from examples.tiny_models import DEFAULT_CACHE, Recipe, base_model
from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.records import read_records, records_file
from verl_spark.data.run import export, quality, select, work
from verl_spark.evaluation.statistics import Estimate
from verl_spark.platforms.cpu.overrides import environment
from verl_spark.verification import prompts
from verl_spark.verification.rendering import render_numbered
from verl_spark.verification.steps import answer_of, numbered_steps

METHODS = ("single", "outcome", "step", "meta_single", "meta_outcome", "meta_step", "reference")
SOLUTIONS, VERIFICATIONS = 4, 8
console = Console()


@dataclass(frozen=True)
class Stage1Recipe:
    """How the three models are taught; they start from the demonstration's base model."""

    base: Recipe = Recipe()
    generator: Lessons = Lessons(examples=5120, updates=160, batch=32, learning_rate=2e-3, seed=11)
    slip_share: float = 0.5
    """The generator's teacher forgets to carry in this share of the additions of a large number that carry."""
    verifier: Lessons = Lessons(examples=16000, updates=500, batch=32, learning_rate=3e-3, seed=12)
    label_error: float = 0.1
    """Share of marks that are wrong in what the verifier is taught; none where it is shown the reference."""
    critic: Lessons = Lessons(examples=9600, updates=300, batch=32, learning_rate=3e-3, seed=13)
    critique_error: float = 0.1
    """Share of marks about which the critic is taught the wrong thing."""


@dataclass(frozen=True)
class Stage1Models:
    """Folders of the models."""

    generator: Path
    verifier: Path
    critic: Path


class _Numbered:
    """Solutions as Stage I has them, for `arithmetic.judge`."""

    def step_bodies(self, text: str) -> list[str] | None:
        spans = numbered_steps(text)
        return None if spans is None else [span.body for span in spans]

    def answer(self, text: str) -> str | None:
        return answer_of(text)


NUMBERED = _Numbered()


def main(
    problems: Annotated[int, typer.Option(help="Problems to make data from.")] = 150,
    folder: Annotated[Path, typer.Option(help="Everything goes here; start again to go on.")] = Path("outputs/stage1"),
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Teach the models, make the data by all methods, and say how right the labels are and what they cost."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment())  # for the engines, which are processes of their own
    models = stage1_models(cache.resolve(), report=console.print)
    config = write_config(folder.resolve(), models, problems)
    progress = asyncio.run(work(config, STAGES, lambda _: None))
    console.print(f"{progress.problems} problems, {progress.samples} calls, {progress.failed} failed")
    asyncio.run(select(config))
    export(config)
    accuracy, _ = asyncio.run(quality(config, write_truth(config)))
    console.print(table(config, {(line.method, line.label, line.truth): line.accuracy for line in accuracy}))


def stage1_models(cache: Path, recipe: Stage1Recipe = Stage1Recipe(), report: Report = print) -> Stage1Models:
    """The models, taught unless the cache has them."""
    base = base_model(cache, recipe.base, report)
    makers = {"generator": _make_generator, "verifier": _make_verifier, "critic": _make_critic}
    folders = {}
    for name, make in makers.items():
        folder = cache / f"{name}-{_key(base.name, recipe)}"
        folders[name] = cached(folder, lambda draft, make=make: make(draft, base, recipe, report), report)
    return Stage1Models(**folders)


def write_config(folder: Path, models: Stage1Models, count: int) -> DataConfig:
    """The run's config and its problems; the reference answers lie in the same file, as they often do."""
    rows = [
        {"id": f"p{index}", "problem": problem.text, "answer": str(problem.answer)}
        for index, problem in enumerate(arithmetic.problems(Split.DATA, count, seed=0))
    ]
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vllm = {"max_model_len": 1024, "max_num_seqs": 128, "max_num_batched_tokens": 4096, "dtype": "float32"}

    def role(model: Path, max_tokens: int, **more: Any) -> dict[str, Any]:
        engine = {"kind": "vllm", "model": str(model), "vllm": {**vllm, "enforce_eager": True}}
        return {"engine": engine, "max_tokens": max_tokens, **more}

    return DataConfig.from_mapping(
        {
            "output": str(folder / "data"),
            "problems": {"path": str(path)},
            "generator": role(models.generator, 112, n=SOLUTIONS, temperature=1.0),
            "verifier": role(models.verifier, 192, n=VERIFICATIONS, examples=False),
            "critic": role(models.critic, 256),
            "references": {"field": "answer", "n": VERIFICATIONS},
            "methods": METHODS,
        }
    )


def write_truth(config: DataConfig) -> Path:
    """The truth about the steps of every solution, for the report alone."""
    path = config.output.parent / "step_truth.jsonl"
    truths = {}
    for record in read_records(records_file(config.output, "single")):
        truth = arithmetic.judge(arithmetic.read_problem(record.problem), record.solution, NUMBERED)
        if truth is not None:
            truths[record.solution_id] = truth.marks
    lines = (json.dumps({"solution_id": name, "marks": marks}) + "\n" for name, marks in truths.items())
    path.write_text("".join(lines))
    return path


def table(config: DataConfig, accuracy: dict[tuple[str, str, str], Estimate | None]) -> Table:
    """Kept examples, label accuracy and cost by method."""
    cost = json.loads((config.output / "cost.json").read_text())["methods"]
    found = Table(
        "method",
        "kept",
        "verdict, right",
        "verdict, wrong",
        "marks, right",
        "marks, wrong",
        "calls",
        "per example",
        title="Label accuracy by what is in truth right or wrong, 95 % intervals; tiny models",
    )

    def cell(method: str, label: str, truth: str) -> str:
        value = accuracy.get((method, label, truth))
        return "" if value is None else value.percent()

    for name in config.methods:
        kept, each = cost[name]["kept"], cost[name]["per_kept_example"]
        cells = [cell(name, label, truth) for label in ("outcome", "step") for truth in ("right", "wrong")]
        found.add_row(name, str(kept), *cells, str(cost[name]["calls"]), f"{each['calls']:.1f}" if each else "")
    found.caption = f"data, records, SFT files, data card: {config.output}"
    return found


def generator_pairs(recipe: Stage1Recipe) -> list[tuple[str, str]]:
    """What the generator is taught: numbered solutions of someone careless."""
    lessons, rng = recipe.generator, random.Random(recipe.generator.seed)
    return [
        (
            prompts.generator_message(problem.text),
            arithmetic.careless_solution(problem, recipe.slip_share, rng).numbered(),
        )
        for problem in arithmetic.problems(Split.GENERATOR, lessons.examples, lessons.seed)
    ]


def verifier_pairs(recipe: Stage1Recipe) -> list[tuple[str, str]]:
    """What the verifier is taught: verifications in which a share of the marks is wrong.

    Every third prompt shows the reference answer, and there the marks are right: it says which solutions are wrong."""
    rng = random.Random(recipe.verifier.seed)
    pairs = []
    for index, (problem, solution, truth) in enumerate(_judged(Split.VERIFIER, recipe.verifier, rng)):
        reference = str(problem.answer) if index % 3 == 0 else None
        marks = truth.marks if reference else arithmetic.turned(truth.marks, recipe.label_error, rng)
        shown = render_numbered(solution).text
        message = prompts.stage1_message(problem.text, shown, len(marks), examples=False, reference=reference)
        pairs.append((message, arithmetic.verification(problem, truth, marks)))
    return pairs


def critic_pairs(recipe: Stage1Recipe) -> list[tuple[str, str]]:
    """What the critic is taught: critiques, and verifications into which they are merged, half of each."""
    rng = random.Random(recipe.critic.seed)
    pairs = []
    for index, (problem, solution, truth) in enumerate(_judged(Split.CRITIC, recipe.critic, rng)):
        given = arithmetic.turned(truth.marks, recipe.label_error, rng)
        believed = arithmetic.turned(truth.marks, recipe.critique_error, rng)
        verification = arithmetic.verification(problem, truth, given)
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
            pairs.append((message, arithmetic.verification(problem, truth, believed)))
    return pairs


def _equations(problem: Problem, count: int) -> list[str]:
    """The right equations of the problem, for a solution of `count` steps."""
    found = [str(step) for step in problem.steps] + [arithmetic.NOTHING] * count
    return found[:count]


def _judged(split: Split, lessons: Lessons, rng: random.Random) -> list[tuple[Problem, str, Truth]]:
    """Problems with a constructed numbered solution each, and the truth about it.

    A third is right, a third has errors of all kinds, a third is by someone careless, as the generator's are."""
    makers = (
        arithmetic.right_solution,
        lambda problem: arithmetic.solution_with_errors(problem, tiny_models.WRONG_STEPS, rng),
        lambda problem: arithmetic.careless_solution(problem, 0.5, rng),
    )
    found = []
    for problem in arithmetic.problems(split, lessons.examples, lessons.seed):
        solution = rng.choice(makers)(problem).numbered()
        truth = arithmetic.judge(problem, solution, NUMBERED)
        assert truth is not None
        found.append((problem, solution, truth))
    return found


def _make_generator(folder: Path, base: Path, recipe: Stage1Recipe, report: Report) -> dict[str, Any]:
    taught = teach("generator", generator_pairs(recipe), base, recipe.generator, folder, report)
    return {**taught, "slip_share": recipe.slip_share, "split": Split.GENERATOR.value}


def _make_verifier(folder: Path, base: Path, recipe: Stage1Recipe, report: Report) -> dict[str, Any]:
    drills = _drills(base, recipe.verifier)
    taught = teach("verifier", verifier_pairs(recipe), base, recipe.verifier, folder, report, drills)
    return {**taught, "label_error": recipe.label_error, "split": Split.VERIFIER.value}


def _make_critic(folder: Path, base: Path, recipe: Stage1Recipe, report: Report) -> dict[str, Any]:
    taught = teach("critic", critic_pairs(recipe), base, recipe.critic, folder, report, _drills(base, recipe.critic))
    return {**taught, "critique_error": recipe.critique_error, "split": Split.CRITIC.value}


def _drills(base: Path, lessons: Lessons) -> list[Example]:
    """More drills, a quarter of what is taught: without them the verdict is guessed and not concluded."""
    rng = random.Random(lessons.seed)
    return tiny_models.drills(TinyModel(base).tokenizer, lessons.examples // 3, rng, concluding=True)


def _key(base: str, recipe: Stage1Recipe) -> str:
    return key(base, asdict(recipe), code=(arithmetic, tiny_models, sys.modules[__name__]))


if __name__ == "__main__":
    typer.run(main)
