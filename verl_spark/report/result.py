"""A run as a small file: what a report needs of it, fit for version control."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from verl_spark.files import replacing
from verl_spark.report.finding import RunFiles, find_runs
from verl_spark.report.reading import Metrics, kept, read_dump, read_log, read_validations
from verl_spark.report.rollouts import Shown
from verl_spark.rl.dump import RUN_FILE
from verl_spark.runs.rows import SourceError

ROLLOUTS = 200
"""Rollouts that a page shows at most."""


class RunResult(BaseModel):
    """One RL run. The same run gives the same file, byte for byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    """What is compared; runs of one task and arm differ by their seed."""
    task: str = ""
    seed: int = 0
    settings: dict[str, Any]
    """Content of `spark_run.json`; empty where the run dumped no rollouts."""
    steps: list[dict[str, float]]
    """For each step `step` and the metrics that are kept, with six digits."""
    evaluations: dict[int, dict[str, list[float]]]
    """Training step to item (first 12 hex digits of the SHA-256 of its input) to accuracies of the responses to it."""
    rollouts: list[Shown]
    """A few, the suspicious ones first."""
    seconds: float | None
    """Sum of `timing_s/step`; None where nobody logged it."""

    def write(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        with replacing(path) as file:
            json.dump(self.model_dump(mode="json"), file, sort_keys=True, indent=0, allow_nan=False)
            file.write("\n")

    @classmethod
    def read(cls, path: Path) -> "RunResult":
        """The result in a file. Raises `SourceError` for a file that holds something else."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise SourceError(
                f"{path}: no result of a run: {place or 'file'}: {first['msg']}; name a run's folder, a file that "
                "verl_spark.report.result.RunResult.write wrote, or a study.json"
            ) from error


def read_run(
    folder: Path, arm: str | None = None, task: str = "", seed: int = 0, rollouts: int = ROLLOUTS
) -> RunResult:
    """The result of the one RL run in a folder, with at most so many of its rollouts; `arm` is by default its name.

    Raises `SourceError` if there is none, or more than one."""
    runs = find_runs(folder.resolve())
    if len(runs) != 1:
        found = ", ".join(str(run.home) for run in runs) or "none"
        raise SourceError(f"{folder}: one RL run is wanted, and there are: {found}; name the folder of one run")
    return result_of(runs[0], folder.resolve().name if arm is None else arm, task, seed, rollouts)


def result_of(
    files: RunFiles,
    arm: str,
    task: str = "",
    seed: int = 0,
    rollouts: int = ROLLOUTS,
    report: Callable[[int], None] = lambda _: None,
) -> RunResult:
    """The result of a run by its files. What verl logged counts; what it did not is computed from the dumped rows.

    `report` gets each step that was read."""
    settings: dict[str, Any] = {}
    metrics: Metrics = {}
    chosen: list[Shown] = []
    if files.dump is not None:
        try:
            settings = dict(json.loads((files.dump / RUN_FILE).read_bytes()))
        except (ValueError, TypeError) as error:
            raise SourceError(f"{files.dump / RUN_FILE}: not what a run writes: {error}; delete it") from error
        metrics, chosen = read_dump(files.dump, rollouts, report)
    for step, logged in read_log(files.logs).items():
        metrics[step] = metrics.get(step, {}) | logged
    seconds = [found["timing_s/step"] for found in metrics.values() if "timing_s/step" in found]
    return RunResult(
        arm=arm,
        task=task,
        seed=seed,
        settings=settings,
        steps=[{"step": float(step), **kept(metrics[step])} for step in sorted(metrics)],
        evaluations=dict(sorted(read_validations(files.validations).items())),
        rollouts=chosen,
        seconds=round(sum(seconds), 1) if seconds else None,
    )
