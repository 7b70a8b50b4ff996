"""The task of the GPU runs, the demonstration's arithmetic at any size: SFT files as Stage I writes them,
solutions to judge, and the measure on held-out ones.

    python -m benchmarks.gpu_task MODEL FOLDER [--items N] [--context N] [--reply-tokens N]

measures a PRM-CoT with vLLM in the process and writes `result.json` into the folder."""

import asyncio
import json
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from examples import chains
from examples.chains import Problem, Solution, Split
from examples.stage2 import held_out, judge, quality
from examples.tasks import ARITHMETIC
from verl_spark.data.record import Record
from verl_spark.data.sft import write_sft
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verifier.engine import EngineSettings, open_engine

REPLY_TOKENS = 768
"""Longest verification; one of five steps takes about half of it."""
VLLM = {"max_model_len": 4096, "max_num_seqs": 256, "gpu_memory_utilization": 0.8, "enforce_eager": True}
"""Engine arguments of all measurements: without compiling, whose minutes a small model does not earn back."""


def write_sft_files(folder: Path, rows: int, seed: int = 0) -> Path:
    """SFT files of a PRM-CoT for `rows` solutions to as many problems, right and wrong, with true verifications."""
    rng = random.Random(seed)
    problems = ARITHMETIC.problems(Split.BASE, rows, seed)
    records = (_record(number, problem, some_solution(problem, rng)) for number, problem in enumerate(problems))
    write_sft(records, folder, seed, validation_share=0.05, kinds=(Kind.PRM_COT,))
    return folder


async def measure(model: Path, folder: Path, count: int, context: int, reply_tokens: int) -> dict[str, Any]:
    """The score of a PRM-CoT on `count` held-out solutions, and how fast it answered; limits are in tokens."""
    items = held_out(count)
    vllm = {**VLLM, "max_model_len": context}
    settings = EngineSettings(kind="vllm", model=str(model), max_concurrency=256, vllm=vllm)
    async with open_engine(settings) as engine:
        start = time.monotonic()
        judged = await judge(engine, str(model), Kind.PRM_COT, items, folder, reply_tokens)
        seconds = time.monotonic() - start
    tokens = sum(reply.completion_tokens for one in judged for reply in one.replies)
    return {
        "items": len(items),
        "owed": len(items) - len(judged),
        "score": asdict(quality(judged, Kind.PRM_COT)),
        "seconds": seconds,
        "completion_tokens": tokens,
        "completion_tokens_per_second": tokens / seconds,
    }


def some_solution(problem: Problem, rng: random.Random) -> Solution:
    """Without an error, with a known first one, or with errors here and there."""
    match rng.randrange(3):
        case 0:
            return chains.right_solution(problem)
        case 1:
            return chains.solution_with_error(problem, rng)[0]
        case _:
            return chains.solution_with_errors(problem, 0.35, rng)


def _record(number: int, problem: Problem, solution: Solution) -> Record:
    """What Stage I would keep of this solution with a verifier that makes no error."""
    text = solution.numbered()
    truth = chains.judge(problem, solution.text(), TAGS)
    assert truth is not None, "such a solution is written in steps"
    return Record(
        method="true",
        problem_id=f"p{number}",
        problem=problem.text,
        solution_id=f"p{number}-s0",
        solution=text,
        n_steps=len(truth.marks),
        drop=None,
        verdict=truth.verdict,
        marks=truth.marks,
        text=chains.verification(problem, truth),
        picked=None,
        usable=(),
        votes=None,
        yes_votes=0,
        no_votes=0,
        levels_agree=None,
        ballots=(),
        seed=0,
        generator="program",
        verifier="program",
        prompts={},
        prompt_tokens=0,
        completion_tokens=0,
    )


def main(
    model: Annotated[Path, typer.Argument(help="An exported PRM-CoT.")],
    folder: Annotated[Path, typer.Argument(help="Replies and result go here.")],
    items: Annotated[int, typer.Option(help="Held-out solutions.")] = 1000,
    context: Annotated[int, typer.Option(help="Tokens of a verification with its prompt.")] = VLLM["max_model_len"],
    reply_tokens: Annotated[int, typer.Option(help="Tokens of a verification.")] = REPLY_TOKENS,
) -> None:
    """Measure a PRM-CoT on held-out solutions."""
    result = asyncio.run(measure(model, folder, items, context, reply_tokens))
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    typer.run(main)
