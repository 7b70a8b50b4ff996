"""`python -m tests.end_to_end.asking TASK REPLIES`: open an engine, ask it everything at once, write what came back.

A process of its own, so that vLLM and Ray leave nothing in the test's. With `kill` in the task, every replica of the
Ray engine is up before the first request, and one is killed as soon as the first reply is there."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from verl_spark.verifier.client import CallFailed, Sampling
from verl_spark.verifier.engine import Engine, EngineSettings, open_engine


async def ask(engine: Engine, message: str, n: int, **sampling: Any) -> Any:
    try:
        return [asdict(reply) for reply in await engine.sample(message, Sampling(**sampling), n)]
    except CallFailed as error:
        return {"error": type(error).__name__, "permanent": error.permanent, "text": str(error)}


async def main(task: dict[str, Any]) -> list[Any]:
    async with open_engine(EngineSettings(**task["engine"])) as engine:
        victim = None
        if task.get("kill"):
            await asyncio.gather(*(replica.started for replica in engine._replicas))
            victim = await engine._replicas[0].actor.__ray_call__.remote(lambda _: os.getpid())
        asked = [asyncio.create_task(ask(engine, **request)) for request in task["requests"]]
        if victim:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            os.kill(victim, signal.SIGKILL)
        return list(await asyncio.gather(*asked))


if __name__ == "__main__":
    replies = asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
    Path(sys.argv[2]).write_text(json.dumps(replies))
