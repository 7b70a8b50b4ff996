"""An OpenAI-compatible server without a model: replies by rule, with faults on a schedule and a counter.

`python -m benchmarks.mock_server --port 8000 --schedule ok,ok,http503,cut` answers `/v1/chat/completions` and
`/v1/completions`; `GET /stats` gives what was served by fault. A prompt that shows a solution gets a verification, one
that ends with `Critique:` a plain text, and one that shows a problem alone a solution in numbered steps. A
verification marks every step as correct, except in every `--wrong-every`-th distinct prompt (by content hash), whose
last step is marked wrong. Sample i of a request depends on the prompt and on `seed` + i alone: with a seed, solutions
vary and `--disagreement` of the verifications have one mark turned round; without, all samples are the same."""

import asyncio
import hashlib
import itertools
import json
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import web

from verl_spark.verification.kinds import Kind
from verl_spark.verification.steps import numbered_steps
from verl_spark.verification.writing import write

FAULTS = ("ok", "http503", "http400", "hang", "cut", "garbage", "empty", "drop", "not_json", "partial")
"""What can happen to a request: a good reply, or the fault of that name. `cut`, `garbage` and `empty` meet its last
sample, `partial` loses it; the others meet the whole request."""

START_S = 30.0
"""Longest wait for a server of `serving` to answer."""

_FENCED_SOLUTION = re.compile(r"Solution:\n(`{3,})\n(.*?)\n\1$", re.M | re.S)


class MockServer:
    """State of the mock: the fault schedule (repeated for ever) and what was served."""

    def __init__(
        self,
        schedule: Sequence[str] = ("ok",),
        kind: Kind = Kind.PRM_COT,
        latency_s: float = 0.0,
        hang_s: float = 3600.0,
        wrong_every: int = 2,
        latency_spread: float = 0.0,
        slots: int = 0,
        disagreement: float = 0.0,
    ) -> None:
        unknown = set(schedule) - set(FAULTS)
        if unknown:
            raise ValueError(f"unknown faults {sorted(unknown)}; there are {', '.join(FAULTS)}")
        self.faults = itertools.cycle(schedule)
        self.kind = kind
        self.latency_s = latency_s
        self.hang_s = hang_s
        self.wrong_every = wrong_every
        self.latency_spread = latency_spread
        self.slots = asyncio.Semaphore(slots) if slots else nullcontext()
        self.disagreement = disagreement
        self.served: Counter[str] = Counter()
        self.samples = 0
        self.prompts: set[bytes] = set()

    def app(self) -> web.Application:
        """The web application of this server."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/stats", self.stats)
        return app

    async def models(self, _: web.Request) -> web.Response:
        """The one model there is."""
        return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})

    async def stats(self, _: web.Request) -> web.Response:
        """Requests by fault, samples sent, and how many distinct prompts came."""
        return web.json_response({**self.served, "samples": self.samples, "distinct_prompts": len(self.prompts)})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """All samples of a request, or the next fault of the schedule."""
        body = await request.json()
        prompt = body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])
        n, seed = body.get("n", 1), body.get("seed")
        fault = next(self.faults)
        self.served[fault] += 1
        self.prompts.add(hashlib.sha256(prompt.encode()).digest())
        if fault == "hang":
            await asyncio.sleep(self.hang_s)
        shown = shown_solution(prompt)
        seeds = [None if seed is None else seed + i for i in range(n)]
        texts = await asyncio.gather(*(self.sample(prompt, shown, seed) for seed in seeds))
        if fault == "http503":
            return web.json_response({"error": "overloaded"}, status=503)
        if fault == "http400":
            return web.json_response({"error": "bad request"}, status=400)
        if fault == "not_json":
            return web.Response(text="<html>gateway</html>", content_type="application/json")
        if fault == "drop":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        last = texts.pop()
        last = {"garbage": "I would rather not say.", "empty": "", "cut": last[: len(last) // 2]}.get(fault, last)
        samples = [(text, "stop") for text in texts]
        if fault != "partial":
            samples.append((last, "length" if fault == "cut" else "stop"))
        self.samples += len(samples)
        return web.json_response(self._body(prompt, samples, "messages" in body))

    async def sample(self, prompt: str, shown: str | None, seed: int | None) -> str:
        """One reply, by the rules above, after its latency in a slot; `shown` is the solution in the prompt."""
        rng = random.Random(prompt if seed is None else f"{seed}\n{prompt}")
        async with self.slots:
            await asyncio.sleep(self.latency_s * rng.lognormvariate(0, self.latency_spread))
        if shown is None:
            return self.solution(rng)
        if prompt.rstrip().endswith("Critique:"):
            return "Every mark and every reason stands."
        right = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % self.wrong_every != 0
        marks = [1] * (len(numbered_steps(shown[shown.find("Step 1") :]) or [None]) - 1) + [int(right)]
        if seed is not None and rng.random() < self.disagreement:
            marks[rng.randrange(len(marks))] ^= 1
        return verification(self.kind, tuple(marks))

    @staticmethod
    def solution(rng: random.Random) -> str:
        """A solution in numbered steps that adds numbers up."""
        numbers = [rng.randrange(100) for _ in range(rng.randrange(2, 6))]
        sums = list(itertools.accumulate(numbers))
        steps = [f"Step {k}: Add {x}\nThis gives {y}." for k, (x, y) in enumerate(zip(numbers, sums, strict=True), 1)]
        return "\n".join([*steps, f"Answer: {sums[-1]}"])

    @staticmethod
    def _body(prompt: str, samples: Sequence[tuple[str, str]], chat: bool) -> dict[str, Any]:
        choices = [
            {
                "index": index,
                "finish_reason": reason,
                **({"message": {"role": "assistant", "content": text}} if chat else {"text": text}),
            }
            for index, (text, reason) in enumerate(samples)
        ]
        completion_tokens = sum(len(text.split()) for text, _ in samples)
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": completion_tokens}
        return {"model": "mock", "choices": choices, "usage": usage}


@cache
def verification(kind: Kind, marks: tuple[int, ...]) -> str:
    """A whole verification with these marks."""
    return write(kind, marks, verdict=all(marks))


def shown_solution(prompt: str) -> str | None:
    """The solution that a prompt shows, behind any worked examples; None if the prompt asks for one."""
    if fenced := _FENCED_SOLUTION.findall(prompt):
        return str(fenced[-1][1])
    _, heading, shown = prompt.partition("Solution:\n")
    if heading:
        return shown
    _, heading, shown = prompt.rpartition("Problem:\n")
    return None if heading and "Step 1" not in shown else shown


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """Base URL of a mock server in a process of its own, started with these command-line options."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.mock_server", f"--port={port}", *options]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    url = f"http://127.0.0.1:{port}/v1"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                stats_of(url)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the mock server did not start: {' '.join(command)}") from None
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback address on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def stats_of(url: str) -> dict[str, int]:
    """What the server with this base URL has served."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=5) as reply:
        return dict(json.load(reply))


def main(
    port: Annotated[int, typer.Option(help="TCP port on the loopback address.")] = 8000,
    schedule: Annotated[str, typer.Option(help=f"Comma-separated, repeated for ever: {', '.join(FAULTS)}.")] = "ok",
    kind: Annotated[Kind, typer.Option(help="Reply format.")] = Kind.PRM_COT,
    latency_s: Annotated[float, typer.Option(help="Seconds before each reply; the median with a spread.")] = 0.0,
    hang_s: Annotated[float, typer.Option(help="Seconds that a hanging request takes.")] = 3600.0,
    wrong_every: Annotated[int, typer.Option(help="One in this many distinct prompts is judged wrong.")] = 2,
    latency_spread: Annotated[float, typer.Option(help="Sigma of the log-normal latency; 0 is constant.")] = 0.0,
    slots: Annotated[int, typer.Option(help="Samples that are generated at a time; 0 is no limit.")] = 0,
    disagreement: Annotated[float, typer.Option(help="Share of seeded verifications with a mark turned round.")] = 0.0,
) -> None:
    """Serve until interrupted."""
    faults = schedule.split(",")
    server = MockServer(faults, kind, latency_s, hang_s, wrong_every, latency_spread, slots, disagreement)
    web.run_app(server.app(), host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    typer.run(main)
