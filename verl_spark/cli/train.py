"""The commands `verl-spark train …`: parse, call, print."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_spark import reference
from verl_spark.cli.terminal import refusals, show
from verl_spark.prm.settings import PRESETS, SftSettings
from verl_spark.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="Stage II: generative reward models through verl's SFT trainer.")

_PRESETS = {preset.removeprefix("spark_"): preset for preset in PRESETS}
Overrides = Annotated[
    list[str] | None, typer.Argument(help="verl's own overrides, such as model.path=… spark.data=… optim.lr=2e-5.")
]
Kind = Annotated[str, typer.Argument(help=f"What to train: {', '.join(_PRESETS)}.")]
Rendezvous = Annotated[str | None, typer.Option(help="HOST:PORT where several nodes meet; each starts this command.")]


def _training(preset: str) -> Callable[..., None]:
    def train(overrides: Overrides = None, rendezvous: Rendezvous = None) -> None:
        from verl_spark.prm import launch

        with refusals():
            given = _check(preset, overrides or [])
            command = launch.command(launch.composed(given), [*given, "spark.check_data=False"], rendezvous)
        Console().print(shlex.join(command), markup=False, highlight=False, soft_wrap=True)
        os.execv(command[0], command)

    train.__doc__ = f"Check the data, then train and export with verl's SFT trainer and +sft={preset}."
    return train


for _name, _preset in _PRESETS.items():
    app.command(_name)(_training(_preset))


@app.command()
def check(kind: Kind, overrides: Overrides = None) -> None:
    """The checks before a training alone, with the trained tokens of a few rows."""
    with refusals():
        _check(preset_of(kind), overrides or [])


@app.command()
def export(kind: Kind, overrides: Overrides = None) -> None:
    """Export the last checkpoint of a training, finished or not, with the overrides it was started with."""
    from verl_spark.prm import launch
    from verl_spark.prm.export import export

    with refusals():
        folder = export(launch.composed(launch.overrides_of(preset_of(kind), overrides or [])))
    Console().print(str(folder), markup=False)


@app.command()
def scores(
    folder: Annotated[Path, typer.Argument(help="An exported model.", exists=True, file_okay=False)],
    file: Annotated[Path, typer.Argument(help="JSON file with results by name.", exists=True, dir_okay=False)],
) -> None:
    """Add results of evaluations to an exported model's card."""
    from verl_spark.prm.export import add_scores

    with refusals():
        add_scores(folder, file)


@app.command()
def settings() -> None:
    """Every key of the node `spark`, its default and what it means; all else is verl's."""
    show(reference.settings(SftSettings), "spark.…", "default", "meaning")


def preset_of(kind: str) -> str:
    """The choice of the config group `sft` for a kind that was typed. Raises `SettingsError` for one there is not."""
    if kind not in _PRESETS:
        raise SettingsError([f"there is no {kind}; there are: {', '.join(_PRESETS)}"])
    return _PRESETS[kind]


def _check(preset: str, overrides: list[str]) -> list[str]:
    """Checks and prints what was found; all overrides of the run."""
    from verl_spark.prm import check, claim, launch

    given = launch.overrides_of(preset, overrides)
    config = launch.composed(given)
    checked = check.check(config)
    claim.check_folder(config, checked.settings)
    console = Console(highlight=False, markup=False)
    for one in checked.trained:
        console.print(f"{one}\n", soft_wrap=True)
    for name, counts in check.summary(checked).items():
        console.print(f"{name}: {', '.join(f'{n} {what}' for what, n in counts.items())}")
    return given
