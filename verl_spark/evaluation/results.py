"""What every measurement writes: `items.jsonl`, and last `result.json`, which is there for a finished one only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verl_spark.evaluation.contamination import Overlap
from verl_spark.evaluation.statistics import Estimate
from verl_spark.files import file_hash, replacing
from verl_spark.runs.config import RunConfig
from verl_spark.runs.journal import Sample

RESULT_FILE, ITEMS_FILE = "result.json", "items.jsonl"


def begin(config: RunConfig) -> None:
    """Makes the output folder the config's own. Raises `SettingsError` if it was made with another one."""
    config.claim()
    (config.output / RESULT_FILE).unlink(missing_ok=True)  # it would pass for the result of this start


def write_results(folder: Path, items: Iterable[Mapping[str, Any]], result: Mapping[str, Any]) -> None:
    """Writes both files."""
    with replacing(folder / ITEMS_FILE) as file:
        for item in items:
            file.write(json.dumps(item) + "\n")
    with replacing(folder / RESULT_FILE) as file:
        json.dump(result, file, indent=2)


def kept(reply: Sample) -> dict[str, Any]:
    """What of a reply stands in `items.jsonl`."""
    return {name: getattr(reply, name) for name in ("text", "finish_reason", "prompt_tokens", "completion_tokens")}


def in_percent(estimate: Estimate | None) -> dict[str, float] | None:
    """An estimate of a share as plain values, in percent."""
    if estimate is None:
        return None
    value, low, high = (100 * number for number in (estimate.mean, estimate.low, estimate.high))
    return {"value": value, "low": low, "high": high}


def contamination(sources: Sequence[str], overlap: Overlap | None, without: Any) -> dict[str, Any] | None:
    """What items and training data have in common, with the score `without` those items; None if nobody asked."""
    if overlap is None:
        return None
    return {
        "training_data": {source: _hash(source) for source in sources},
        "rows": overlap.rows,
        "rows_without_a_problem": overlap.unread,
        "overlapping": overlap.overlapping,
        "same_text": overlap.same_text,
        "without_overlapping": without,
    }


def _hash(source: str) -> str | None:
    path = Path(source)
    return file_hash(path) if path.is_file() else None
