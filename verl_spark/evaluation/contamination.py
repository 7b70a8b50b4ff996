"""Which items a verifier may have seen in training, and the score without them. Paper, section 7."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from verl_spark.evaluation.items import Entry
from verl_spark.evaluation.leakage import Benchmark, find_leakage
from verl_spark.runs.problems import Problem, ProblemSettings, problem_of
from verl_spark.runs.rows import BadRow, SourceError, SourceSettings, read_rows
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import asked

FIELDS = ("problem", "prompt", "messages")
"""Columns that may hold the problem: of problems and records, of verl's RL data, of its SFT data."""


@dataclass(frozen=True)
class Overlap:
    """What training data and items have in common."""

    rows: int
    """Rows of the training data with a problem."""
    unread: int
    """Rows without one."""
    overlapping: dict[str, tuple[str, ...]]
    """Ids of the items by subset, those with the same text included."""
    same_text: dict[str, tuple[str, ...]]
    """Ids of the items whose problem stands there word for word."""

    def holds(self, item: Entry) -> bool:
        """Whether the item overlaps."""
        return item.id in self.overlapping.get(item.subset, ())


def find_overlap(items: Sequence[Entry], sources: Sequence[str], field: str | None = None) -> Overlap:
    """Items whose problem is in the training data, by the rules of `leakage`.

    In rows of `verifier_message`s (Stage I's SFT files) the problem is taken out of the message. Raises `SourceError`
    for a source that cannot be read or in which no row has a problem."""
    by_subset: dict[str, list[Problem]] = {}
    for item in items:
        by_subset.setdefault(item.subset, []).append(Problem(item.id, item.problem, item.subset))
    unread = 0

    def problems() -> Iterator[Problem]:
        nonlocal unread
        for source in sources:
            good = 0
            for found in _problems(source, field):
                if isinstance(found, BadRow):
                    unread += 1
                else:
                    good += 1
                    yield found
            if not good:
                columns = field or ", ".join(FIELDS)
                raise SourceError(f"{source}: no row with a problem in {columns}; name the column: training_field=NAME")

    reports = find_leakage(problems(), [Benchmark(name, found) for name, found in by_subset.items()])
    return Overlap(
        rows=reports[0].prompts if reports else 0,
        unread=unread,
        overlapping={report.benchmark: report.item_ids() for report in reports},
        same_text={report.benchmark: report.item_ids(exact=True) for report in reports},
    )


def _problems(source: str, field: str | None) -> Iterator[Problem | BadRow]:
    columns = (field,) if field else FIELDS
    for row in read_rows(SourceSettings(path=source), columns):
        if isinstance(row, BadRow):
            yield row
            continue
        column = next((name for name in columns if row.values.get(name) is not None), columns[0])
        found = problem_of(row, ProblemSettings(path=source, text_field=column))
        if isinstance(found, Problem):
            found = Problem(found.source, _problem_in(found.text), found.source)
        yield found


def _problem_in(text: str) -> str:
    """The problem that a `verifier_message` is about; another text is the problem itself."""
    questions = filter(None, (asked(kind, text) for kind in Kind))
    return next((problem for problem, _ in questions), text)
