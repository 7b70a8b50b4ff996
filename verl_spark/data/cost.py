"""What a run has cost, by stage and by method."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from verl_spark.data.config import PriceSettings
from verl_spark.runs.cost import Cost, paid
from verl_spark.runs.store import Store


def by_stage(store: Store) -> dict[str, Cost]:
    """Everything that was paid for, by stage."""
    return {stage: paid(journal) for stage, journal in store.journals.items()}


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
