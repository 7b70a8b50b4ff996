"""Reference answers: read for the method `reference` and for reports after the fact, and for nothing else.

`read_references` is the only function of Stage I that asks for their column; `problems` never does."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from verl_spark.runs.problems import Problem, ProblemSettings, problem_of
from verl_spark.runs.rows import Row, read_rows
from verl_spark.settings import Node


class ReferenceSettings(Node):
    """Where the reference answers of the problems lie: in the rows of the problems themselves."""

    field: str = Field(min_length=1)
    """Column with the reference; dots lead into nested columns (`reward_model.ground_truth` in verl's parquet)."""
    n: int = Field(default=16, ge=1)
    """Verifications per solution that are shown the reference. The authors' code: 16 for training data, 8 for
    evaluation data."""


def read_references(problems: ProblemSettings, references: ReferenceSettings) -> Iterator[tuple[str, str]]:
    """Problem id and reference of every row that has both."""
    column, *path = references.field.split(".")
    for row in read_rows(problems, (problems.id_field, problems.text_field, column)):
        problem = problem_of(row, problems) if isinstance(row, Row) else row
        if isinstance(row, Row) and isinstance(problem, Problem):
            reference = _at(row.values.get(column), path)
            if reference is not None:
                yield problem.id, str(reference)


def _at(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
