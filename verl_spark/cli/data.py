"""The commands `verl-spark data …`: parse, call, print."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from verl_spark import reference
from verl_spark.cli.terminal import Config, Keys, bar, percent, refusals, show, stop_if_owed
from verl_spark.data import run as commands
from verl_spark.data.builders import Counts
from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.flow import Progress
from verl_spark.data.parquet import SPLITS
from verl_spark.data.plan import Plan
from verl_spark.data.quality import RIGHT, WRONG
from verl_spark.data.records import KEPT, Selection

app = typer.Typer(no_args_is_help=True, help="Stage I: synthetic verification data without ground truth.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and price of what is owed, and stop.")]
Probe = Annotated[
    int, typer.Option(min=0, help="With --dry-run: really run this many problems first, to measure the tokens.")
]


@app.command()
def run(config: Config = None, keys: Keys = None, dry_run: DryRun = False, probe: Probe = 0) -> None:
    """All stages, selection, SFT files and data card. Start it again to go on after a stop."""
    _work(config, keys, STAGES, dry_run, probe)
    if not dry_run:
        select(config, keys)
        export(config, keys)


@app.command()
def generate(config: Config = None, keys: Keys = None) -> None:
    """Solutions only."""
    _work(config, keys, ["generate"])


@app.command()
def verify(config: Config = None, keys: Keys = None) -> None:
    """Verifications of the solutions that are there."""
    _work(config, keys, ["verify", "reference"])


@app.command()
def refine(config: Config = None, keys: Keys = None) -> None:
    """Critique and merge of the verifications that are there, for the meta methods."""
    _work(config, keys, ["critique", "merge"])


@app.command()
def select(config: Config = None, keys: Keys = None) -> None:
    """Records and data card by every method in `methods`, out of the calls that are there; no new calls."""
    with refusals():
        _show_selection(asyncio.run(commands.select(_load(config, keys))))


@app.command()
def export(config: Config = None, keys: Keys = None) -> None:
    """SFT files of all four kinds of reward model, out of the records."""
    with refusals():
        written = commands.export(_load(config, keys))
    table = Table("method", "kind", *SPLITS, "left out", box=None)
    for name, kinds in written.items():
        for kind, counts in kinds.items():
            table.add_row(name, kind.value, *(str(counts.rows[split]) for split in SPLITS), _counted(counts.dropped))
    Console().print(table)


@app.command()
def card(config: Config = None, keys: Keys = None) -> None:
    """The data card and the cost account, written anew out of calls and records."""
    with refusals():
        Console().print(commands.card(_load(config, keys)), markup=False, highlight=False)


@app.command()
def quality(
    config: Config = None,
    keys: Keys = None,
    step_truth: Annotated[
        Path | None, typer.Option(help="JSONL with solution_id and marks, 1 and 0.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """How right the labels are, against references or step truth. The only report that sees them."""
    with refusals():
        accuracy, growth = asyncio.run(commands.quality(_load(config, keys), step_truth))
    table = Table("method", "label", "truth", "labels", "accuracy", box=None)
    for line in accuracy:
        table.add_row(line.method, line.label, line.truth, str(line.labels), percent(line.accuracy))
    Console().print(table)
    table = Table("level", "N", "kept", "agreement", "accuracy, right", "accuracy, wrong", box=None)
    for grown in growth:
        sides = (percent(grown.accuracy.get(side)) for side in (RIGHT, WRONG))
        table.add_row(grown.level, str(grown.n), f"{100 * grown.kept:.1f} %", percent(grown.agreement), *sides)
    Console().print(table)


@app.command()
def leakage(
    benchmark: Annotated[list[Path], typer.Option(help="Benchmark file; repeatable.", exists=True, dir_okay=False)],
    config: Config = None,
    keys: Keys = None,
    text_field: Annotated[str, typer.Option(help="Column of the benchmark files with the problem.")] = "problem",
) -> None:
    """Which of the problems are also items of a benchmark: the same text, or long runs of the same words."""
    with refusals():
        found = commands.leakage(_load(config, keys), benchmark, text_field)
    table = Table("benchmark", "items", "problems", "same text", "overlapping problems", "overlapping items", box=None)
    for one in found:
        numbers = (one.items, one.prompts, len(one.prompt_ids(exact=True)), len(one.prompt_ids()), len(one.item_ids()))
        table.add_row(one.benchmark, *map(str, numbers))
    Console().print(table)


@app.command()
def rl_prompts(config: Config = None, keys: Keys = None) -> None:
    """The problems as verl's RL parquet."""
    with refusals():
        _show_written(*commands.rl_prompts(_load(config, keys)))


@app.command()
def format_sft(config: Config = None, keys: Keys = None) -> None:
    """SFT data for the policy's text format, out of the solutions that the first method calls right."""
    with refusals():
        _show_written(*commands.format_sft(_load(config, keys)))


@app.command()
def settings() -> None:
    """Every key of the config, its default and what it means."""
    show(reference.settings(DataConfig), "key", "default", "meaning")


def _work(
    config: Path | None, keys: list[str] | None, stages: Collection[str], dry_run: bool = False, probe: int = 0
) -> None:
    with refusals():
        loaded = _load(config, keys)
        with bar(_described) as report:
            if dry_run:
                plan = asyncio.run(commands.plan(loaded, probe, report))
            else:
                progress = asyncio.run(commands.work(loaded, stages, report))
        if dry_run:
            _show_plan(plan)
            return
    Console().print(f"{progress.problems} problems, {progress.samples} calls, {progress.set_aside} failed for good")
    stop_if_owed(progress)


def _load(config: Path | None, keys: list[str] | None) -> DataConfig:
    return DataConfig.load(config, keys or ())


def _described(progress: Progress, seconds: float) -> str:
    failed = progress.failed + progress.set_aside
    return (
        f"{progress.problems} problems, {progress.samples} calls, "
        f"{progress.completion_tokens / seconds:.0f} tokens/s, {failed} failed"
    )


def _show_selection(selection: Selection) -> None:
    table = Table("method", "kept", "dropped", box=None)
    for name, counts in selection.counts.items():
        table.add_row(name, str(counts[KEPT]), _counted({k: n for k, n in counts.items() if k != KEPT}))
    Console().print(table)
    if owed := _counted(selection.owed):
        Console().print(f"Not all calls are there yet; owed: {owed}")


def _show_plan(plan: Plan) -> None:
    table = Table("stage", "calls, at most", "prompt tokens", "generated tokens", "estimated from", box=None)
    for name, stage in plan.stages.items():
        numbers = (stage.calls, stage.cost.prompt_tokens, stage.cost.completion_tokens)
        source = "calls made" if stage.measured else "the longest texts allowed"
        table.add_row(name, *(f"{number:,}" for number in numbers), source)
    Console().print(table)
    price = "unknown before a first run, e.g. with --probe 5" if plan.price is None else f"{plan.price:,.2f}"
    hours = "unknown" if plan.hours is None else f"{plan.hours:,.2f}"
    Console().print(f"price: {price}; hours at the pace so far: {hours}")


def _show_written(path: Path, counts: Counts) -> None:
    Console().print(f"{path}: {_counted(counts.rows)}; left out: {_counted(counts.dropped) or 'none'}")


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items()) if n)
