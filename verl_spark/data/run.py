"""The commands of Stage I as functions."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from verl_spark.data.builders import Counts, Solved, write_format_sft, write_rl_prompts
from verl_spark.data.calls import STAGES
from verl_spark.data.card import CARD_TEXT_FILE, write_card
from verl_spark.data.config import DataConfig
from verl_spark.data.flow import Flow, Progress, open_engines
from verl_spark.data.plan import Plan, make_plan
from verl_spark.data.quality import QUALITY_FILE, Growth, LabelAccuracy, growth, label_accuracy, solution_truth
from verl_spark.data.record import Record
from verl_spark.data.records import Selection, read_records, records_file, write_records
from verl_spark.data.references import read_references
from verl_spark.data.sft import SftCounts, write_sft
from verl_spark.evaluation.leakage import Benchmark, Leakage, find_leakage
from verl_spark.files import replacing
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.runs.problems import Problem, read_problems
from verl_spark.runs.store import Store
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind


async def work(config: DataConfig, allowed: Collection[str], report: Callable[[Progress], None]) -> Progress:
    """Asks what is owed of the stages in `allowed`; `report` gets the progress now and then."""
    config.claim()
    with Store(config.output, STAGES, write=True) as store:
        async with open_engines(config, allowed) as engines:
            return await Flow(config, store, engines, allowed, report).run()


async def select(config: DataConfig) -> Selection:
    """Writes records, data card and cost account out of the calls that are finished."""
    config.claim()
    with Store(config.output, STAGES) as store:
        selection = await write_records(config, store)
        write_card(config, store)
        return selection


def card(config: DataConfig) -> str:
    """Writes data card and cost account out of the records that are there; the card's text."""
    config.claim()
    with Store(config.output, STAGES) as store:
        write_card(config, store)
    return (config.output / CARD_TEXT_FILE).read_text(encoding="utf-8")


async def plan(config: DataConfig, probe: int, report: Callable[[Progress], None]) -> Plan:
    """What is owed; with a `probe`, after that many problems have really been run, which are kept."""
    if probe:
        problems = config.problems.model_copy(update={"limit": probe})
        await work(config.model_copy(update={"problems": problems}), STAGES, report)
    config.check()
    with Store(config.output, STAGES) as store:
        return await make_plan(config, store)


def export(config: DataConfig) -> dict[str, dict[Kind, SftCounts]]:
    """Writes the SFT files of every method and kind out of the records that are there; the counts."""
    return {
        name: write_sft(
            read_records(records_file(config.output, name)),
            config.output / "sft" / name,
            config.seed,
            config.validation_share,
        )
        for name in config.methods
    }


async def quality(config: DataConfig, step_truth: Path | None) -> tuple[list[LabelAccuracy], list[Growth]]:
    """Accuracy of the labels by method, and of the consensus as N grows; also written to `quality.json`.

    `step_truth` is a JSONL file of `solution_id` and `marks`. Raises `SettingsError` without any truth."""
    if config.references is None and step_truth is None:
        raise SettingsError(["references: no truth to compare with; set references.field=COLUMN or give --step-truth"])
    references = dict(read_references(config.problems, config.references)) if config.references else {}
    marks = {} if step_truth is None else dict(_step_truth(step_truth))

    def records() -> Iterator[Record]:
        return chain.from_iterable(read_records(records_file(config.output, name)) for name in config.methods)

    checker = AnswerChecker()
    try:
        truth = await solution_truth(records(), references, checker)
    finally:
        checker.close()
    accuracy = label_accuracy(records(), truth, marks)
    voted = next((method.name for method in config.chosen if method.level != "single" and not method.reference), None)
    grown = growth(read_records(records_file(config.output, voted)), truth, marks) if voted else []
    with replacing(config.output / QUALITY_FILE) as file:
        json.dump({"accuracy": [asdict(line) for line in accuracy], "growth": [asdict(line) for line in grown]}, file)
    return accuracy, grown


def leakage(config: DataConfig, benchmarks: Sequence[Path], text_field: str) -> list[Leakage]:
    """What the problems have in common with benchmark files; also written to `leakage.json`."""
    loaded = [Benchmark.load(str(path), path, text_field) for path in benchmarks]
    found = find_leakage(_problems(config), loaded)
    with replacing(config.output / "leakage.json") as file:
        json.dump([asdict(one) for one in found], file)
    return found


def rl_prompts(config: DataConfig) -> tuple[Path, Counts]:
    """Writes verl's RL parquet of the problems."""
    path = config.output / "rl" / "train.parquet"
    return path, write_rl_prompts(_problems(config), path, config.problems.path)


def format_sft(config: DataConfig) -> tuple[Path, Counts]:
    """Writes SFT data for the policy's text format out of the solutions that the first method calls right."""
    folder = config.output / "format_sft"
    solved = (
        Solved(record.problem_id, record.problem, record.solution)
        for record in read_records(records_file(config.output, config.methods[0]))
        if record.drop is None and record.verdict
    )
    return folder, write_format_sft(solved, folder, config.seed, config.validation_share)


def _problems(config: DataConfig) -> Iterator[Problem]:
    return (found for found in read_problems(config.problems) if isinstance(found, Problem))


def _step_truth(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield row["solution_id"], tuple(row["marks"])
