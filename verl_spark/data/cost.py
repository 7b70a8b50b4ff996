"""What a run has cost, by stage and by method, and what is left to pay.

Tokens and engine seconds are counted from the journals, so they hold whatever happened to the process. A request's
prompt is counted once: its N samples share it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verl_spark.data.calls import STAGES
from verl_spark.data.config import PriceSettings
from verl_spark.data.journal import Sample
from verl_spark.data.store import Store

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


def by_stage(store: Store) -> dict[str, Cost]:
    """Everything that was paid for, by stage."""
    return {stage: sum((cost_of(samples) for samples in store.journals[stage].requests()), Cost()) for stage in STAGES}


def price(cost: Cost, wall_seconds: float, prices: PriceSettings) -> float:
    """What calls cost that took so long on the clock."""
    prompt = cost.prompt_tokens * prices.per_million_prompt_tokens
    tokens = (prompt + cost.completion_tokens * prices.per_million_completion_tokens) / 1e6
    return tokens + wall_seconds * prices.gpus * prices.per_gpu_second


def account(
    stages: Mapping[str, Cost], methods: Mapping[str, tuple[Cost, int]], wall: float, prices: PriceSettings
) -> dict[str, Any]:
    """The content of `cost.json`. `methods`: what the records of each rest on, solutions excluded, and how many are
    kept.

    A method is charged with all solutions and with its own calls, as if it had been run alone; of the wall time it
    gets the share of its engine seconds."""
    total = sum(stages.values(), Cost())

    def entry(cost: Cost) -> dict[str, Any]:
        share = cost.engine_seconds / total.engine_seconds if total.engine_seconds else 0.0
        seconds = wall * share
        own = {"wall_seconds": round(seconds, 3), "price": round(price(cost, seconds, prices), 6)}
        return {**asdict(cost), "engine_seconds": round(cost.engine_seconds, 3), **own}

    def method_entry(own: Cost, kept: int) -> dict[str, Any]:
        cost = stages["generate"] + own
        whole = entry(cost)
        each = {name: round(value / kept, 6) for name, value in whole.items()} if kept else None
        return {**whole, "kept": kept, "per_kept_example": each}

    return {
        "total": entry(total),
        "stages": {stage: entry(cost) for stage, cost in stages.items()},
        "methods": {name: method_entry(*own) for name, own in methods.items()},
    }
