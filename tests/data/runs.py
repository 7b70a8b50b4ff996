"""Small Stage I runs for the tests."""

import asyncio
import json
from dataclasses import replace

from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.records import read_records, records_file
from verl_spark.data.run import select, work

PROBLEMS = [{"id": f"p{i}", "problem": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(6)]
PLAIN = ("single", "outcome", "step", "meta_single", "meta_outcome", "meta_step")


def config(url, path, output, **changes) -> DataConfig:
    """A small run; `changes` replace top-level keys, those of a nested node one by one."""
    engine = {"model": "mock", "base_urls": [url], "attempts": 1, "deadline_s": 5, "timeout_s": 5}
    plain = {
        "output": str(output),
        "problems": {"path": str(path)},
        "generator": {"engine": engine, "n": 2},
        "verifier": {"engine": engine, "n": 5},
        "references": {"field": "answer", "n": 3},
        "methods": ["step"],
    }
    for key, value in changes.items():
        plain[key] = {**plain[key], **value} if isinstance(value, dict) and key in plain else value
    return DataConfig.from_mapping(plain)


async def finish(config: DataConfig, stages=STAGES):
    """Runs and selects: progress and selection."""
    progress = await work(config, stages, lambda _: None)
    return progress, await select(config)


def records(config: DataConfig, method="step"):
    """The records of a method in a fixed order, without seconds and without prompts, which a second request repeats."""
    read = (replace(r, engine_seconds=0.0, prompt_tokens=0) for r in read_records(records_file(config.output, method)))
    return sorted(read, key=lambda record: (record.problem_id, record.solution))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(work):
    return asyncio.run(work)
