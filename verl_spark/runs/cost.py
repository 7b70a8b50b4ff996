"""What a run has taken: calls, tokens, engine time and time on the clock.

Tokens and engine seconds are counted from the journals, so they hold whatever happened to the process. A request's
prompt is counted once: its N samples share it."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_spark.runs.journal import Journal, Sample

WALL_FILE = "wall.jsonl"
_TICK_S = 60.0


class Stopwatch:
    """Adds the time that runs work in a folder to its `wall.jsonl`; a kill loses at most a minute."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WALL_FILE
        self._since = time.monotonic()

    def tick(self) -> None:
        """To be called now and then."""
        if time.monotonic() - self._since >= _TICK_S:
            self.stop()

    def stop(self) -> None:
        """Writes down what has passed."""
        now = time.monotonic()
        with self._path.open("a") as file:
            file.write(json.dumps({"wall_seconds": round(now - self._since, 3)}) + "\n")
        self._since = now


def wall_seconds(folder: Path) -> float:
    """Time for which runs have worked in a folder."""
    path = folder / WALL_FILE
    lines = path.read_text().splitlines() if path.exists() else []
    return float(sum(json.loads(line)["wall_seconds"] for line in lines if line.endswith("}")))


@dataclass(frozen=True)
class Cost:
    """Of some calls."""

    calls: int = 0
    """Samples: each is one call in the paper's count."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    """Summed over requests, which overlap: a measure of load, not of time."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.engine_seconds + other.engine_seconds,
        )


def cost_of(samples: Sequence[Sample]) -> Cost:
    """Of samples."""
    return Cost(
        len(samples),
        sum(sample.prompt_tokens for sample in samples),
        sum(sample.completion_tokens for sample in samples),
        sum(sample.seconds for sample in samples),
    )


def paid(journal: Journal) -> Cost:
    """Everything that was paid for in a journal."""
    return sum((cost_of(samples) for samples in journal.requests()), Cost())
