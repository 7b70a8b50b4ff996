"""How good the labels of Stage I are: the one report that sees the truth, after the fact.

`solution_truth` compares answers with references; the tables are pure functions of records and truth. Intervals are
bootstraps over problems (`evaluation.statistics`), with right and wrong solutions apart: a verifier that says Yes to
everything is perfect on the right ones."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from verl_spark.data.record import Record
from verl_spark.evaluation.statistics import Estimate, estimate
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.verification.consensus import Consensus, vote
from verl_spark.verification.steps import answer_of

QUALITY_FILE = "quality.json"

OUTCOME, STEP, FIRST_ERROR = "outcome", "step", "first_error"
"""Labels: the verdict y*; every step mark; the place of the first wrong step, none counting as a place."""
ALL, RIGHT, WRONG = "all", "right", "wrong"
"""What is in truth right or wrong: the solution for `outcome` and `first_error`, the step for `step`."""


@dataclass(frozen=True)
class LabelAccuracy:
    """A line of the table of accuracies: labels of one kind that one method gave."""

    method: str
    label: str
    truth: str
    labels: int
    """How many were compared."""
    unknown: int
    """Kept records that could not be compared, for want of the truth or of its step count."""
    accuracy: Estimate | None
    """None where nothing was compared."""


@dataclass(frozen=True)
class Growth:
    """A line of the table over N: what the first `n` ballots of every solution say."""

    level: str
    """`outcome` or `step`."""
    n: int
    kept: float
    """Share of the verified solutions that would have a target."""
    agreement: Estimate | None
    """Share of the usable votes that side with the label, of those kept; of the step votes for `step`."""
    settled: float | None
    """Share of those kept whose label is the one that all ballots give; None if those give none."""
    accuracy: Mapping[str, Estimate | None]
    """Of the target's verdict, by what is in truth right or wrong; empty without known truth."""
    step_accuracy: Mapping[str, Estimate | None]
    """Of the voted step marks; empty for `outcome` and without known step truth."""


async def solution_truth(
    records: Iterable[Record], references: Mapping[str, str], checker: AnswerChecker
) -> dict[str, bool]:
    """Whether the answer of a solution equals the reference of its problem, by solution id.

    A solution without an answer, or of a problem without a reference, is absent: what failed is not wrong."""
    truth: dict[str, bool] = {}
    for record in records:
        answer, reference = answer_of(record.solution), references.get(record.problem_id)
        if record.solution_id not in truth and answer is not None and reference is not None:
            truth[record.solution_id] = await checker.is_correct(f"\\boxed{{{answer}}}", reference, answer)
    return truth


def label_accuracy(
    records: Iterable[Record], truth: Mapping[str, bool], step_truth: Mapping[str, Sequence[int]]
) -> list[LabelAccuracy]:
    """Accuracy of the labels of kept records, by method, kind of label and truth.

    `truth` and `step_truth` go by solution id, marks are 1 and 0; an empty one leaves out its lines."""
    scores: dict[tuple[str, str], _Scores] = defaultdict(_Scores)
    unknown: Counter[tuple[str, str]] = Counter()
    wanted = [*([OUTCOME] if truth else []), *([STEP, FIRST_ERROR] if step_truth else [])]
    for record in records:
        if record.drop is None and record.verdict is not None and record.marks is not None:
            known = set()
            for label, right, hit in _compared(record, record.verdict, record.marks, truth, step_truth):
                scores[record.method, label].add(right, hit, record.problem_id)
                known.add(label)
            for label in wanted:
                scores[record.method, label]  # a line for a method of which nothing is known
                unknown[record.method, label] += label not in known
    return [
        LabelAccuracy(method, label, of, cell.count(of), unknown[method, label], accuracy)
        for (method, label), cell in scores.items()
        for of, accuracy in cell.estimates().items()
    ]


def growth(
    records: Iterable[Record], truth: Mapping[str, bool], step_truth: Mapping[str, Sequence[int]]
) -> list[Growth]:
    """The labels that the first 1, 2, … N ballots would give, for both levels; each solution in one record.

    The records of one method whose ballots are all N, dropped ones included. Solutions that were not verified have
    no ballots and are left out."""
    cells: dict[tuple[str, int], _Growth] = defaultdict(_Growth)
    for record in records:
        final = _labels(vote(record.ballots, record.n_steps))
        for n in range(1, len(record.ballots) + 1):
            for level, found in _labels(vote(record.ballots[:n], record.n_steps)).items():
                cells[level, n].add(record, found, final[level], truth, step_truth)
    return [cell.line(level, n) for (level, n), cell in sorted(cells.items())]


@dataclass
class _Scores:
    """Hits and misses, with the problem of each and whether it was about something right."""

    hits: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, right: bool, hit: float, problem: str) -> None:
        self.right.append(right)
        self.hits.append(hit)
        self.problems.append(problem)

    def count(self, of: str) -> int:
        return len(self._of(of))

    def estimates(self) -> dict[str, Estimate | None]:
        return {of: self._estimate(self._of(of)) for of in (ALL, RIGHT, WRONG)}

    def _of(self, of: str) -> list[int]:
        return [index for index, right in enumerate(self.right) if of == ALL or right == (of == RIGHT)]

    def _estimate(self, chosen: Sequence[int]) -> Estimate | None:
        if not chosen:
            return None
        return estimate([self.hits[i] for i in chosen], problems=[self.problems[i] for i in chosen])


@dataclass(frozen=True)
class _Label:
    """What a vote says on one level; `marks` are None on the outcome level."""

    verdict: bool
    marks: tuple[int, ...] | None
    agreement: float


@dataclass
class _Growth:
    """One line of the table over N as it fills."""

    solutions: int = 0
    agreement: _Scores = field(default_factory=_Scores)
    settled: list[bool] = field(default_factory=list)
    verdicts: _Scores = field(default_factory=_Scores)
    marks: _Scores = field(default_factory=_Scores)

    def add(
        self,
        record: Record,
        found: _Label | None,
        final: _Label | None,
        truth: Mapping[str, bool],
        step_truth: Mapping[str, Sequence[int]],
    ) -> None:
        self.solutions += 1
        if found is None:
            return
        self.agreement.add(True, found.agreement, record.problem_id)
        if final is not None:
            self.settled.append((found.verdict, found.marks) == (final.verdict, final.marks))
        for label, right, hit in _compared(record, found.verdict, found.marks, truth, step_truth):
            if label != FIRST_ERROR:
                (self.verdicts if label == OUTCOME else self.marks).add(right, hit, record.problem_id)

    def line(self, level: str, n: int) -> Growth:
        kept = self.agreement.count(ALL) / self.solutions
        settled = sum(self.settled) / len(self.settled) if self.settled else None
        accuracy = self.verdicts.estimates() if self.verdicts.hits else {}
        step_accuracy = self.marks.estimates() if self.marks.hits else {}
        return Growth(level, n, kept, self.agreement.estimates()[ALL], settled, accuracy, step_accuracy)


def _labels(consensus: Consensus) -> dict[str, _Label | None]:
    """The label of each level, None where the vote gives no target."""
    outcome, step, voters = consensus.outcome, consensus.step, len(consensus.usable)
    labels: dict[str, _Label | None] = {OUTCOME: None, STEP: None}
    if outcome.drop is None and outcome.verdict is not None:
        labels[OUTCOME] = _Label(outcome.verdict, None, max(consensus.yes_votes, consensus.no_votes) / voters)
    if step.drop is None and step.marks is not None and step.votes is not None:
        agreement = sum(map(max, step.votes)) / (voters * len(step.votes))
        labels[STEP] = _Label(all(step.marks), step.marks, agreement)
    return labels


def _compared(
    record: Record,
    verdict: bool,
    marks: Sequence[int] | None,
    truth: Mapping[str, bool],
    step_truth: Mapping[str, Sequence[int]],
) -> Iterator[tuple[str, bool, bool]]:
    """Kind of label, whether it is about something right, whether it hits; nothing where the truth is not known."""
    right = truth.get(record.solution_id)
    if right is not None:
        yield OUTCOME, right, verdict == right
    true_marks = step_truth.get(record.solution_id)
    if true_marks is None or marks is None or len(true_marks) != len(marks):
        return
    for mark, true_mark in zip(marks, true_marks, strict=True):
        yield STEP, bool(true_mark), mark == true_mark
    yield FIRST_ERROR, all(true_marks), _first_error(marks) == _first_error(true_marks)


def _first_error(marks: Sequence[int]) -> int | None:
    return next((index for index, mark in enumerate(marks) if not mark), None)
