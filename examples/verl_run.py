"""Running verl's own command line, or any command, as a child process: with a log, a time limit, and nothing left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from verl_spark.platforms.cpu.overrides import environment

_thread = threading.local()
"""`stop`, of a thread of `side_by_side`: set when what it runs is to end."""


@dataclass(frozen=True)
class Run:
    """A finished run. `metrics` holds verl's file log: one dictionary a step, the step under "step"."""

    returncode: int
    seconds: float
    log: Path
    metrics: list[dict[str, Any]]

    def text(self) -> str:
        """The whole log."""
        return self.log.read_text(errors="replace")


def settle() -> None:
    """For a program's start: its engines, processes of their own, find the CPU, and SIGTERM ends it as Ctrl-C does."""
    os.environ.update(environment())
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def run_verl(folder: Path, overrides: Sequence[str], **options: Any) -> Run:
    """Run `python -m verl.trainer.main_ppo` with `overrides`; options and result are those of `run_command`."""
    return run_command(folder, [sys.executable, "-m", "verl.trainer.main_ppo"], overrides, **options)


def run_command(
    folder: Path,
    command: Sequence[str],
    overrides: Sequence[str],
    *,
    name: str = "run",
    timeout_s: float = 600,
    env: Mapping[str, str] | None = None,
    platform: Mapping[str, str] | None = None,
    loggers: Sequence[str] = ("console", "file"),
    watch: Callable[[str], bool | None] | None = None,
) -> Run:
    """Run a trainer's command with Hydra overrides; log and metrics go into `folder`.

    `platform` are the variables of the platform it runs on, those of the CPU unless given; `env` adds to them.
    `watch` and `timeout_s` are those of `run_child`.
    """
    metrics = folder / f"{name}.metrics.jsonl"
    logger = f"trainer.logger=[{','.join(loggers)}]"
    command = [*command, *overrides, logger, f"hydra.run.dir={folder / 'hydra'}"]
    variables = {**(environment() if platform is None else platform), "VERL_FILE_LOGGER_PATH": str(metrics)}
    log = folder / f"{name}.log"
    code, seconds = run_child(command, log, timeout_s=timeout_s, env={**variables, **(env or {})}, watch=watch)
    return Run(code, seconds, log, read_metrics(metrics))


def run_child(
    command: Sequence[str],
    log: Path,
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    watch: Callable[[str], bool | None] | None = None,
) -> tuple[int, float]:
    """Run any command with these variables added, its output in `log`; its return code and its seconds.

    `watch` sees every line of the log as it comes; when it returns True, the run is killed there and then. A run
    that exceeds `timeout_s` is killed as well; its return code is then negative.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("w") as out:
        out.write(" ".join(command) + "\n")
        out.flush()
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, start_new_session=True
        )
        try:
            _follow(process, log, start + timeout_s, watch)
        finally:
            _end(process)
    return process.returncode, time.monotonic() - start


@contextmanager
def side_by_side(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for so many of these runs at a time; an error or an interrupt in the block kills what they run."""
    stop = threading.Event()
    pool = ThreadPoolExecutor(count, initializer=lambda: setattr(_thread, "stop", stop))
    try:
        yield pool
    except BaseException:
        stop.set()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a verl file log; a torn last line is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append({"step": entry["step"], **entry["data"]})
    return rows


def _follow(
    process: "subprocess.Popen[bytes]", log: Path, deadline: float, watch: Callable[[str], bool | None] | None
) -> None:
    stop: threading.Event | None = getattr(_thread, "stop", None)
    with log.open(errors="replace") as lines:
        while True:
            ended = process.poll() is not None
            while line := lines.readline():
                if watch is not None and watch(line):
                    return
            if ended or time.monotonic() > deadline or (stop is not None and stop.is_set()):
                return
            time.sleep(0.2)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of the run: Ray's daemons and workers outlive a driver that was killed."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family, timeout=30)
