"""What the commands that do long work share: their options, a progress line, and how they refuse and stop."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from verl_spark.evaluation.items import ItemsError
from verl_spark.evaluation.recorded import RepliesError
from verl_spark.evaluation.statistics import Estimate
from verl_spark.report.charts import NotInstalled
from verl_spark.runs.asking import Asked
from verl_spark.runs.journal import JournalError
from verl_spark.runs.problems import BadRowError
from verl_spark.runs.rows import SourceError
from verl_spark.settings import SettingsError

Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with the config.", exists=True, dir_okay=False)
]
Keys = Annotated[list[str] | None, typer.Argument(help="Config keys over the file's, such as verifier.n=4.")]

_REFUSALS = (
    *(SettingsError, SourceError, BadRowError, ItemsError, RepliesError, JournalError, FileNotFoundError),
    NotInstalled,
)


@contextmanager
def refusals() -> Iterator[None]:
    """What a user can mend is said in a line each, without a traceback; an interruption ends quietly."""
    try:
        yield
    except _REFUSALS as error:
        Console(stderr=True).print(f"[red]{escape(str(error))}[/]")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped. All finished calls are kept; start again to go on.")
        raise typer.Exit(130) from None


@contextmanager
def bar(describe: Callable[..., str]) -> Iterator[Callable[..., None]]:
    """A progress line; `describe` gets what is reported and the seconds so far."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("starting")

        def report(*state: Any) -> None:
            shown.update(task, description=describe(*state, shown.tasks[0].elapsed or 1.0))

        yield report


def stop_if_owed(progress: Asked) -> None:
    """Ends the command with status 1 if requests failed in a way that may pass."""
    if progress.failed:
        Console(stderr=True).print(
            f"[red]{progress.failed} requests failed and are owed[/]; the last: {escape(progress.last_failure)}. "
            "Start again to ask them again."
        )
        raise typer.Exit(1)


def show(rows: Iterable[tuple[str, ...]], *heads: str) -> None:
    """Prints plain texts as a table."""
    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def percent(value: Estimate | None) -> str:
    """An estimate as a cell of a table, empty where there is none."""
    return "" if value is None else value.percent()
