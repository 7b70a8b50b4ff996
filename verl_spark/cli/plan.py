"""The commands `verl-spark plan …`: parse, call, print."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verl_spark.cli.terminal import Config, Keys, refusals
from verl_spark.cli.train import Kind, preset_of

if TYPE_CHECKING:
    from verl_spark.planning.engines import Place
    from verl_spark.planning.rates import Rate
    from verl_spark.planning.work import Work

app = typer.Typer(no_args_is_help=True, help="Calls, tokens, GPU hours and memory of a config, before it is started.")

Problems = Annotated[int | None, typer.Option(min=1, help="Number of problems, where their file is not there yet.")]
Tokens = Annotated[list[str] | None, typer.Option(help="Length of a text, NAME=TOKENS; repeatable.")]
RateOf = Annotated[
    list[str] | None,
    typer.Option("--rate", help="ROLE=TOKENS that one GPU makes a second; repeatable."),
]
Rates = Annotated[
    Path | None, typer.Option("--rates", help="YAML file with rates that you measured.", exists=True, dir_okay=False)
]
Machine = Annotated[str | None, typer.Option(help="Part of a GPU's name, to take only rates of it.")]
Gpus = Annotated[int, typer.Option(min=1, help="GPUs that share the work, for hours on the clock.")]
GpuGb = Annotated[float | None, typer.Option("--gpu-gb", min=1, help="Memory of a GPU in GB: plans memory as well.")]


@app.command()
def data(
    config: Config = None,
    keys: Keys = None,
    problems: Problems = None,
    tokens: Tokens = None,
    like: Annotated[
        Path | None, typer.Option(help="Output folder of a small run, to go by its tokens and pace.")
    ] = None,
    rate: RateOf = None,
    rates: Rates = None,
    machine: Machine = None,
    gpus: Gpus = 1,
    gpu_gb: GpuGb = None,
) -> None:
    """A whole Stage I run. ROLE: generator, verifier, critic. NAME: problem or a stage (generate, verify, …)."""
    from verl_spark.data.config import DataConfig
    from verl_spark.planning import engines, stage1
    from verl_spark.planning.earlier import read_earlier

    with refusals():
        loaded = DataConfig.load(config, keys or ())
        lengths = _lengths(tokens, stage1.LENGTHS)
        earlier = read_earlier(like, loaded) if like else None
        works = stage1.plan_stage1(loaded, problems, lengths, earlier)
        found = _rates(works, stage1.ROLES, rate, rates, machine, earlier.rate if earlier else None)
        _show(works, found)
        if problems and not earlier and stage1.PROBLEM not in lengths:
            Console().print(
                f"A problem is taken to have {stage1.PROBLEM_TOKENS} tokens; --tokens problem=N says how many"
            )
        _show_hours(works, found, gpus)
        _show_memory(engines.of_stage1(loaded), gpu_gb)


@app.command()
def train(
    overrides: Annotated[list[str] | None, typer.Argument(help="verl's overrides, as behind main_ppo.")] = None,
    problems: Problems = None,
    tokens: Tokens = None,
    rate: RateOf = None,
    rates: Rates = None,
    machine: Machine = None,
    gpus: Gpus = 1,
    gpu_gb: GpuGb = None,
) -> None:
    """A training (Stage III). ROLE: policy, verifier, trainer. NAME: prompt, rollout, verification."""
    from verl_spark.planning import engines, training

    with refusals():
        lengths = _lengths(tokens, training.LENGTHS)
        plan = training.plan_training(overrides or (), problems, lengths)
        found = _rates(plan.step, training.ROLES, rate, rates, machine, None)
        Console().print("One step:")
        _show(plan.step, found)
        Console().print(f"\n{plan.steps:,} steps, without validation and probe:")
        _show(plan.whole(), found)
        _show_hours(plan.whole(), found, gpus)
        _show_memory(engines.of_training(plan.config), gpu_gb)


@app.command()
def sft(
    kind: Kind,
    overrides: Annotated[list[str] | None, typer.Argument(help="verl's overrides, as of the training.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Number of rows, where their file is not there yet.")] = None,
    tokens: Tokens = None,
    rate: RateOf = None,
    rates: Rates = None,
    machine: Machine = None,
    gpus: Gpus = 1,
    gpu_gb: GpuGb = None,
) -> None:
    """A reward model's training (Stage II). ROLE: trainer. NAME: row, its prompt and reply together."""
    from verl_spark.planning import engines
    from verl_spark.planning.sft import LENGTHS, ROLES, plan_sft
    from verl_spark.prm.launch import overrides_of

    with refusals():
        plan = plan_sft(overrides_of(preset_of(kind), overrides or ()), rows, _lengths(tokens, LENGTHS))
        found = _rates([plan.work], ROLES, rate, rates, machine, None)
        Console().print(f"{plan.steps:,} steps, without validation; prompts are counted with their replies:")
        _show([plan.work], found)
        _show_hours([plan.work], found, gpus)
        _show_memory(engines.of_sft(plan.config), gpu_gb)


@app.command()
def memory(
    model: Annotated[str, typer.Argument(help="Folder with a config.json, or a hub id.")],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs of one engine, or of the whole training.")] = 1,
    gpu_gb: Annotated[float, typer.Option("--gpu-gb", min=1, help="Memory of a GPU in GB.")] = 80,
    utilization: Annotated[float, typer.Option(min=0.01, max=1, help="Share of it that an engine takes.")] = 0.9,
) -> None:
    """A model in an inference engine, and in a training of all its weights (any stage)."""
    from verl_spark.planning.engines import Place

    with refusals():
        _show_memory([Place("inference", model, gpus, utilization), Place("training", model, gpus, None)], gpu_gb)


def _lengths(given: Sequence[str] | None, names: Sequence[str]) -> dict[str, int]:
    from verl_spark.planning.work import numbers

    return {name: max(1, round(value)) for name, value in numbers("--tokens", given or (), names).items()}


def _rates(
    works: Iterable["Work"],
    roles: Sequence[str],
    given: Sequence[str] | None,
    file: Path | None,
    machine: str | None,
    earlier: "Rate | None",
) -> dict[str, "Rate"]:
    """A rate by role, where there is one: what was typed, the user's file, an earlier run, what was measured here."""
    from verl_spark.planning import rates
    from verl_spark.planning.work import numbers

    found = {role: rates.given_rate(role, value) for role, value in numbers("--rate", given or (), roles).items()}
    own = rates.read_rates(file) if file else ()
    for work in works:
        if work.role in found:
            continue
        if known := rates.find(work, machine, own) or earlier or rates.find(work, machine, rates.shipped()):
            found[work.role] = known
    return found


def _show(works: Sequence["Work"], rates: Mapping[str, "Rate"]) -> None:
    heads = ("", "model", "calls, at most", "prompt tokens", "reply tokens", "length of a reply", "GPU hours")
    table = Table(*heads, box=None)
    for work in works:
        rate = rates.get(work.role)
        hours = f"{rate.gpu_hours(work):,.2f}" if rate else "no rate"
        counts = (f"{count:,}" for count in (work.calls, work.prompt_tokens, work.reply_tokens))
        table.add_row(work.name, escape(work.model), *counts, escape(work.source), hours)
    Console().print(table)


def _show_hours(works: Sequence["Work"], rates: Mapping[str, "Rate"], gpus: int) -> None:
    """GPU hours together, where the rates come from, and how to give those that there are not."""
    lines = []
    missing = list(dict.fromkeys(work.role for work in works if work.role not in rates))
    if missing:
        wanted = " ".join(f"--rate {role}=TOKENS" for role in missing)
        lines.append(f"GPU hours need a rate: {wanted} (a second and GPU), or a file with --rates")
    if any(work.role in rates for work in works):
        total = sum(rates[work.role].gpu_hours(work) for work in works if work.role in rates)
        rest = " without those" if missing else ""
        clock = f"{total / gpus:,.1f} hours on {gpus} GPUs that are all busy"
        lines.append(f"Together{rest} {total:,.1f} GPU hours: {clock}")
    for role, rate in rates.items():
        speed = f"{rate.reply_tokens_per_s / rate.gpus:,.0f} tokens/s and GPU"
        lines.append(f"{role}: {speed}; {rate.machine}, {rate.source}{'; ' if rate.note else ''}{rate.note}")
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)


def _show_memory(places: Iterable["Place"], gpu_gb: float | None) -> None:
    if gpu_gb is None:
        return
    from verl_spark.planning import memory

    places = list(places)
    shapes = {model: memory.read_shape(model) for model in dict.fromkeys(place.model for place in places)}
    heads = ("GB", "model", "parameters", "GPUs", "weights", "KV cache", "a token takes", "so many tokens")
    table = Table(*heads, box=None)
    training = []
    for place in places:
        shape = shapes[place.model]
        if place.utilization is None:
            training.append((place, memory.states(shape, place.gpus)))
            continue
        found = memory.serving(shape, place.gpus, gpu_gb, place.utilization)
        fits = f"{found.tokens:,}" if found.cache > 0 else f"does not fit {place.gpus} x {gpu_gb:g} GB"
        cells = (f"{found.weights:.1f}", f"{max(0.0, found.cache):.1f}", f"{found.token * 1e6:.0f} kB", fits)
        name = f"{shape.parameters / 1e9:.2f} B"
        table.add_row(place.who, escape(place.model), name, f"{place.gpus} at {place.utilization:g}", *cells)
    console = Console()
    console.print()
    if table.row_count:
        console.print(table)
    for place, states in training:
        console.print(
            f"{place.who}: {states:.1f} GB on each of {place.gpus} GPUs for weights, gradients and Adam's moments in "
            "single precision (FSDP, all weights); activations come on top and are not modelled",
            highlight=False,
            soft_wrap=True,
        )
