"""The command `verl-spark`: parse, call, print."""

from enum import Enum
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verl_spark import __version__, reference
from verl_spark.cli import data, plan, report, score, train
from verl_spark.cli import eval as evaluation
from verl_spark.cli.terminal import show
from verl_spark.doctor import examine
from verl_spark.planning.rates import Rate
from verl_spark.rescoring.config import ScoreConfig
from verl_spark.settings import Alarm, SparkSettings
from verl_spark.verifier.engine import EngineSettings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="SPARK for verl.")
app.add_typer(data.app, name="data")
app.add_typer(evaluation.app, name="eval")
app.add_typer(plan.app, name="plan")
app.add_typer(train.app, name="train")
app.command()(score.score)
app.command()(report.report)
_SIGNS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}


class Group(str, Enum):
    """Settings that no other command lists."""

    RL = "rl"
    ALARM = "alarm"
    ENGINE = "engine"
    SCORE = "score"
    RATE = "rate"


@app.callback()
def _main() -> None:
    """Reference-free reinforcement learning with generative process reward models, as a plugin for verl."""


@app.command()
def version() -> None:
    """The version of verl-spark."""
    Console().print(__version__)


@app.command()
def doctor(
    base_url: Annotated[
        list[str] | None, typer.Option(help="A verifier server to reach, e.g. http://localhost:8000/v1; repeatable.")
    ] = None,
) -> None:
    """Say what is installed, registered, reachable and wrong, with the cure. Exit status 1 if anything is wrong."""
    table = Table("", "what", "found", "cure", box=None)
    wrong = 0
    for finding in examine(tuple(base_url or ())):
        wrong += finding.state == "wrong"
        table.add_row(_SIGNS[finding.state], *map(escape, (finding.what, finding.found, finding.cure)))
    Console().print(table)
    raise typer.Exit(1 if wrong else 0)


@app.command()
def settings(group: Annotated[Group, typer.Argument(help="Which ones.")] = Group.RL) -> None:
    """Every setting of RL, below `reward.spark`, its default and what it means; or those of another group.

    The commands `data`, `train` and `eval` list theirs with `settings` behind their own name."""
    models: dict[Group, tuple[type[BaseModel], str]] = {
        Group.RL: (SparkSettings, "reward.spark.…"),
        Group.ALARM: (Alarm, "key of an alarm"),
        Group.ENGINE: (EngineSettings, "….engine.…"),
        Group.SCORE: (ScoreConfig, "key"),
        Group.RATE: (Rate, "key of a rate"),
    }
    model, head = models[group]
    show(reference.settings(model), head, "default", "meaning")


@app.command()
def metrics() -> None:
    """Every metric that a training step reports, and what it means."""
    show(((name, meaning) for name, _, meaning in reference.metrics()), "metric", "meaning")
