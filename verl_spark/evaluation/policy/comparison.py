"""Finished runs over the six benchmarks side by side, and beside the paper's Table 1.

Differences are paired: over the problems that both runs have, so that what differs between problems does not count."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from verl_spark.evaluation.policy.benchmarks import BENCHMARKS
from verl_spark.evaluation.policy.metric import mean_of_six
from verl_spark.evaluation.results import ITEMS_FILE, RESULT_FILE
from verl_spark.evaluation.statistics import Estimate, estimate, paired_difference
from verl_spark.settings import SettingsError

Measure = Literal["greedy", "sampled"]
MEASURES: tuple[Measure, ...] = ("greedy", "sampled")
"""pass@1 of the greedy reply, avg@k of the sampled ones."""
MEAN = "mean"

_Key = tuple[str, str, str]  # id, problem and reference: what makes a problem the same in two runs


@dataclass(frozen=True)
class Run:
    """A finished run."""

    name: str
    values: Mapping[Measure, Mapping[str, Mapping[_Key, float]]]
    """Of each problem by benchmark. A benchmark without sampled replies has no such values."""


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs that wrote the folders, called by their last names where these differ.

    Raises `SettingsError` for a folder without a finished run."""
    several = len({folder.name for folder in folders}) < len(folders)
    return [_read(folder, str(folder) if several else folder.name) for folder in folders]


def _read(folder: Path, name: str) -> Run:
    if not (folder / RESULT_FILE).is_file():
        raise SettingsError(
            [f"{folder}: no {RESULT_FILE}, so no finished run; start `verl-spark eval math` there again"]
        )
    found: dict[Measure, dict[str, dict[_Key, float]]] = {measure: {} for measure in MEASURES}
    try:
        items = [json.loads(line) for line in (folder / ITEMS_FILE).read_text().splitlines()]
        for item in items:
            key = item["id"], item["problem_sha256"], item["reference"]
            for measure, replies in zip(
                MEASURES, ([item["greedy"]], item["sampled"] or [None] * item["k"]), strict=True
            ):
                if replies:
                    share = sum(bool(reply and reply["correct"]) for reply in replies) / len(replies)
                    found[measure].setdefault(item["benchmark"], {})[key] = share
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            [f"{folder / ITEMS_FILE}: not what `verl-spark eval math` writes ({type(error).__name__}: {error})"]
        ) from None
    return Run(name, found)


def own(run: Run, measure: Measure, seed: int = 0) -> Mapping[str, Estimate]:
    """A run's own scores by benchmark, and `MEAN` where all six are there."""
    values = {name: list(each.values()) for name, each in run.values[measure].items()}
    return _with_mean({name: estimate(each, seed) for name, each in values.items()}, mean_of_six(values, seed))


def difference(first: Run, other: Run, measure: Measure, seed: int = 0) -> tuple[Mapping[str, Estimate], int]:
    """What `other` has more than `first`, as `own` gives it, and the number of problems that only one of them has."""
    cells, pairs, left_out = {}, {}, 0
    for name in BENCHMARKS:
        before, after = (run.values[measure].get(name, {}) for run in (first, other))
        shared = [key for key in before if key in after]
        left_out += len(before) + len(after) - 2 * len(shared)
        if shared:
            pairs[name] = [after[key] - before[key] for key in shared]
            cells[name] = paired_difference([before[key] for key in shared], [after[key] for key in shared], seed)
    return _with_mean(cells, mean_of_six(pairs, seed)), left_out


def _with_mean(cells: Mapping[str, Estimate], mean: Estimate | None) -> Mapping[str, Estimate]:
    return {**cells, **({MEAN: mean} if mean else {})}


def paper_table() -> tuple[str, Mapping[str, Mapping[str, float]]]:
    """Where the paper's figures are from, and accuracies in percent by model and column. Paper, section 6.2."""
    table: dict[str, Any] = json.loads((files(__package__) / "paper_table1.json").read_text())
    return table["source"], table["models"]
