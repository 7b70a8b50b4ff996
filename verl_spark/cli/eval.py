"""The commands `verl-spark eval …`: parse, call, print."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verl_spark import reference
from verl_spark.cli.terminal import Config, Keys, bar, percent, refusals, show, stop_if_owed
from verl_spark.evaluation import run as commands
from verl_spark.evaluation.asking import Progress
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.contamination import Overlap
from verl_spark.evaluation.metric import Score, SubsetScore
from verl_spark.evaluation.policy import comparison, metric
from verl_spark.evaluation.policy import run as policy
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.evaluation.prediction import FAULTS
from verl_spark.evaluation.results import RESULT_FILE
from verl_spark.runs.config import RunConfig

app = typer.Typer(no_args_is_help=True, help="Measuring verifiers and policies.")

TrainingData = Annotated[
    list[str] | None, typer.Option(help="What the model was trained on, to name overlapping items; repeatable.")
]


class Command(str, Enum):
    """The commands that read a config."""

    PROCESSBENCH = "processbench"
    MATH = "math"


@app.command()
def processbench(
    keys: Keys = None,
    config: Config = None,
    replies: Annotated[
        Path | None, typer.Option(help="JSONL of recorded replies; no model is asked.", exists=True, dir_okay=False)
    ] = None,
    training_data: TrainingData = None,
) -> None:
    """Whether a verifier finds the first wrong step of a solution. Start it again to go on after a stop."""
    given = list(keys or ())
    given += [f"replies={json.dumps(str(replies))}"] if replies else []
    given += _training(training_data)
    with refusals():
        loaded = EvalConfig.load(config, given)
        with bar(_described) as report:
            result = asyncio.run(commands.run(loaded, report))
    if result.score is None:
        stop_if_owed(result.progress)
        return
    _show(result.score, "")
    if result.overlap is not None and result.without_overlap is not None:
        _name_overlap(result.overlap)
        _show(result.without_overlap, "without them")
    _name_result(loaded.output)


@app.command()
def math(keys: Keys = None, config: Config = None, training_data: TrainingData = None) -> None:
    """How many problems of six benchmarks a policy solves. Start it again to go on after a stop."""
    with refusals():
        loaded = MathConfig.load(config, [*(keys or ()), *_training(training_data)])
        with bar(_described) as report:
            result = asyncio.run(policy.run(loaded, report))
    if result.score is None:
        stop_if_owed(result.progress)
        return
    _show_policy(result.score, "")
    if result.overlap is not None and result.without_overlap is not None:
        _name_overlap(result.overlap)
        _show_policy(result.without_overlap, "without them")
    _name_result(loaded.output)


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="Output folders of finished runs; differences are to the first.")
    ],
) -> None:
    """Runs of `math` side by side, with paired differences, and the paper's Table 1."""
    with refusals():
        runs = comparison.read_runs(folders)
    _compare(runs, "greedy", "greedy, pass@1")
    _compare(runs, "sampled", "sampled, avg@k")


def _compare(runs: Sequence[comparison.Run], measure: comparison.Measure, title: str) -> None:
    if not all(run.values[measure] for run in runs):
        return
    columns = {name: benchmark.title for name, benchmark in BENCHMARKS.items()} | {comparison.MEAN: "mean"}
    table = Table("", *columns.values(), "left out", title=title, box=None)
    for run in runs:
        cells = comparison.own(run, measure)
        table.add_row(escape(run.name), *(percent(cells.get(name)) for name in columns))
    for run in runs[1:]:
        cells, left_out = comparison.difference(runs[0], run, measure)
        signed = (cells[name].percent(signed=True) if name in cells else "" for name in columns)
        table.add_row(escape(f"{run.name} - {runs[0].name}"), *signed, str(left_out))
    if measure == "greedy":
        source, models = comparison.paper_table()
        for model, figures in models.items():
            table.add_row(model, *(f"{figures[name]:.1f} %" if name in figures else "" for name in columns))
        table.caption = f"The last {len(models)} rows: {source}."
    Console().print(table)


@app.command()
def settings(command: Annotated[Command, typer.Argument(help="Whose keys.")] = Command.PROCESSBENCH) -> None:
    """Every key of the config of `processbench` or `math`, its default and what it means."""
    configs: dict[Command, type[RunConfig]] = {Command.PROCESSBENCH: EvalConfig, Command.MATH: MathConfig}
    show(reference.settings(configs[command]), "key", "default", "meaning")


def _training(sources: list[str] | None) -> list[str]:
    return [f"training_data={json.dumps(sources)}"] if sources else []


def _name_overlap(overlap: Overlap) -> None:
    counts = ", ".join(f"{name} {len(ids)}" for name, ids in overlap.overlapping.items())
    same = sum(map(len, overlap.same_text.values()))
    Console().print(f"Items whose problem is in the training data: {counts}; {same} of them word for word.")


def _name_result(folder: Path) -> None:
    Console().print(f"{folder / RESULT_FILE}", highlight=False, soft_wrap=True)


def _described(progress: Progress, total: int, seconds: float) -> str:
    failed = progress.failed + progress.set_aside
    return (
        f"{progress.items} of {total} calls, {progress.samples} replies, "
        f"{progress.completion_tokens / seconds:.0f} tokens/s, {failed} failed"
    )


def _show(score: Score, title: str) -> None:
    causes = (fault.replace("_", " ") for fault in FAULTS)
    table = Table("subset", "items", "erroneous found", "correct passed", "F1", *causes, title=title, box=None)
    for name, subset in score.subsets.items():
        faults = (f"{100 * subset.faults[fault]:.1f} %" for fault in FAULTS)
        estimates = map(percent, (subset.error_acc, subset.correct_acc, subset.f1))
        table.add_row(escape(name), str(subset.items), *estimates, *faults)
    table.add_row("mean", "", "", "", percent(score.f1))
    Console().print(table)
    if any(subset.verdict_acc_right or subset.verdict_acc_wrong for subset in score.subsets.values()):
        _show_verdicts(score.subsets)


def _show_verdicts(subsets: Mapping[str, SubsetScore]) -> None:
    table = Table("subset", "verdicts on right answers", "on wrong answers", box=None)
    for name, subset in subsets.items():
        table.add_row(escape(name), percent(subset.verdict_acc_right), percent(subset.verdict_acc_wrong))
    Console().print(table)


def _show_policy(score: metric.Score, title: str) -> None:
    """Scores by benchmark, and below what is to be known of the replies."""
    table = Table("benchmark", "problems", "greedy", "k", "avg@k", "pass@k", "maj@k", title=title, box=None)
    for name, one in score.benchmarks.items():
        passed = percent(one.passed.get(one.k))
        row = (percent(one.greedy), str(one.k or ""), percent(one.avg), passed, percent(one.majority))
        table.add_row(BENCHMARKS[name].title, str(one.problems), *row)
    means = (percent(score.greedy), "", percent(score.avg), "", percent(score.majority))
    table.add_row("mean of the six", "", *means)
    Console().print(table)
    faults = Table("replies", *(fault.replace("_", " ") for fault in metric.FAULTS), "tied votes", box=None)
    for name, one in score.benchmarks.items():
        title = BENCHMARKS[name].title
        faults.add_row(f"{title}, greedy", *(str(one.greedy_faults[fault]) for fault in metric.FAULTS), "")
        if one.k:
            counts = (str(one.sampled_faults[fault]) for fault in metric.FAULTS)
            faults.add_row(f"{title}, sampled", *counts, str(one.ties))
    Console().print(faults)
