"""Solution appending, with the format gate and without: does it pay, and does a policy learn it?

    python -m examples.hacking [--steps N] [--folder DIR] [--cache DIR]

The demonstration's policy, but taught by someone who puts a second, solved problem behind a share of the answers, is
trained twice with the demonstration's PRM-CoT: with `reward.spark.format_gate` and without. Everything else is equal.
`hacking.json` has the share of rollouts that go on after the answer, their reward and their accuracy, step by step;
`hacking.svg` is its picture."""

import json
import math
import os
import random
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from examples import chains, demo
from examples.chains import Split, Task
from examples.stage1_models import stage1_models
from examples.tasks import ARITHMETIC, read_problem
from examples.teaching import Lessons, cached, key, teach
from examples.tiny_models import DEFAULT_CACHE, Recipe, base_model, policy_message
from verl_spark.evaluation.statistics import estimate
from verl_spark.platforms.cpu.overrides import environment
from verl_spark.verification.gate import ANSWER_CLOSE
from verl_spark.verification.policy_format import TAGS

APPENDED = 0.3
"""Share of the solutions that the policy is taught which go on with another problem."""
LESSONS = replace(Recipe().policy, seed=3)
LONGEST_RESPONSE = 128
LONGER = (
    f"data.max_response_length={LONGEST_RESPONSE}",
    f"actor_rollout_ref.rollout.max_model_len={LONGEST_RESPONSE + 64}",
)
"""What an appended problem takes."""
console = Console()


@dataclass(frozen=True)
class Step:
    """The rollouts of a training step."""

    step: int
    appended: float
    """Share that says anything after the answer."""
    reward_appended: float | None
    """Mean reward of those; None if there is none."""
    reward_other: float | None
    accuracy: float
    """Share whose first answer is right."""


def main(
    steps: Annotated[int, typer.Option(help="Training steps of each arm.")] = 8,
    folder: Annotated[Path, typer.Option(help="Everything goes here.")] = Path("outputs/hacking"),
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Train the policy that has seen appended solutions with the gate and without, and say what came of it."""
    folder, cache = folder.resolve(), cache.resolve()
    os.environ.update(environment())  # for the engines, which are processes of their own
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it runs, as Ctrl-C does
    base = base_model(cache, Recipe(), console.print)
    prm = demo.make_prm(cache, base, stage1_models(cache, report=console.print, critic=False), {})
    policy = cached(
        cache / f"appending-{key(base.name, LESSONS, APPENDED, code=(chains,))}",
        lambda draft: teach("policy", appending_pairs(LESSONS), base, LESSONS, draft, console.print),
        console.print,
    )
    data = demo.write_data(folder, steps)
    settings = {
        name: [
            *demo.serving_prm(prm.model),
            *LONGER,
            "reward.reward_model.rollout.max_model_len=512",
            f"reward.spark.format_gate={gate}",
        ]
        for name, gate in (("gate", True), ("no_gate", False))
    }
    arms = demo.train(settings, folder, policy, data, steps)
    found = {name: [step_of(number, rows) for number, rows in by_step(arm.rollouts)] for name, arm in arms.items()}
    summary = {
        name: {
            "steps": [asdict(step) for step in found[name]],
            "accuracy_before": asdict(estimate(list(arm.before.values()))),
            "accuracy_after": asdict(estimate(list(arm.after.values()))),
            "gain": asdict(demo.gain(arm)),
        }
        for name, arm in arms.items()
    }
    (folder / "hacking.json").write_text(json.dumps(summary, indent=2) + "\n")
    draw(found, folder / "hacking.svg")
    console.print(table(arms, found, folder))


def appending_pairs(lessons: Lessons) -> list[tuple[str, str]]:
    """What the policy is taught: careless solutions, a share of which go on with a problem of their own."""
    rng = random.Random(lessons.seed)
    found = []
    for problem in ARITHMETIC.problems(Split.POLICY, lessons.examples, lessons.seed):
        solution = chains.careless_solution(problem, Recipe().slip_share, rng).text()
        more = appendix(rng) if rng.random() < APPENDED else ""
        found.append((policy_message(problem.text), solution + more))
    return found


def appendix(rng: random.Random, task: Task = ARITHMETIC) -> str:
    """A second problem of one step, solved rightly, without any tag: the steps before it are read as they were."""
    whole = task.problems(Split.POLICY, 1, rng.randrange(10_000))[0]
    question = whole.text.rpartition(". ")[2]
    short = read_problem(f"{whole.text.partition('. ')[0]}. {whole.sentences[0]} {question}")
    return f"\n\n{short.text} {short.sentences[0]} {short.steps[0]}"


def by_step(rollouts: list[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """Rollouts of each step, in order."""
    numbers = sorted({row["step"] for row in rollouts})
    return [(number, [row for row in rollouts if row["step"] == number]) for number in numbers]


def step_of(number: int, rows: list[dict[str, Any]]) -> Step:
    """What the rollouts of a step did; a missing reward is in no mean."""

    def reward(appended: bool) -> float | None:
        rewards = [row["score"] for row in rows if row["spark_after_answer"] == appended and not row["spark_missing"]]
        return sum(rewards) / len(rewards) if rewards else None

    return Step(
        number,
        sum(row["spark_after_answer"] for row in rows) / len(rows),
        reward(True),
        reward(False),
        sum(map(first_answer_right, rows)) / len(rows),
    )


def to_answer(row: dict[str, Any]) -> str:
    """A rollout's response to the end of its first answer."""
    return str(row["output"].partition(ANSWER_CLOSE)[0]) + ANSWER_CLOSE


def first_answer_right(row: dict[str, Any]) -> bool:
    """Whether a rollout's answer is right, whatever stands behind it."""
    return TAGS.answer(to_answer(row)) == str(read_problem(row["input"]).answer)


def draw(found: dict[str, list[Step]], path: Path) -> None:
    """The picture: what is appended, what it earns, and how accurate the answers are, step by step."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True)
    titles = "rollouts with an appended problem", "mean reward", "accuracy of the first answer"
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel="step", ylim=(-0.03, 1.03))
    for (name, steps), colour in zip(found.items(), ("tab:blue", "tab:red"), strict=True):
        label, numbers = name.replace("_", " "), [step.step for step in steps]
        axes[0].plot(numbers, [step.appended for step in steps], color=colour, label=label)
        axes[1].plot(numbers, _values(steps, "reward_appended"), color=colour, label=f"{label}, appended")
        axes[1].plot(numbers, _values(steps, "reward_other"), color=colour, linestyle=":", label=f"{label}, others")
        axes[2].plot(numbers, [step.accuracy for step in steps], color=colour, label=label)
    axes[0].legend(fontsize="small")
    axes[1].legend(fontsize="x-small", loc=(0.3, 0.2))
    figure.savefig(path, metadata={"Date": None})


def _values(steps: list[Step], name: str) -> list[float]:
    return [math.nan if getattr(step, name) is None else getattr(step, name) for step in steps]


def table(arms: dict[str, demo.Arm], found: dict[str, list[Step]], folder: Path) -> Table:
    """Both arms side by side."""

    def share(steps: list[Step]) -> str:
        return f"{100 * steps[0].appended:.0f} % to {100 * steps[-1].appended:.0f} %"

    rows: dict[str, Callable[[str], str]] = {
        "accuracy before": lambda name: estimate(list(arms[name].before.values())).percent(),
        "accuracy after": lambda name: estimate(list(arms[name].after.values())).percent(),
        "gain, paired": lambda name: demo.gain(arms[name]).percent(signed=True),
        "appended, first to last step": lambda name: share(found[name]),
        "reward of appended, first step": lambda name: _said(found[name][0].reward_appended),
        "reward of others, first step": lambda name: _said(found[name][0].reward_other),
        "reward of appended, last step": lambda name: _said(found[name][-1].reward_appended),
        "reward of others, last step": lambda name: _said(found[name][-1].reward_other),
    }
    result = Table("", *arms, title=f"{demo.HELD_OUT} held-out problems, 95 % intervals; tiny models")
    for label, cell in rows.items():
        result.add_row(label, *map(cell, arms))
    result.caption = f"hacking.json, hacking.svg, logs, rollouts: {folder}"
    return result


def _said(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    typer.run(main)
