"""The study with one command, as far as it is not done yet.

python -m recipes.miniature [--task clock] [--quick] [--only NAME ...] [--seed N ...] [--tables]
"""

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from examples.tiny_models import DEFAULT_CACHE
from examples.verl_run import settle
from recipes.miniature.config import HERE, StudyConfig, TaskName, variant
from recipes.miniature.questions import write_study
from recipes.miniature.runs import Runner

console = Console()


def main(
    task: Annotated[TaskName, typer.Option(help="What is solved and verified.")] = "arithmetic",
    quick: Annotated[
        bool, typer.Option("--quick", help="A small form: two questions, the core arms, one seed.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Runs to do: labels, prm, arm, or such as arm-rlvr.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seeds to do; all unless given.")] = None,
    tables: Annotated[bool, typer.Option("--tables", help="Do no run, write the tables of those there are.")] = False,
    folder: Annotated[Path, typer.Option(help="Everything that is made goes here.")] = Path("outputs/miniature"),
    results: Annotated[Path | None, typer.Option(help="The small result files.")] = None,
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Do the runs that have no result yet, and write the tables of all results."""
    config = StudyConfig.load(quick, task)
    known = {name for run in config.runs() for name in (run.what, f"{run.what}-{run.name}")}
    if unknown := set(only or ()) - known:
        raise typer.BadParameter(f"no run is {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    folder = (folder / "quick" if quick else folder).resolve()
    results = (results or HERE / "results" / ("-".join(variant(quick, task)) or task)).resolve()
    if not tables:
        settle()
        with Runner(config, folder, results, cache.resolve(), console.print) as runner:
            wanted = [
                run
                for run in config.runs()
                if (not only or {run.what, f"{run.what}-{run.name}"} & set(only))
                and (not seed or run.seed in seed)
                and runner.owed(run)
            ]
            for (what, seed_), some in groupby(wanted, lambda run: (run.what, run.seed)):
                runs = list(some)
                console.rule(f"seed {seed_}: {what} {', '.join(run.name for run in runs)}")
                runner.run(runs)
    console.print(f"tables: {write_study(config, results)}")


if __name__ == "__main__":
    typer.run(main)
