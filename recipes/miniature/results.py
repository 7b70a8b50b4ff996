"""The small result files of the study: every item of every run, so that all tables are made of them anew."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict

from examples import chains
from examples.stage1_models import NUMBERED
from examples.tasks import read_problem
from recipes.miniature.config import RunId, StudyConfig
from verl_spark.data.record import Record
from verl_spark.evaluation.asking import Judgement
from verl_spark.evaluation.prediction import FAULTS
from verl_spark.files import replacing
from verl_spark.verification.kinds import Kind

Sizes = dict[str, Any]
STUDY_KEY = "study"
"""In `RunResult.settings`, the result of an arm: its sizes."""
MODELS_FILE = "models.json"
"""Beside the results: how every tiny model was taught."""
Bits = str
"""A row of 1 and 0; a text is far shorter than a list."""
_Model = TypeVar("_Model", bound="Result")


class StaleResult(ValueError):
    """A result file that was made with other sizes, or with other models."""


class Result(BaseModel):
    """What every result file says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    sizes: Sizes
    """What decided the run beside its seed (`StudyConfig.sizes`)."""
    seconds: float
    """Wall time of the run, since it was last started."""

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        with replacing(path) as file:
            file.write(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls: type[_Model], path: Path) -> _Model:
        """The result of a file."""
        return cls.model_validate_json(path.read_bytes())


class Label(NamedTuple):
    """An example that a method kept."""

    problem: str
    """Id of its problem."""
    right: bool
    """Whether the answer is that of the problem, in truth."""
    verdict: bool
    """What the label says of it."""
    steps: Bits
    """Whether each step is right, in truth."""
    marks: Bits
    """What the label says of each."""


class Labels(Result):
    """Stage I: what the labels of every method are worth, and what they cost."""

    labels: dict[str, tuple[Label, ...]]
    """By method, kept examples."""
    cost: dict[str, dict[str, Any]]
    """By method, the account of `verl_spark.data.cost`."""


class Verdict(NamedTuple):
    """What a reward model says of a held-out solution."""

    item: str
    """Its id; no two are of one problem."""
    erroneous: bool
    right: bool
    """Whether its answer is right."""
    hit: bool
    """Whether the first error was named, or the solution passed where there is none."""
    verdict: bool | None
    fault: str | None
    """Why there is no prediction (`verl_spark.evaluation.prediction.FAULTS`)."""


class Measured(Result):
    """Stage II: a reward model, trained and measured."""

    data: str
    kind: Kind
    rows: int
    """Rows that it was trained on, each as often as the updates took it."""
    verdicts: tuple[Verdict, ...]
    training_seconds: float | None
    """Null where it was not measured alone."""


def labels_of(records: Iterable[Record]) -> Iterator[Label]:
    """The examples that were kept, beside the truth; one whose text states no steps is not comparable and left out."""
    for record in records:
        if record.drop is not None or record.marks is None or record.verdict is None:
            continue
        truth = chains.judge(read_problem(record.problem), record.solution, NUMBERED)
        if truth is not None and len(truth.marks) == len(record.marks):
            marks = _bits(record.marks)
            yield Label(record.problem_id, truth.answer_right, record.verdict, _bits(truth.marks), marks)


def verdicts_of(judgements: Iterable[Judgement]) -> Iterator[Verdict]:
    """What is kept of judgements."""
    for one in judgements:
        item, said = one.item, one.prediction
        assert said.fault is None or said.fault in FAULTS
        right = bool(item.answer_correct)
        yield Verdict(item.id, item.erroneous, right, one.match, said.verdict, said.fault)


def _bits(marks: Iterable[int]) -> Bits:
    return "".join(str(int(mark)) for mark in marks)


def done(folder: Path, config: StudyConfig, run: RunId) -> bool:
    """Whether the run has its result there. Raises `StaleResult` for one made with other sizes than this study's."""
    path = folder / run.file
    if not path.exists():
        return False
    found = json.loads(path.read_bytes())
    sizes = found["settings"][STUDY_KEY] if run.what == "arm" else found["sizes"]
    if sizes != config.sizes(run):
        raise StaleResult(
            f"{path} was made with {sizes}, and this study is made with {config.sizes(run)}; delete the file to make "
            "it anew, or name another folder with --results"
        )
    return True
