"""The measure on the demonstration's task, with verifiers whose quality is known."""

from pathlib import Path

import pytest

from examples import chains, stage2
from examples.stage1_models import NUMBERED
from examples.tasks import TASKS, read_problem
from tests.prm import made
from verl_spark.verification.kinds import Kind
from verl_spark.verification.rendering import render_steps
from verl_spark.verification.writing import write
from verl_spark.verifier.client import Reply

ITEMS = stage2.held_out(80)


def truth_of(item):
    """The truth about an item, by the program that knows the task."""
    text = render_steps(item.steps, item.answer).text
    return chains.judge(read_problem(item.problem), text, NUMBERED)


class Knowing:
    """A verifier that knows the truth about the items and changes its marks by `err`, a function of item and marks."""

    def __init__(self, kind, err=lambda item, marks: marks):
        self.kind, self.err = kind, err

    async def sample(self, message, sampling, n):
        (item,) = (item for item in ITEMS if item.problem in message)
        truth = truth_of(item)
        marks = self.err(item, truth.marks)
        verdict = truth.verdict if marks == truth.marks else all(marks)
        text = write(self.kind, marks, verdict, truth.stated, [""] * len(marks))
        return [Reply(text, "stop", 5, 2, 0.5, 1)]


async def quality_of(engine, kind, folder):
    return stage2.quality(await stage2.judge(engine, "knowing", kind, ITEMS, folder), kind)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_half_of_the_solutions_are_wrong_from_the_labelled_step_on(task):
    items = stage2.held_out(80, task=task)
    for place, item in enumerate(items):
        truth = truth_of(item)
        assert (-1 if truth.first_error is None else truth.first_error) == item.label
        assert (item.label >= 0) == bool(place % 2)
        assert item.answer_correct is truth.answer_right
    assert len({item.problem for item in items}) == len(items)


@pytest.mark.parametrize("kind", [Kind.PRM, Kind.PRM_COT])
async def test_a_verifier_without_errors_has_an_f1_of_one(tmp_path, kind):
    found = await quality_of(Knowing(kind), kind, tmp_path)
    assert (found.items, found.erroneous, found.f1.mean) == (80, 40, 1.0)


async def test_known_errors_give_the_f1_that_they_come_to(tmp_path):
    missed = {item.id for item in ITEMS[1::2][:10]}
    accused = {item.id for item in ITEMS[::2][:20]}

    def err(item, marks):
        if item.id in missed:
            return (1,) * len(marks)
        return (*marks[:-1], 0) if item.id in accused else marks

    found = await quality_of(Knowing(Kind.PRM_COT, err), Kind.PRM_COT, tmp_path)
    assert (found.error_acc.mean, found.correct_acc.mean) == (30 / 40, 20 / 40)
    assert found.f1.mean == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    assert not any(found.faults.values())


async def test_an_orm_names_no_step_and_has_verdicts_instead(tmp_path):
    found = await quality_of(Knowing(Kind.ORM), Kind.ORM, tmp_path)
    assert found.f1 is None
    right = [item for item in ITEMS if item.answer_correct]
    said = [truth_of(item).verdict for item in right]
    assert found.verdict_acc_right.mean == pytest.approx(sum(said) / len(said))
    assert found.verdict_acc_wrong.mean == 1


def test_a_training_that_fails_names_its_log(tmp_path):
    data = made.sft_files(tmp_path / "sft" / "step", problems=16)
    with pytest.raises(RuntimeError, match=r"run\.log"):
        stage2.train_prm(Path("no-such-model"), data, Kind.PRM_COT, tmp_path / "run", stage2.Training(batch=8))
