"""An OpenAI-compatible server without a model: verifications by rule, with faults on a schedule and a counter.

`python -m benchmarks.mock_server --port 8000 --schedule ok,ok,http503,cut` answers `/v1/chat/completions` and
`/v1/completions`; `GET /stats` gives what was served by fault. A verification marks every step of the solution in
the prompt as correct, except in every `--wrong-every`-th distinct prompt (by content hash), whose last step is
marked wrong: the same prompt always gets the same reply."""

import asyncio
import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from aiohttp import web

from verl_spark.verification.kinds import Kind
from verl_spark.verification.steps import numbered_steps
from verl_spark.verification.writing import write

FAULTS = ("ok", "http503", "http400", "hang", "cut", "garbage", "empty", "drop", "not_json")
"""What can happen to a request: a good reply, or the fault of that name."""


class MockServer:
    """State of the mock: the fault schedule (repeated for ever) and what was served."""

    def __init__(
        self,
        schedule: Sequence[str] = ("ok",),
        kind: Kind = Kind.PRM_COT,
        latency_s: float = 0.0,
        hang_s: float = 3600.0,
        wrong_every: int = 2,
    ) -> None:
        unknown = set(schedule) - set(FAULTS)
        if unknown:
            raise ValueError(f"unknown faults {sorted(unknown)}; there are {', '.join(FAULTS)}")
        self.faults = itertools.cycle(schedule)
        self.kind = kind
        self.latency_s = latency_s
        self.hang_s = hang_s
        self.wrong_every = wrong_every
        self.served: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()

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
        """Requests by fault, and how many distinct prompts came."""
        return web.json_response({**self.served, "distinct_prompts": len(self.prompts)})

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """One reply, or the next fault of the schedule."""
        body = await request.json()
        prompt = body["messages"][-1]["content"] if "messages" in body else str(body["prompt"])
        fault = next(self.faults)
        self.served[fault] += 1
        self.prompts[prompt] += 1
        await asyncio.sleep(self.hang_s if fault == "hang" else self.latency_s)
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
        text = {"garbage": "I would rather not say.", "empty": ""}.get(fault, self.verification(prompt))
        reason = "stop"
        if fault == "cut":
            text, reason = text[: len(text) // 2], "length"
        return web.json_response(self._body(text, reason, "messages" in body))

    def verification(self, prompt: str) -> str:
        """A whole verification of the numbered solution in `prompt`, by the rule above."""
        n_steps = len(numbered_steps(prompt[prompt.find("Step 1") :]) or [None])
        right = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % self.wrong_every != 0
        marks = [1] * (n_steps - 1) + [int(right)]
        return write(self.kind, marks, verdict=right)

    @staticmethod
    def _body(text: str, reason: str, chat: bool) -> dict[str, Any]:
        content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": 0, "completion_tokens": len(text.split())}
        return {"model": "mock", "choices": [{"index": 0, "finish_reason": reason, **content}], "usage": usage}


def main(
    port: Annotated[int, typer.Option(help="TCP port on the loopback address.")] = 8000,
    schedule: Annotated[str, typer.Option(help=f"Comma-separated, repeated for ever: {', '.join(FAULTS)}.")] = "ok",
    kind: Annotated[Kind, typer.Option(help="Reply format.")] = Kind.PRM_COT,
    latency_s: Annotated[float, typer.Option(help="Seconds before each reply.")] = 0.0,
    hang_s: Annotated[float, typer.Option(help="Seconds that a hanging request takes.")] = 3600.0,
    wrong_every: Annotated[int, typer.Option(help="One in this many distinct prompts is judged wrong.")] = 2,
) -> None:
    """Serve until interrupted."""
    server = MockServer(schedule.split(","), kind, latency_s, hang_s, wrong_every)
    web.run_app(server.app(), host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    typer.run(main)
