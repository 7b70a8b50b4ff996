"""What the reward stage costs beside its engine: verifications a second.

    python -m benchmarks.gpu_reward MODEL FOLDER --url http://localhost:8000/v1

By three ways in turn, each time on solutions that nobody has asked about: scored as in a training run (gate, rendering,
judge, client, reader; one process, no Ray), the same prompts posted to the same server by a bare client that reads
nothing, and token ids given to vLLM in this process. Writes `result.json` into the folder."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer

from benchmarks.gpu_report import spread
from benchmarks.gpu_task import some_solution
from examples.chains import Split
from examples.stage2 import LONGEST, LONGEST_REPLY
from examples.tasks import ARITHMETIC
from verl_spark.rl.row import is_missing, row_of
from verl_spark.rl.scoring import Scorer
from verl_spark.settings import SparkSettings
from verl_spark.verification import prompts
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.rendering import render
from verl_spark.verifier.client import Client, Sampling
from verl_spark.verifier.judge import Judge

COUNT, ROUNDS = 1000, 3
"""Solutions in a round, and rounds that count; one before them warms up."""
AT_ONCE = 256
"""Requests under way, by every way."""

Pair = tuple[str, str]
"""A problem and a response to it."""


def pairs(count: int, seed: int) -> list[Pair]:
    """Problems with a response each, right or wrong."""
    rng = random.Random(seed)
    return [(one.text, some_solution(one, rng).text()) for one in ARITHMETIC.problems(Split.TRAIN, count, seed)]


def message(pair: Pair) -> str:
    """What the verifier is asked about a pair."""
    problem, response = pair
    return prompts.verifier_message(Kind.PRM_COT, problem, render(response, TAGS).text)


def reward_stage(url: str, model: str) -> Callable[[Sequence[Pair]], float]:
    """Scores pairs as a training run does. Raises `RuntimeError` where one in ten got no reward."""
    settings = SparkSettings.from_config(
        {"serving": "external", "verifier": {"base_urls": [url], "model": model, "max_tokens": LONGEST_REPLY}}
    )

    async def run(some: Sequence[Pair]) -> float:
        async with Client([url], model, max_concurrency=AT_ONCE) as client:
            scorer = Scorer(settings, Judge(client, Sampling(LONGEST_REPLY)).judge)
            start = time.monotonic()
            infos = await asyncio.gather(*(scorer.train(response, problem) for problem, response in some))
            seconds = time.monotonic() - start
        known = sum(not is_missing(row_of(info)) for info in infos)
        if known < 0.9 * len(some):
            raise RuntimeError(f"only {known} of {len(some)} solutions got a reward")
        return len(some) / seconds

    return lambda some: asyncio.run(run(some))


def bare_client(url: str, model: str) -> Callable[[Sequence[Pair]], float]:
    """Posts the same prompts to the same server."""
    sampling = {"model": model, "max_tokens": LONGEST_REPLY, "temperature": 0.0}

    async def run(some: Sequence[Pair]) -> float:
        bodies = [{**sampling, "messages": [{"role": "user", "content": message(pair)}]} for pair in some]
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:

            async def post(body: dict[str, Any]) -> None:
                async with session.post(f"{url}/chat/completions", json=body) as reply:
                    await reply.read()

            start = time.monotonic()
            await asyncio.gather(*map(post, bodies))
            return len(some) / (time.monotonic() - start)

    return lambda some: asyncio.run(run(some))


def engine(model: Path, share: float) -> Callable[[Sequence[Pair]], float]:
    """Gives vLLM, in this process, all prompts at once as token ids."""
    from vllm import LLM, SamplingParams, TokensPrompt

    llm = LLM(str(model), max_model_len=LONGEST, max_num_seqs=AT_ONCE, gpu_memory_utilization=share, enforce_eager=True)
    tokenizer = llm.get_tokenizer()
    sampling = SamplingParams(temperature=0.0, max_tokens=LONGEST_REPLY)

    def run(some: Sequence[Pair]) -> float:
        texts = (
            tokenizer.apply_chat_template(
                [{"role": "user", "content": message(pair)}], tokenize=False, add_generation_prompt=True
            )
            for pair in some
        )
        ids = [TokensPrompt(prompt_token_ids=tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        start = time.monotonic()
        llm.generate(ids, sampling, use_tqdm=False)
        return len(some) / (time.monotonic() - start)

    return run


def main(
    model: Annotated[Path, typer.Argument(help="A PRM-CoT of the demonstration.")],
    folder: Annotated[Path, typer.Argument(help="The result goes here.")],
    url: Annotated[str, typer.Option(help="Base URL of a server with that model, by its folder's name.")],
    share: Annotated[float, typer.Option(help="Share of the GPU's memory for the engine in this process.")] = 0.2,
) -> None:
    """Measure, and write what came of it."""
    ways = {
        "reward stage": reward_stage(url, model.name),
        "bare client": bare_client(url, model.name),
    }
    result = {name: _rates(way, 1 + number) for number, (name, way) in enumerate(ways.items())}
    _write(folder, result)  # the engine may fail to start beside the server
    _write(folder, result | {"engine in the process": _rates(engine(model, share), 3)})


def _rates(way: Callable[[Sequence[Pair]], float], seed: int) -> dict[str, float] | None:
    """Verifications a second, over the rounds."""
    some = pairs(COUNT * (1 + ROUNDS), seed)
    return spread([way(some[start : start + COUNT]) for start in range(0, len(some), COUNT)][1:])


def _write(folder: Path, result: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"verifications a second": result, "solutions in a round": COUNT, "rounds": ROUNDS}, indent=2)
    (folder / "result.json").write_text(text)
    print(text)


if __name__ == "__main__":
    typer.run(main)
