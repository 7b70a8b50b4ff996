"""The command `verl-spark report`: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from verl_spark.cli.terminal import bar, refusals
from verl_spark.report.page import write_report

Runs = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of RL runs (or one that holds several), result files or a study.json, data folders of Stage I, "
        "folders of eval processbench and eval math, logs of SFT trainings.",
        metavar="RUN...",
    ),
]
Output = Annotated[Path, typer.Option(help="The HTML file.")]


def report(runs: Runs, output: Output = Path("report.html")) -> None:
    """One HTML page about runs: accuracy, curves, verdicts, flags, cost, tables, rollouts with their verifications."""
    with refusals(), bar(_described) as said:
        remarks = write_report(runs, output, said)
    for remark in remarks:
        Console(stderr=True).print(f"[yellow]{escape(remark)}[/]", soft_wrap=True)
    Console().print(f"{output}", markup=False, highlight=False, soft_wrap=True)


def _described(run: str, step: int, seconds: float) -> str:
    return f"{escape(run)}, step {step}"
