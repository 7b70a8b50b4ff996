"""Replies that are there already, from a file: scored without any model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verl_spark.evaluation.asking import Judgement, judge
from verl_spark.evaluation.items import Item
from verl_spark.evaluation.verifiers import Verifier
from verl_spark.runs.journal import Sample
from verl_spark.runs.rows import BadRow, SourceError, SourceSettings, read_rows

_COLUMNS = ("id", "subset", "replies")


class RepliesError(ValueError):
    """The file does not hold what the items need; the message names file, row and cure."""


def judge_recorded(items: Sequence[Item], verifier: Verifier, path: Path, n: int = 1) -> list[Judgement]:
    """The items judged by the first `n` recorded replies to each, an empty list of replies being a failed call.

    Raises `RepliesError` for a row that cannot be read and for items without enough replies."""
    recorded = _read(path)
    missing: list[str] = []
    judgements = []
    for item in items:
        replies = recorded.get((item.subset, item.id), recorded.get((None, item.id)))
        if replies is None or 0 < len(replies) < n:
            missing.append(f"{item.subset}/{item.id} ({0 if replies is None else len(replies)})")
        else:
            judgements.append(judge(item, verifier, replies[:n]))
    if missing:
        raise RepliesError(
            f"{path}: {len(missing)} of {len(items)} items have no {n} replies there, the first: "
            f"{', '.join(missing[:5])}; add them, or name fewer items with data.subsets or data.limit"
        )
    return judgements


def _read(path: Path) -> Mapping[tuple[str | None, str], tuple[Sample, ...]]:
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file of replies")
    found: dict[tuple[str | None, str], tuple[Sample, ...]] = {}
    for row in read_rows(SourceSettings(path=str(path)), _COLUMNS):
        if isinstance(row, BadRow):
            raise RepliesError(f"{row.place}: {row.reason}")
        name, subset, replies = (row.values.get(column) for column in _COLUMNS)
        if name is None or isinstance(name, bool) or not isinstance(name, str | int):
            raise RepliesError(f"{row.place}: id: a text or a whole number, not {name!r:.40}")
        if not isinstance(subset, str | None):
            raise RepliesError(f"{row.place}: subset: a text or absent, not {subset!r:.40}")
        samples = _samples(replies)
        if samples is None:
            raise RepliesError(
                f"{row.place}: replies: a list of texts, or of objects with text and finish_reason, "
                f"not {json.dumps(replies, default=str):.60}"
            )
        if (subset, str(name)) in found:
            raise RepliesError(f"{row.place}: id: {name!r} was there before; name the subset, or remove one")
        found[subset, str(name)] = samples
    return found


def _samples(replies: Any) -> tuple[Sample, ...] | None:
    if not isinstance(replies, list | tuple):
        return None
    samples = []
    for index, reply in enumerate(replies):
        whole = {"text": reply} if isinstance(reply, str) else reply
        if not isinstance(whole, dict) or not isinstance(whole.get("text"), str):
            return None
        finish_reason = whole.get("finish_reason") or "stop"
        if not isinstance(finish_reason, str):
            return None
        samples.append(Sample(index, whole["text"], finish_reason, 0, 0, 0.0))
    return tuple(samples)
