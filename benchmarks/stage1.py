"""Stage I against the shape of the released code of SPARK, and at scale; a mock server stands for the model.

`python -m benchmarks.stage1 ratio`: verified pairs per second and client CPU of our flow, divided by those of the
released code's shape as we re-create it: a thread for each solution, its verifications one call after another, a
barrier after each batch of threads. The third arm is our engine alone on the same prompts. The arms take turns; only
ratios mean anything, since server and clients share the machine.

`python -m benchmarks.stage1 scale`: one long run, with the memory of the process as it goes."""

import asyncio
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.mock_server import serving
from verl_spark.data.calls import STAGES, Calls
from verl_spark.data.config import DataConfig
from verl_spark.data.flow import Progress, open_engines
from verl_spark.data.run import work
from verl_spark.runs.calls import Call
from verl_spark.runs.problems import Problem, read_problems
from verl_spark.runs.store import Store
from verl_spark.verification.steps import numbered_steps

BATCH = 1300
"""Solutions between two barriers in the released code."""

app = typer.Typer(no_args_is_help=True, help="Stage I: ratios and scale.")


@app.command()
def ratio(
    problems: Annotated[int, typer.Option(help="Problems; each has 8 solutions.")] = 64,
    n: Annotated[int, typer.Option(help="Verifications per solution.")] = 8,
    runs: Annotated[int, typer.Option(help="Turns; the median counts.")] = 5,
    latency_s: Annotated[float, typer.Option(help="Median latency of a sample.")] = 0.25,
    slots: Annotated[int, typer.Option(help="Samples that the server generates at a time.")] = 256,
) -> None:
    """Pairs per second and client CPU seconds: ours ÷ the released code's shape, and ours ÷ our engine alone."""
    options = (f"--latency-s={latency_s}", "--latency-spread=0.6", f"--slots={slots}", "--disagreement=0.2")
    with tempfile.TemporaryDirectory() as folder, serving(*options) as url:
        prepared = _config(url, Path(folder) / "prepared", problems, n)
        asyncio.run(work(prepared, ["generate"], lambda _: None))
        calls = _verify_calls(prepared)
        turns = []
        for turn in range(runs):
            ours = prepared.model_copy(update={"output": Path(folder) / f"turn{turn}"})
            shutil.copytree(prepared.output, ours.output)
            turns.append(
                (
                    _timed(lambda: _threads(url, calls)),
                    _timed(lambda: asyncio.run(_engine(prepared, calls))),
                    _timed(lambda config=ours: asyncio.run(work(config, ["verify"], lambda _: None))),
                )
            )
    table = Table("ours ÷ …", "pairs per second", "client CPU seconds", box=None)
    for name, arm in (("the released code's shape", 0), ("our engine alone", 1)):
        speed = [turn[arm][0] / turn[2][0] for turn in turns]
        cpu = [turn[2][1] / turn[arm][1] for turn in turns]
        table.add_row(name, _spread(speed), _spread(cpu))
    Console().print(f"{len(calls)} solutions x {n} verifications, median of {runs} turns \\[lowest, highest]")
    Console().print(table)


@app.command()
def scale(
    verifications: Annotated[int, typer.Option(help="At least so many.")] = 100_000,
    problems_file: Annotated[Path | None, typer.Option(help="JSONL with `problem`; null makes them up.")] = None,
    rows: Annotated[int, typer.Option(help="Lines of the table.")] = 10,
) -> None:
    """Memory of a run over time."""
    n, per_problem = 16, 8
    problems = -(-verifications // (n * per_problem))
    with tempfile.TemporaryDirectory() as folder, serving("--disagreement=0.2") as url:
        config = _config(url, Path(folder) / "out", problems, n, problems_file)
        table = Table("calls", "seconds", "calls per second", "resident MiB", box=None)
        start, step = time.monotonic(), problems * per_problem * (n + 1) // rows
        marks = iter(range(step, rows * step + 1, step))
        mark = next(marks)

        def report(progress: Progress) -> None:
            nonlocal mark
            if progress.samples >= mark:
                mark = next(marks, 10**12)
                seconds = time.monotonic() - start
                pace = progress.samples / seconds
                table.add_row(f"{progress.samples:,}", f"{seconds:.1f}", f"{pace:,.0f}", f"{_resident_mib():.0f}")

        progress = asyncio.run(work(config, ["generate", "verify"], report))
        size = sum(file.stat().st_size for file in (config.output / "calls").iterdir()) / 2**20
    Console().print(table)
    Console().print(f"{progress.samples:,} calls, {progress.failed} failed; {size:,.0f} MiB of journals")


def _config(url: str, output: Path, problems: int, n: int, path: Path | None = None) -> DataConfig:
    output.mkdir()
    if path is None:
        path = output / "problems.jsonl"
        rows = ({"problem": f"Add up the numbers of list {number}."} for number in range(problems))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = {"model": "mock", "base_urls": [url], "max_concurrency": 256}
    return DataConfig.from_mapping(
        {
            "output": str(output),
            "problems": {"path": str(path), "limit": problems},
            "generator": {"engine": engine, "n": 8},
            "verifier": {"engine": engine, "n": n},
        }
    )


def _verify_calls(config: DataConfig) -> list[Call]:
    calls = Calls(config)
    found = []
    with Store(config.output, STAGES) as store:
        for problem in read_problems(config.problems):
            assert isinstance(problem, Problem)
            for solution in store.samples(calls.generate(problem)):
                found.append(calls.verify(problem, solution.text, len(numbered_steps(solution.text) or ())))
    return list({call.key: call for call in found}.values())


def _threads(url: str, calls: list[Call]) -> None:
    """The released code's shape, with one synchronous client for all threads."""
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600)

    def verify(call: Call) -> list[str | None]:
        message, texts = call.message(), []
        for index in range(call.n):
            sampling = call.sampling_from(index)
            reply = client.chat.completions.create(
                model="mock",
                messages=[{"role": "user", "content": message}],
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
            )
            texts.append(reply.choices[0].message.content)
        return texts

    for start in range(0, len(calls), BATCH):
        batch = calls[start : start + BATCH]
        with ThreadPoolExecutor(len(batch)) as pool:
            list(pool.map(verify, batch))


async def _engine(config: DataConfig, calls: list[Call]) -> None:
    async with open_engines(config, ["verify"]) as engines:
        await asyncio.gather(*(engines["verify"].sample(call.message(), call.sampling, call.n) for call in calls))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and CPU seconds of this process."""
    clock, cpu = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - clock, time.process_time() - cpu


def _spread(values: list[float]) -> str:
    return f"{median(values):.3g} [{min(values):.3g}, {max(values):.3g}]"


def _resident_mib() -> float:
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # the highest so far, where there is no /proc


if __name__ == "__main__":
    app()
