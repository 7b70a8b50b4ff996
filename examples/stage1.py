"""Stage I in small: every method out of the same verifications, on a task whose truth a program knows.

    python -m examples.stage1 [--problems N] [--folder DIR] [--cache DIR]

A tiny generator, verifier and critic are taught on disjoint problems, the verifier and the critic with errors of a
stated rate; then `verl-spark data` does the rest as at full scale, with the same prompts (the worked examples left
out, which these models cannot use), vLLM in the process, and no reference but for the method that needs one. The truth
comes in at the end, to say how right the labels are."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from examples import chains
from examples.chains import Split, Task
from examples.stage1_models import NUMBERED, Stage1Models, stage1_models
from examples.tasks import ARITHMETIC, read_problem
from examples.tiny_models import DEFAULT_CACHE
from examples.verl_run import settle
from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.records import read_records, records_file
from verl_spark.data.run import export, quality, select, work
from verl_spark.evaluation.statistics import Estimate

METHODS = ("single", "outcome", "step", "meta_single", "meta_outcome", "meta_step", "reference")
SOLUTIONS, VERIFICATIONS = 4, 8
console = Console()


def main(
    problems: Annotated[int, typer.Option(help="Problems to make data from.")] = 150,
    folder: Annotated[Path, typer.Option(help="Everything goes here; start again to go on.")] = Path("outputs/stage1"),
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Teach the models, make the data by all methods, and say how right the labels are and what they cost."""
    folder.mkdir(parents=True, exist_ok=True)
    settle()
    models = stage1_models(cache.resolve(), report=console.print)
    config = write_config(folder.resolve(), models, problems)
    console.print(make_data(config))
    accuracy, _ = asyncio.run(quality(config, write_truth(config)))
    console.print(table(config, {(line.method, line.label, line.truth): line.accuracy for line in accuracy}))


def write_config(
    folder: Path,
    models: Stage1Models,
    count: int,
    methods: Sequence[str] = METHODS,
    verifications: int = VERIFICATIONS,
    seed: int = 0,
    task: Task = ARITHMETIC,
) -> DataConfig:
    """The run's config and its problems; the reference answers lie in the same file, as they often do."""
    rows = [
        {"id": f"p{index}", "problem": problem.text, "answer": str(problem.answer)}
        for index, problem in enumerate(task.problems(Split.DATA, count, seed))
    ]
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vllm = {"max_model_len": 1024, "max_num_seqs": 128, "max_num_batched_tokens": 4096, "dtype": "float32"}

    def role(model: Path, max_tokens: int, **more: Any) -> dict[str, Any]:
        engine = {"kind": "vllm", "model": str(model), "vllm": {**vllm, "enforce_eager": True}}
        return {"engine": engine, "max_tokens": max_tokens, **more}

    return DataConfig.from_mapping(
        {
            "output": str(folder / "data"),
            "problems": {"path": str(path)},
            "generator": role(models.generator, 112, n=SOLUTIONS, temperature=1.0),
            "verifier": role(models.verifier, 192, n=verifications, examples=False),
            **({"critic": role(models.critic, 256)} if models.critic else {}),
            "references": {"field": "answer", "n": verifications},
            "methods": methods,
            "seed": seed,
        }
    )


def make_data(config: DataConfig) -> str:
    """Stage I from the first call to the SFT files, or what is owed of it; says what it did.

    Raises `RuntimeError` when calls have failed that may succeed another time."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # it would print a page for each engine
    progress = asyncio.run(work(config, STAGES, lambda _: None))
    if progress.failed:
        raise RuntimeError(f"{config.output}: {progress.failed} calls failed; start again to ask them once more")
    asyncio.run(select(config))
    export(config)
    return f"{progress.problems} problems, {progress.samples} calls"


def write_truth(config: DataConfig) -> Path:
    """The truth about the steps of every solution, for the report alone."""
    path = config.output.parent / "step_truth.jsonl"
    truths = {}
    for record in read_records(records_file(config.output, "single")):
        truth = chains.judge(read_problem(record.problem), record.solution, NUMBERED)
        if truth is not None:
            truths[record.solution_id] = truth.marks
    lines = (json.dumps({"solution_id": name, "marks": marks}) + "\n" for name, marks in truths.items())
    path.write_text("".join(lines))
    return path


def table(config: DataConfig, accuracy: dict[tuple[str, str, str], Estimate | None]) -> Table:
    """Kept examples, label accuracy and cost by method."""
    cost = json.loads((config.output / "cost.json").read_text())["methods"]
    found = Table(
        "method",
        "kept",
        "verdict, right",
        "verdict, wrong",
        "marks, right",
        "marks, wrong",
        "calls",
        "per example",
        title="Label accuracy by what is in truth right or wrong, 95 % intervals; tiny models",
    )

    def cell(method: str, label: str, truth: str) -> str:
        value = accuracy.get((method, label, truth))
        return "" if value is None else value.percent()

    for name in config.methods:
        kept, each = cost[name]["kept"], cost[name]["per_kept_example"]
        cells = [cell(name, label, truth) for label in ("outcome", "step") for truth in ("right", "wrong")]
        found.add_row(name, str(kept), *cells, str(cost[name]["calls"]), f"{each['calls']:.1f}" if each else "")
    found.caption = f"data, records, SFT files, data card: {config.output}"
    return found


if __name__ == "__main__":
    typer.run(main)
