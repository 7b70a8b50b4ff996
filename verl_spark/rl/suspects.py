"""The most suspicious rollouts of a step, kept as text: a hack is easier to read than to infer from averages.

Rule: most reasons first (`rl.flags`), of as many the higher reward, then the rollout's key. No reason, not kept."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from verl_spark.files import replacing
from verl_spark.rl.flags import reasons
from verl_spark.rl.row import Row, known


class Suspect(NamedTuple):
    """A rollout by its key, and what speaks against it."""

    key: str
    reasons: tuple[str, ...]


def most_suspicious(rows: Mapping[str, Row], most: int) -> list[Suspect]:
    """At most `most` rollouts of a step, the most suspicious first; the order of `rows` plays no part."""
    found = [Suspect(key, why) for key, row in rows.items() if (why := reasons(row))]
    found.sort(key=lambda suspect: (-len(suspect.reasons), -rows[suspect.key]["spark_reward"], suspect.key))
    return found[:most]


def record(suspect: Suspect, row: Row, step: int, prompt: str, response: str) -> dict[str, Any]:
    """A line of the store, named as in verl's rollout dumps where both have a thing; null is "not known"."""
    return {
        "step": step,
        "uid": suspect.key,
        "reasons": list(suspect.reasons),
        "input": prompt,
        "output": response,
        **known(row),
    }


def write(folder: Path, step: int, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes `<step>.jsonl` into the folder, whole or not at all; a step that is repeated replaces its file."""
    with replacing(folder / f"{step}.jsonl") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in records)
