"""vLLM's own OpenAI-compatible server, as a child process."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.mock_server import free_port

START_S = 180.0


@contextmanager
def vllm_server(
    model: Path, longest: int, log: Path, options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """A server with this model, by its folder's name; its base URL. It takes prompts with replies of `longest` tokens.

    `env` is its whole environment. Raises `RuntimeError` with the end of its log when it is not up in time."""
    port = free_port()
    keys = {"max-model-len": longest, "served-model-name": model.name, "port": port}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", f"--model={model}", "--enforce-eager"]
    command += ["--host=127.0.0.1", "--uvicorn-log-level=warning", *(f"--{key}={value}" for key, value in keys.items())]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as out,
        subprocess.Popen([*command, *options], stdout=out, stderr=subprocess.STDOUT, env=env) as process,
    ):
        out.write(" ".join([*command, *options]) + "\n")
        try:
            deadline = time.monotonic() + START_S
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server is not up; the end of {log}:\n{log.read_text()[-2000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False
