"""The six benchmarks: where their problems are, and which columns hold problem and reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import PositiveInt, field_validator

from verl_spark.evaluation.items import Items, read_subsets
from verl_spark.runs.problems import Problem, ProblemSettings, problem_of
from verl_spark.runs.rows import FORMATS, Row, SourceError, SourceSettings
from verl_spark.settings import Node
from verl_spark.verification.boxes import last_box


class Benchmark(NamedTuple):
    """One benchmark."""

    title: str
    hub: SourceSettings
    """Where it is read without files."""
    reference: tuple[str, ...] = ("answer",)
    """Columns with the reference answer; the first that has one counts."""
    contest: bool = False
    """A few dozen problems, of which more replies are sampled."""


_SOLUTION = "solution"
BENCHMARKS: Mapping[str, Benchmark] = {
    "math500": Benchmark("MATH-500", SourceSettings(path="HuggingFaceH4/MATH-500", split="test")),
    "aime24": Benchmark("AIME24", SourceSettings(path="HuggingFaceH4/aime_2024", split="train"), contest=True),
    "aime25": Benchmark("AIME25", SourceSettings(path="math-ai/aime25", split="test"), contest=True),
    "amc23": Benchmark("AMC23", SourceSettings(path="math-ai/amc23", split="test"), contest=True),
    "olympiadbench": Benchmark(
        "Olympiad",
        # text alone, mathematics, English; 674 rows there, 675 in the files of the usual evaluation kits
        SourceSettings(path="Hothan/OlympiadBench", subset="OE_TO_maths_en_COMP", split="train"),
        ("final_answer",),
    ),
    "minerva_math": Benchmark(
        "Minerva",
        SourceSettings(path="math-ai/minervamath", split="test"),
        # The solution's box is the original's reference. Files that come with both have been seen to hold, in `answer`,
        # that of an earlier part of the same problem.
        (_SOLUTION, "answer"),
    ),
}
"""By name, in the order of the paper's Table 1. Hub ids and columns are those that public evaluation scripts and the
data cards name."""

_PROBLEM = ("problem", "question")
_ID = ("id", "unique_id", "idx")
_COLUMNS = (*_ID, *_PROBLEM, "answer", "final_answer", _SOLUTION)


class BenchmarkSettings(Node):
    """The problems to ask."""

    path: str | None = None
    """Folder with a file of each benchmark, `NAME.jsonl`, `.json` or `.parquet`, or `NAME/test.jsonl` and so on; null
    is the Hugging Face hub. Columns: `problem` or `question`, and `answer` (OlympiadBench: `final_answer`, MinervaMath:
    the box in `solution`, else `answer`)."""
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS)
    """Which of them. The mean is given for all six only."""
    limit: PositiveInt | None = None
    """So many problems of each, spread over it by a hash of their ids; null is all of them."""

    @field_validator("benchmarks")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or not set(names) <= BENCHMARKS.keys():
            raise ValueError(f"name one or more of: {', '.join(BENCHMARKS)}")
        return tuple(name for name in BENCHMARKS if name in names)


@dataclass(frozen=True)
class Task:
    """A problem with its reference answer, as the benchmark spells it."""

    id: str
    problem: str
    reference: str
    subset: str
    """Name of its benchmark."""

    @property
    def content(self) -> Sequence[object]:
        """Ids and texts."""
        return [self.subset, self.id, self.problem, self.reference]


def read_tasks(settings: BenchmarkSettings) -> Items[Task]:
    """The problems of all benchmarks. Raises `SourceError` for what cannot be read, `ItemsError` for unsound rows."""
    sources = [(name, _source(name, settings.path)) for name in settings.benchmarks]
    return read_subsets(sources, _COLUMNS, _task_of, settings.limit)


def _source(name: str, folder: str | None) -> SourceSettings:
    if folder is None:
        return BENCHMARKS[name].hub
    places = [Path(folder) / f"{stem}{suffix}" for stem in (name, f"{name}/test") for suffix in FORMATS]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise SourceError(
            f"{folder}: no file of the benchmark {name}; it is called {name} or {name}/test and ends in "
            f"{', '.join(FORMATS)}. Leave out what is not there with data.benchmarks=[…]"
        )
    return SourceSettings(path=str(file))


def _task_of(row: Row, name: str) -> Task | str:
    """The task of a row, or what is wrong with it."""
    problem, key = (
        next((field for field in fields if row.values.get(field) is not None), fields[0]) for fields in (_PROBLEM, _ID)
    )
    found = problem_of(row, ProblemSettings(path=row.place, text_field=problem, id_field=key))
    if not isinstance(found, Problem):
        return f"{found.place}: {found.reason}"
    columns = BENCHMARKS[name].reference
    reference = next(filter(None, (_reference(column, row.values.get(column)) for column in columns)), None)
    if reference is None:
        return f"{row.place}: {' or '.join(columns)}: no reference answer; a text, a number, or a list of one"
    return Task(found.id, found.text, reference, name)


def _reference(column: str, value: Any) -> str | None:
    """The reference in a column's value; None without one."""
    if isinstance(value, list) and len(value) == 1:
        return _reference(column, value[0])
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(int(value)) if value == int(value) else str(value)
    if not isinstance(value, str):
        return None
    return ((last_box(value) if column == _SOLUTION else value) or "").strip() or None
