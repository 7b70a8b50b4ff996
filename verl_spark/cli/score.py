"""The command `verl-spark score`: parse, call, print."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verl_spark.cli.terminal import Config, bar, refusals, stop_if_owed
from verl_spark.rescoring import run as commands
from verl_spark.rescoring.config import ScoreConfig
from verl_spark.rescoring.summary import Summary
from verl_spark.runs.asking import Asked
from verl_spark.settings import SettingsError

Given = Annotated[
    list[str],
    typer.Argument(
        help="Dumps of training rollouts (a trainer.rollout_data_dir, or files of one), and keys: reward_model=PRESET, "
        "reward.spark.…=…, output=FOLDER, engine.…=….",
        metavar="DUMP... [KEY=VALUE...]",
    ),
]
Designs = Annotated[str | None, typer.Option(help="Designs to compare, such as process_aware,selective.")]
Ask = Annotated[bool, typer.Option("--ask", help="Ask the verifier engine.model anew; else stored verdicts count.")]


def score(given: Given, designs: Designs = None, ask: Ask = False, config: Config = None) -> None:
    """Reward, state and advantage of stored rollouts under any design, without a training run."""
    dumps = [Path(one) for one in given if "=" not in one or Path(one).exists()]
    keys = [one for one in given if Path(one) not in dumps]
    keys += [f"designs={json.dumps([name.strip() for name in designs.split(',')])}"] if designs else []
    keys += ["ask=true"] if ask else []
    with refusals():
        if not dumps:
            raise SettingsError(["no dump: name the trainer.rollout_data_dir of a run, or .jsonl files of it"])
        loaded = ScoreConfig.load(config, keys)
        with bar(_described) as report:
            result = asyncio.run(commands.run(loaded, dumps, report))
    if result.summaries is None:
        stop_if_owed(result.progress)
        return
    for remark in result.remarks:
        Console(stderr=True).print(f"[yellow]{escape(remark)}[/]")
    _show(result.summaries)
    Console().print(f"{loaded.output / commands.ROLLOUTS_FILE}", markup=False, highlight=False, soft_wrap=True)


def _described(progress: Asked, rollouts: int, seconds: float) -> str:
    if rollouts:
        return f"{rollouts} rollouts scored"
    return f"{progress.samples} replies, {progress.completion_tokens / seconds:.0f} tokens/s, {progress.failed} failed"


def _show(summaries: dict[str, Summary]) -> None:
    """The numbers of all designs under each other, and below why rollouts have none of their own."""
    console = Console()
    table = Table("design", "rollouts", "reward", "gated", "missing", "groups", "no advantage", box=None)
    for name, summary in summaries.items():
        mean, idle = summary.mean_reward, summary.idle_share
        counts = (summary.rollouts, summary.gated.total(), summary.missing.total(), summary.groups)
        rollouts, gated, missing, groups = map(str, counts)
        reward, still = "" if mean is None else f"{mean:.3f}", "" if idle is None else f"{100 * idle:.1f} %"
        table.add_row(escape(name), rollouts, reward, gated, missing, groups, still)
    console.print(table)
    for name, summary in summaries.items():
        states = {"gated": summary.gated, "missing": summary.missing}
        if causes := "; ".join(f"{state}: {_counted(counts)}" for state, counts in states.items() if counts):
            console.print(f"{name}: {causes}", markup=False, highlight=False, soft_wrap=True)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in sorted(counts.items()))
