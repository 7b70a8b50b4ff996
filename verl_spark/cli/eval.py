"""The commands `verl-spark eval …`: parse, call, print."""

import asyncio
import json
from collections.abc import Mapping
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
from verl_spark.evaluation.metric import Score, SubsetScore
from verl_spark.evaluation.prediction import FAULTS

app = typer.Typer(no_args_is_help=True, help="Measuring verifiers.")


@app.command()
def processbench(
    keys: Keys = None,
    config: Config = None,
    replies: Annotated[
        Path | None, typer.Option(help="JSONL of recorded replies; no model is asked.", exists=True, dir_okay=False)
    ] = None,
    training_data: Annotated[
        list[str] | None, typer.Option(help="What the verifier was trained on, to name overlapping items; repeatable.")
    ] = None,
) -> None:
    """Whether a verifier finds the first wrong step of a solution. Start it again to go on after a stop."""
    given = list(keys or ())
    given += [f"replies={json.dumps(str(replies))}"] if replies else []
    given += [f"training_data={json.dumps(training_data)}"] if training_data else []
    with refusals():
        loaded = EvalConfig.load(config, given)
        with bar(_described) as report:
            result = asyncio.run(commands.run(loaded, report))
    if result.score is None:
        stop_if_owed(result.progress)
        return
    _show(result.score, "")
    if result.overlap is not None and result.without_overlap is not None:
        counts = ", ".join(f"{name} {len(ids)}" for name, ids in result.overlap.overlapping.items())
        same = sum(map(len, result.overlap.same_text.values()))
        Console().print(f"Items whose problem is in the training data: {counts}; {same} of them word for word.")
        _show(result.without_overlap, "without them")
    Console().print(f"{loaded.output / commands.RESULT_FILE}", highlight=False, soft_wrap=True)


@app.command()
def settings() -> None:
    """Every key of the config of `processbench`, its default and what it means."""
    show(reference.settings(EvalConfig), "key", "default", "meaning")


def _described(progress: Progress, total: int, seconds: float) -> str:
    failed = progress.failed + progress.set_aside
    return (
        f"{progress.items} of {total} items, {progress.samples} replies, "
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
