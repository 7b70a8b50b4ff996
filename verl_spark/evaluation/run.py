"""The command `verl-spark eval processbench` as a function, and the files it writes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from verl_spark.evaluation.asking import Evaluation, Judgement, Progress, evaluate, with_engine_if_owed
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.contamination import Overlap, find_overlap
from verl_spark.evaluation.items import Item, Items, read_items
from verl_spark.evaluation.metric import Score, score
from verl_spark.evaluation.recorded import judge_recorded
from verl_spark.evaluation.results import begin, contamination, in_percent, kept, write_results
from verl_spark.files import file_hash
from verl_spark.runs.cost import wall_seconds
from verl_spark.verifier.engine import Engine
from verl_spark.versions import versions


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
    begin(config)
    verifier, judge = config.verifier.make(), config.verifier
    done: Evaluation | None = None
    if config.replies:
        judgements: Sequence[Judgement] = judge_recorded(items.items, verifier, config.replies, judge.n)
        progress = Progress(items=len(judgements))
    else:
        done = await with_engine_if_owed(lambda engine: _asked(config, items, engine, report), judge.open)
        judgements, progress = done.judgements, done.progress
        if done.owed:
            return Result(progress)
    whole = score(judgements, verifier.locates, config.seed)
    rest = None
    if overlap is not None:
        unseen = [one for one in judgements if not overlap.holds(one.item)]
        rest = score(unseen, verifier.locates, config.seed, tuple(whole.subsets))
    result = Result(progress, whole, overlap, rest)
    write_results(config.output, map(_item, judgements), _result(config, items, result, done))
    return result


async def _asked(
    config: EvalConfig, items: Items[Item], engine: Engine | None, report: Callable[[Progress, int], None]
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
        "replies": [kept(reply) for reply in judgement.replies],
    }


def _result(config: EvalConfig, items: Items[Item], result: Result, done: Evaluation | None) -> dict[str, Any]:
    judge = config.verifier
    return {
        **(_score(result.score) or {}),
        "contamination": contamination(config.training_data, result.overlap, _score(result.without_overlap)),
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
            **{each: in_percent(getattr(subset, each)) for each in estimates},
            "no_prediction": dict(subset.faults),
            "cut_replies": subset.cut_replies,
        }
    return {"average_f1": in_percent(score.f1), "subsets": subsets}
