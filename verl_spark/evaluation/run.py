"""The command `verl-spark eval processbench` as a function, and the files it writes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from verl_spark.evaluation.asking import Evaluation, Judgement, Progress, evaluate
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.contamination import Overlap, find_overlap
from verl_spark.evaluation.items import Items, read_items
from verl_spark.evaluation.metric import Score, score
from verl_spark.evaluation.recorded import judge_recorded
from verl_spark.evaluation.statistics import Estimate
from verl_spark.files import file_hash, replacing
from verl_spark.runs.cost import wall_seconds
from verl_spark.verifier.engine import Engine
from verl_spark.versions import versions

RESULT_FILE, ITEMS_FILE = "result.json", "items.jsonl"


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    progress: Progress
    score: Score | None = None
    """None while items are owed: a score of some of them would be another number."""
    overlap: Overlap | None = None
    without_overlap: Score | None = None


async def run(config: EvalConfig, report: Callable[[Progress, int], None]) -> Result:
    """Judges every item that is owed and, when none is left, writes `items.jsonl` and `result.json`.

    `report` gets the progress and the number of all items. Raises `SettingsError`, `SourceError`, `ItemsError`,
    `RepliesError` or `JournalError` with what the user can mend."""
    items = read_items(config.data)
    overlap = None
    if config.training_data:
        overlap = find_overlap(items.items, config.training_data, config.training_field)
    config.claim()
    (config.output / RESULT_FILE).unlink(missing_ok=True)  # it would pass for the result of this start
    verifier, judge = config.verifier.make(), config.verifier
    done: Evaluation | None = None
    if config.replies:
        judgements: Sequence[Judgement] = judge_recorded(items.items, verifier, config.replies, judge.n)
        progress = Progress(items=len(judgements))
    else:
        done = await _asked(config, items, None, report)
        if done.owed:  # else no model is loaded
            async with judge.open() as engine:
                done = await _asked(config, items, engine, report)
        judgements, progress = done.judgements, done.progress
        if done.owed:
            return Result(progress)
    whole = score(judgements, verifier.locates, config.seed)
    rest = None
    if overlap is not None:
        unseen = [one for one in judgements if not overlap.holds(one.item)]
        rest = score(unseen, verifier.locates, config.seed, tuple(whole.subsets))
    result = Result(progress, whole, overlap, rest)
    with replacing(config.output / ITEMS_FILE) as file:
        for judgement in judgements:
            file.write(json.dumps(_item(judgement)) + "\n")
    with replacing(config.output / RESULT_FILE) as file:
        json.dump(_result(config, items, result, done), file, indent=2)
    return result


async def _asked(
    config: EvalConfig, items: Items, engine: Engine | None, report: Callable[[Progress, int], None]
) -> Evaluation:
    judge = config.verifier
    return await evaluate(
        items.items,
        judge.make(),
        engine,
        config.output,
        judge.model or "",
        judge.sampling(),
        judge.n,
        config.seed,
        config.window,
        lambda progress: report(progress, len(items.items)),
    )


def _item(judgement: Judgement) -> dict[str, Any]:
    item, prediction = judgement.item, judgement.prediction
    return {
        "subset": item.subset,
        "id": item.id,
        "label": item.label,
        "prediction": prediction.index,
        "match": judgement.match,
        "fault": prediction.fault,
        "verdict": prediction.verdict,
        "steps": len(item.steps),
        "replies": [
            {name: getattr(reply, name) for name in ("text", "finish_reason", "prompt_tokens", "completion_tokens")}
            for reply in judgement.replies
        ],
    }


def _result(config: EvalConfig, items: Items, result: Result, done: Evaluation | None) -> dict[str, Any]:
    judge, overlap = config.verifier, result.overlap
    contamination = None
    if overlap is not None:
        contamination = {
            "training_data": {source: _hash(source) for source in config.training_data},
            "rows": overlap.rows,
            "rows_without_a_problem": overlap.unread,
            "overlapping": overlap.overlapping,
            "same_text": overlap.same_text,
            "without_overlapping": _score(result.without_overlap),
        }
    return {
        **(_score(result.score) or {}),
        "contamination": contamination,
        "verifier": {
            "kind": judge.kind.value,
            "model": judge.model,
            "prompt_sha256": judge.make().prompt_hash,
            "n": judge.n,
            **asdict(judge.sampling()),
            "seed": config.seed,
        },
        "data": {
            "path": config.data.path,
            "items": len(items.items),
            "items_sha256": items.content_hash,
            "files": items.files,
            "replies": {str(config.replies): file_hash(config.replies)} if config.replies else None,
        },
        "cost": done and {**asdict(done.cost), "wall_seconds": round(wall_seconds(config.output), 3)},
        "versions": versions(),
        "config": config.model_dump(mode="json"),
    }


def _score(score: Score | None) -> dict[str, Any] | None:
    """Accuracies and F1 in percent, as ProcessBench gives them; rates as shares of 1."""
    if score is None:
        return None
    subsets = {}
    for name, subset in score.subsets.items():
        estimates = ("error_acc", "correct_acc", "f1", "verdict_acc_right", "verdict_acc_wrong")
        subsets[name] = {
            "items": subset.items,
            "erroneous": subset.erroneous,
            **{each: _percent(getattr(subset, each)) for each in estimates},
            "no_prediction": dict(subset.faults),
            "cut_replies": subset.cut_replies,
        }
    return {"average_f1": _percent(score.f1), "subsets": subsets}


def _percent(estimate: Estimate | None) -> dict[str, float] | None:
    if estimate is None:
        return None
    value, low, high = (100 * number for number in (estimate.mean, estimate.low, estimate.high))
    return {"value": value, "low": low, "high": high}


def _hash(source: str) -> str | None:
    path = Path(source)
    return file_hash(path) if path.is_file() else None
