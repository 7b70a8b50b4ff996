"""Stage II in small: reward models that verl's SFT trainer teaches what Stage I made, and how well they find errors.

    python -m examples.stage2 [--problems N] [--seeds N] [--folder DIR] [--cache DIR]

Data of the same size by several methods, for each kind of reward model; all start from the demonstration's base model,
and none has seen a reference but by the method that shows them. They are measured as ProcessBench measures, on
solutions whose first wrong step a program knows."""

import asyncio
import json
import os
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from examples import chains
from examples.chains import Split, Task
from examples.stage1 import make_data, write_config
from examples.stage1_models import stage1_models
from examples.tasks import ARITHMETIC
from examples.tiny_engine import TinyEngine
from examples.tiny_models import DEFAULT_CACHE, Recipe, base_model
from examples.verl_run import run_command, settle, side_by_side
from verl_spark.evaluation.asking import Judgement, evaluate
from verl_spark.evaluation.items import Item
from verl_spark.evaluation.metric import SubsetScore, score
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.evaluation.verifiers.outcome import OutcomeVerifier
from verl_spark.verification.kinds import Kind
from verl_spark.verification.steps import answer_of, numbered_steps
from verl_spark.verifier.client import Sampling
from verl_spark.verifier.engine import Engine

METHODS = ("single", "outcome", "step", "reference")
KINDS = (Kind.ORM, Kind.PRM, Kind.PRM_COT)
VERIFICATIONS = 4
"""Of each solution."""
HELD_OUT = 400
"""Solutions that the models are measured on."""
LONGEST, LONGEST_REPLY = 384, 192
"""Tokens of a verification with its prompt, and without, at most."""
console = Console()


@dataclass(frozen=True)
class Training:
    """How a reward model is trained, whatever its data."""

    updates: int = 110
    batch: int = 32
    learning_rate: float = 8e-4


SMALL = Training(updates=80, batch=16, learning_rate=1e-3)
"""Of each model of the table: there are many."""


@dataclass(frozen=True)
class Cell:
    """A data method and a kind of reward model, trained with several seeds."""

    method: str
    kind: Kind
    judgements: tuple[tuple[Judgement, ...], ...]
    """Of each seed's model."""

    @property
    def score(self) -> SubsetScore:
        """Over all seeds; what the seeds' models say of one problem is drawn together for the intervals."""
        return quality([one for seed in self.judgements for one in seed], self.kind)

    def row(self) -> tuple[str, ...]:
        """Of the table."""
        found, seeds = self.score, [quality(one, self.kind) for one in self.judgements]
        f1 = [one.f1 for one in seeds]
        each = ", ".join(f"{100 * one.mean:.0f}" for one in f1 if one)
        shares = (found.f1, found.error_acc, found.correct_acc, found.verdict_acc_right, found.verdict_acc_wrong)
        unread = sum(found.faults.values())
        cells = [share.percent() if share else "" for share in shares]
        return self.method, self.kind.value, cells[0], each, *cells[1:], f"{100 * unread:.1f} %"


def main(
    problems: Annotated[int, typer.Option(help="Problems to make data from.")] = 300,
    seeds: Annotated[int, typer.Option(help="Trainings of each model.")] = 3,
    jobs: Annotated[int, typer.Option(help="Trainings at a time.")] = 2,
    folder: Annotated[Path, typer.Option(help="Everything goes here; start again to go on.")] = Path("outputs/stage2"),
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Make data of one size by several methods, train, and say how well each model finds the first error."""
    folder, cache = folder.resolve(), cache.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settle()
    base = base_model(cache, Recipe(), console.print)
    models = stage1_models(cache, report=console.print, critic=False)
    config = write_config(folder, models, problems, METHODS, VERIFICATIONS)
    console.print(make_data(config))
    data = {method: config.output / "sft" / method for method in METHODS}
    rows = min(rows_of(path, kind) for path in data.values() for kind in KINDS)
    items = held_out()
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def judged(method: str, kind: Kind, seed: int) -> tuple[Judgement, ...]:
        place = folder / f"{method}-{kind.value}-{seed}"
        train_prm(base, data[method], kind, place, SMALL, seed, rows, threads)
        found = judge_model(place / "export", kind, items, place / "measured")
        console.print(f"{place.name}: done")
        return found

    wanted = [(method, kind, seed) for kind in KINDS for seed in range(seeds) for method in METHODS]
    with side_by_side(jobs) as pool:
        found = dict(zip(wanted, pool.map(lambda one: judged(*one), wanted), strict=True))
    cells = [
        Cell(method, kind, tuple(found[method, kind, seed] for seed in range(seeds)))
        for kind in KINDS
        for method in METHODS
    ]
    results = [{"method": cell.method, "kind": cell.kind.value, **asdict(cell.score)} for cell in cells]
    (folder / "results.json").write_text(json.dumps({"rows": rows, "seeds": seeds, "cells": results}, indent=2) + "\n")
    console.print(table(cells, rows, seeds))


def table(cells: Sequence[Cell], rows: int, seeds: int) -> Table:
    """How well the models find errors."""
    found = Table(
        *("method", "kind", "F1", "seeds", "erroneous", "correct", "verdict, right", "verdict, wrong", "unread"),
        title=f"{rows} rows, {seeds} seeds, {HELD_OUT} held-out solutions, 95 % intervals; tiny models",
    )
    for cell in cells:
        found.add_row(*cell.row())
    return found


def train_prm(
    base: Path,
    data: Path,
    kind: Kind,
    folder: Path,
    training: Training = Training(),
    seed: int = 0,
    rows: int = -1,
    threads: int = 2,
) -> None:
    """`verl-spark train` on the data of a method, the first `rows` of it; the model is in `folder/export`.

    Nothing is done if the model is there; else what an earlier one has left in the folder goes, such as replies. Raises
    `RuntimeError` naming the log when it fails."""
    if (folder / "export").is_dir():
        return
    shutil.rmtree(folder, ignore_errors=True)
    overrides = [
        f"model.path={base}",
        f"spark.data={data}",
        "data.val_files=null",  # it is measured on the task itself
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        f"data.train_max_samples={rows}",
        f"data.max_length={LONGEST}",
        f"data.train_batch_size={training.batch}",
        f"data.max_token_len_per_gpu={training.batch * LONGEST}",
        f"optim.lr={training.learning_rate}",
        "optim.betas=[0.9,0.98]",
        "optim.lr_warmup_steps=20",
        "optim.lr_scheduler_type=cosine",
        f"trainer.total_training_steps={training.updates}",
        f"trainer.total_epochs={training.updates}",
        f"trainer.seed={seed}",
        "trainer.n_gpus_per_node=1",
        f"trainer.default_local_dir={folder}",
    ]
    command = [str(Path(sys.executable).with_name("verl-spark")), "train", kind.value.replace("_", "")]
    run = run_command(folder, command, overrides, timeout_s=1800, env={"OMP_NUM_THREADS": str(threads)})
    if run.returncode != 0:
        raise RuntimeError(f"the training ended with status {run.returncode}: see {run.log}")


def rows_of(data: Path, kind: Kind) -> int:
    """Rows of the training file of a method and a kind."""
    return int(pq.ParquetFile(data / kind.value / "train.parquet").metadata.num_rows)


def held_out(count: int = HELD_OUT, seed: int = 0, task: Task = ARITHMETIC) -> list[Item]:
    """Solutions of problems that no model has seen; every second one is wrong from a known step on."""
    rng = random.Random(seed)
    items = []
    for index, problem in enumerate(task.problems(Split.HELD_OUT, count, seed=200 + seed)):
        solution, first = (
            chains.solution_with_error(problem, rng) if index % 2 else (chains.right_solution(problem), -1)
        )
        text = solution.numbered()
        steps = tuple(span.body for span in numbered_steps(text) or ())
        right = solution.answer == problem.answer
        items.append(Item(str(index), problem.text, steps, first, answer_correct=right, answer=answer_of(text)))
    return items


async def judge(
    engine: Engine,
    name: str,
    kind: Kind,
    items: Sequence[Item],
    folder: Path,
    reply_tokens: int = LONGEST_REPLY,
) -> tuple[Judgement, ...]:
    """What a model says of the items, asked as in RL; the replies are kept in `folder`."""
    verifier = OutcomeVerifier() if kind is Kind.ORM else StepVerifier(kind)
    return (await evaluate(items, verifier, engine, folder, name, Sampling(reply_tokens))).judgements


def judge_model(model: Path, kind: Kind, items: Sequence[Item], folder: Path) -> tuple[Judgement, ...]:
    """The same of the model in a folder."""
    return asyncio.run(judge(TinyEngine(model), str(model), kind, items, folder))


def quality(judgements: Sequence[Judgement], kind: Kind) -> SubsetScore:
    """How well the first errors were found; an ORM has verdicts only."""
    return score(judgements, locates=kind is not Kind.ORM).subsets["items"]


if __name__ == "__main__":
    typer.run(main)
