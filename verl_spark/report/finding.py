"""What the folders hold that a user names: verl's files and ours, told apart by what is in them.

A run has at most one dump of rollouts (a folder with `spark_run.json`) and one folder with files of verl's `file`
logger; its home is the highest folder of which that is true. All other files of the run lie anywhere below it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from verl_spark.data.card import CARD_FILE, COST_FILE
from verl_spark.evaluation.results import RESULT_FILE
from verl_spark.report.reading import TRAIN_LOSS, is_kept
from verl_spark.rl.dump import RUN_FILE
from verl_spark.runs.rows import SourceError

STUDY_FILE = "study.json"
RESULT_START = '"arm"'
"""How a result file begins: its keys are sorted."""
_LOOKED_FOR = (
    f"a dump of rollouts (trainer.rollout_data_dir, with {RUN_FILE}), a file of verl's `file` logger (lines with step "
    "and data), validation dumps (trainer.validation_data_dir), result files of a study, a study.json, a data folder "
    f"({CARD_FILE}, {COST_FILE}), a folder of `verl-spark eval processbench` or `eval math` ({RESULT_FILE}), a log "
    "of an SFT training (lines with step and data)"
)


@dataclass(frozen=True)
class RunFiles:
    """The files of one RL run."""

    home: Path
    dump: Path | None = None
    """Folder of the rollouts, with the settings of the run."""
    logs: tuple[Path, ...] = ()
    validations: tuple[Path, ...] = ()


@dataclass
class Found:
    """What is to be reported, each in the order of its path."""

    runs: dict[str, RunFiles] = field(default_factory=dict)
    """By name: that of its folder, with as much of the path as tells it from the others."""
    results: list[Path] = field(default_factory=list)
    studies: list[Path] = field(default_factory=list)
    data: list[Path] = field(default_factory=list)
    evaluations: list[Path] = field(default_factory=list)
    """Folders of ProcessBench."""
    benchmarks: list[Path] = field(default_factory=list)
    """Folders of `eval math`."""
    trainings: dict[str, Path] = field(default_factory=dict)
    """Logs of SFT trainings, by name: that of the file, with as much of the path as tells it from the others."""
    remarks: list[str] = field(default_factory=list)
    """What was seen and is not shown, and why."""

    @property
    def listed(self) -> tuple[list[Path], ...]:
        """What is found by a JSON file."""
        return self.results, self.studies, self.data, self.evaluations, self.benchmarks


def find(paths: Iterable[Path]) -> Found:
    """What is in these folders and files. Raises `SourceError` for one that holds nothing to report."""
    found, homes, logs = Found(), list[RunFiles](), list[Path]()

    def count() -> int:
        return len(homes) + len(logs) + sum(len(listed) for listed in found.listed)

    for path in dict.fromkeys(path.resolve() for path in paths):
        if not path.exists():
            raise SourceError(f"{path}: there is no such folder or file; name a run's folder or a result file")
        before = count()
        if path.is_dir():
            files = _logs(path)
            homes += _runs(path, files, found.remarks)
            _find_json(path, found)
            logs += files["training"]
        elif path.name == STUDY_FILE:
            found.studies.append(path)
        else:
            found.results.append(path)
        if before == count():
            raise SourceError(
                f"{path}: nothing to report. Looked in it and in all folders below for {_LOOKED_FOR}. Name the folder "
                "that holds one of them; for verl's logger, trainer.logger=[console,file] writes one"
            )
    for listed in found.listed:
        listed[:] = dict.fromkeys(listed)
    runs = list(dict.fromkeys(homes))
    found.runs = dict(zip(_names([run.home for run in runs]), runs, strict=True))
    logs = list(dict.fromkeys(logs))
    found.trainings = dict(zip(_names([log.with_suffix("") for log in logs]), logs, strict=True))
    return found


def find_runs(folder: Path) -> list[RunFiles]:
    """The RL runs in a folder, in the order of their paths."""
    return _runs(folder, _logs(folder), [])


def _runs(folder: Path, logs: Mapping[str, Sequence[Path]], remarks: list[str]) -> list[RunFiles]:
    """`remarks` gets what belongs to no run."""
    dumps = sorted(path.parent for path in folder.rglob(RUN_FILE))
    files = {kind: [path for path in logs[kind] if path.parent not in dumps] for kind in ("log", "validation")}
    logged = sorted({path.parent for path in files["log"]})
    homes: dict[Path, Path | None] = {_home(dump, folder, dumps, logged): dump for dump in dumps}
    owned = [path for path in logged if any(path.is_relative_to(home) for home in homes)]
    for path in logged:
        if path not in owned and not _within(path, dumps):
            homes[_home(path, folder, dumps, logged)] = None
    if not homes and files["validation"]:
        homes[folder] = None
    owner = {
        path: max((home for home in homes if path.is_relative_to(home)), key=lambda home: len(home.parts), default=None)
        for path in chain(*files.values())
    }
    remarks += [
        f"{path}: belongs to no one run, since several lie beside it; left out" for path in owner if not owner[path]
    ]
    return [
        RunFiles(home, dump, *(tuple(path for path in files[kind] if owner[path] == home) for kind in files))
        for home, dump in sorted(homes.items())
    ]


def _home(start: Path, root: Path, dumps: Sequence[Path], logged: Sequence[Path]) -> Path:
    """The highest folder above `start` in which one run alone has its files."""
    home = start
    while home != root and all(len(_within(home.parent, each)) <= 1 for each in (dumps, logged)):
        home = home.parent
    return home


def _within(folder: Path, paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if path.is_relative_to(folder)]


def _logs(folder: Path) -> dict[str, list[Path]]:
    """Logs and dumped validations below a folder, by kind."""
    found: dict[str, list[Path]] = {"log": [], "validation": [], "training": []}
    paths = (path for path in folder.rglob("*.jsonl") if path.is_file())
    for path in sorted(paths, key=lambda path: (path.parent, len(path.stem), path.stem)):
        if kind := _kind(path):
            found[kind].append(path)
    return found


def _kind(path: Path) -> str:
    """`log`, `validation` or (the log of an SFT) `training` by the first line of a file; empty for anything else."""
    with path.open("rb") as file:
        line = file.readline()
    try:
        first = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(first, dict):
        return ""
    if first.keys() == {"step", "data"} and isinstance(first["data"], dict):
        return "log" if any(map(is_kept, first["data"])) else "training" if TRAIN_LOSS in first["data"] else ""
    return "validation" if {"input", "output", "step"} <= first.keys() and first.get("acc") is not None else ""


def _find_json(folder: Path, found: Found) -> None:
    """What of a folder is known by a JSON file in it."""
    for path in sorted(path for path in folder.rglob("*.json") if path.is_file()):
        if path.name == STUDY_FILE:
            found.studies.append(path)
        elif path.name == CARD_FILE and (path.parent / COST_FILE).is_file():
            found.data.append(path.parent)
        elif path.name == RESULT_FILE and '"average_f1"' in _start(path):
            found.evaluations.append(path.parent)
        elif path.name == RESULT_FILE and '"mean_of_six"' in _start(path):
            found.benchmarks.append(path.parent)
        elif _start(path).lstrip("{ \n").startswith(RESULT_START):
            found.results.append(path)


def _start(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(200).decode(errors="replace")


def _names(homes: Sequence[Path]) -> list[str]:
    """The ends of the paths, each of as many parts as tells all of them apart."""
    for parts in range(1, max((len(home.parts) for home in homes), default=0) + 1):
        names = ["/".join(home.parts[-parts:]) for home in homes]
        if len(set(names)) == len(names):
            return names
    return [str(home) for home in homes]
