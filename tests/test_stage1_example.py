"""What the example of Stage I teaches its tiny models is what Stage I asks for, with the errors that it states."""

import re
from dataclasses import replace

import pytest

from examples import chains, stage1_models, tiny_models
from examples.tasks import TASKS, read_problem
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import read
from verl_spark.verification.steps import answer_of, numbered_steps

FEW = replace(stage1_models.Stage1Recipe().verifier, examples=300)
RECIPE = stage1_models.Stage1Recipe(generator=FEW, verifier=FEW, critic=FEW)
SOLUTION = re.compile(r"```\n(Step 1: .*?)\n```", re.DOTALL)


def truth_of(message):
    """The truth about the solution that a prompt shows."""
    problem = read_problem(message)
    truth = chains.judge(problem, SOLUTION.search(message)[1], stage1_models.NUMBERED)
    assert truth is not None
    return truth


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


def marks_of(reply):
    reading = read(reply, Kind.PRM_COT)
    assert reading.outcome is all(reading.steps)
    return reading.steps


def test_the_generator_is_taught_solutions_that_can_be_split(task):
    pairs = stage1_models.generator_pairs(RECIPE, task)
    right = [answer_of(reply) == str(read_problem(message).answer) for message, reply in pairs]
    assert all(numbered_steps(reply) for _, reply in pairs)
    assert 0.5 < sum(right) / len(right) < 1


def test_the_verifier_is_wrong_about_the_stated_share_of_marks_unless_it_sees_the_reference(task):
    wrong = {True: [], False: []}
    for message, reply in stage1_models.verifier_pairs(RECIPE, task):
        truth = truth_of(message)
        given = marks_of(reply)
        shown = bool(re.search(r"```\n\d+\n```", message))
        wrong[shown] += [mark != true for mark, true in zip(given, truth.marks, strict=True)]
    assert not any(wrong[True])
    assert sum(wrong[False]) / len(wrong[False]) == pytest.approx(RECIPE.label_error, abs=0.04)
    assert len(wrong[True]) == pytest.approx(len(wrong[False]) / 2, rel=0.2)


def test_the_critic_is_taught_to_merge_what_it_believes_into_the_verification(task):
    wrong, critiques, pairs = [], 0, stage1_models.critic_pairs(RECIPE, task)
    for message, reply in pairs:
        if read(reply, Kind.PRM_COT).outcome is None:
            critiques += 1
            assert re.fullmatch(r"(Step \d+: .+\. The mark (stands|is wrong)\.\n?)+", reply)
        else:
            wrong += [mark != true for mark, true in zip(marks_of(reply), truth_of(message).marks, strict=True)]
    assert critiques == len(pairs) // 2
    assert sum(wrong) / len(wrong) == pytest.approx(RECIPE.critique_error, abs=0.04)


def test_the_models_of_a_task_are_never_those_of_another(tmp_path, monkeypatch):
    for module in (tiny_models, stage1_models):
        monkeypatch.setattr(module, "cached", lambda folder, *_: folder)
    found = [
        folder
        for task in TASKS.values()
        for folder in (
            tiny_models.base_model(tmp_path, tiny_models.Recipe(), print, task),
            tiny_models.policy_model(tmp_path, tmp_path, tiny_models.Recipe(), print, task),
            *vars(stage1_models.stage1_models(tmp_path, RECIPE, print, task=task)).values(),
        )
    ]
    assert len(set(found)) == len(found) == 10
