"""Rewards of solutions from a verifier behind an OpenAI-compatible server, as a training run would give them.

    python -m examples.external_server SOLUTIONS --url http://localhost:8000/v1 --model NAME [--kind orm --design orm]

SOLUTIONS (.jsonl, .json or .parquet) has a `problem` and a `response` in the policy's format in each row. Gate, prompt,
client, judge, reader and design are those of training, where `reward.spark.serving=external` does the same with
`reward.spark.verifier.base_urls` and `.model`. A server that wants a key gets the one in SPARK_VERIFIER_KEY."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from verl_spark.rl.row import CAUSE_KEYS, GATE_KEYS, STATE_KEYS, is_missing, row_of
from verl_spark.rl.scoring import Scorer
from verl_spark.runs.rows import BadRow, Row, SourceSettings, read_rows
from verl_spark.settings import SparkSettings
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.client import Client, Sampling
from verl_spark.verifier.judge import Answer, Judge, Question
from verl_spark.verifier.outcome import Judged

COLUMNS = ("problem", "response")
REASONS = (*GATE_KEYS.values(), *CAUSE_KEYS.values(), *STATE_KEYS.values())
Solutions = Annotated[Path, typer.Argument(exists=True, dir_okay=False)]
Url, Model = Annotated[str, typer.Option()], Annotated[str, typer.Option()]


def main(
    solutions: Solutions, url: Url, model: Model, kind: Kind = Kind.PRM_COT, design: str = "process_aware"
) -> None:
    """Print reward, verdict and marks of each solution, or why it has none."""
    node = {"serving": "external", "design": design, "verifier": {"kind": kind, "base_urls": [url], "model": model}}
    try:
        rows = list(read_rows(SourceSettings(path=str(solutions)), COLUMNS))
        print(*asyncio.run(judged(SparkSettings.from_config(node), rows)), sep="\n")
    except ValueError as error:
        sys.exit(str(error))


async def judged(settings: SparkSettings, rows: list[Row | BadRow]) -> list[str]:
    """A line for each row. Raises ValueError for a row that cannot be used, and for a design that credits tokens."""
    for row in rows:
        if isinstance(row, BadRow):
            raise ValueError(f"{row.place}: {row.reason}")
        if not all(isinstance(row.values.get(name), str) for name in COLUMNS):
            raise ValueError(f"{row.place}: give a text for each of: {', '.join(COLUMNS)}")
    verifier, key = settings.verifier, os.environ.get("SPARK_VERIFIER_KEY")
    async with Client(verifier.base_urls, verifier.model, api_key=key) as client:
        judge = Judge(client, Sampling(verifier.token_limit))
        return await asyncio.gather(*(_line(settings, judge, row) for row in rows))


async def _line(settings: SparkSettings, judge: Judge, solution: Row) -> str:
    answers: list[Answer] = []  # none for a solution that the gate refuses, else one

    async def ask(question: Question) -> Answer:
        answers.append(await judge.judge(question))
        return answers[-1]

    row = row_of(await Scorer(settings, ask).train(solution.values["response"], solution.values["problem"]))
    said = ["no reward" if is_missing(row) else f"reward {row['spark_reward']:g}"]
    said += [name.removeprefix("spark_") for name in REASONS if row[name]]
    for outcome in (answer.outcome for answer in answers):
        if isinstance(outcome, Judged):
            marks = outcome.reading.steps
            said += [f"verdict {'Yes' if outcome.reading.outcome else 'No'}", *([f"marks {marks}"] if marks else [])]
        elif why := outcome.detail or outcome.reply[-200:]:
            said.append(" ".join(why.split()))
    return f"{solution.place}: {', '.join(said)}"


if __name__ == "__main__":
    typer.run(main)
