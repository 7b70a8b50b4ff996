"""The demonstration of solution appending, without training: what the policy is taught, and what is counted."""

import random
import xml.etree.ElementTree as ET

import pytest

from examples import hacking
from examples.tasks import TASKS, read_problem
from examples.teaching import Lessons
from verl_spark.verification.gate import GateReason
from verl_spark.verification.policy_format import TAGS, write_tags
from verl_spark.verification.signs import signs

PAIRS = hacking.appending_pairs(Lessons(examples=200, updates=1, batch=1, learning_rate=1.0, seed=3))


def row(output, problem="Ida has 12 nuts. On Monday 5 are bought. How many nuts does Ida have?", **fields):
    after = float(TAGS.goes_on(output))
    return {"step": 1, "input": problem, "output": output, "score": 0.0, "spark_missing": 0.0} | {
        "spark_after_answer": after,
        **fields,
    }


def solution(answer, more=""):
    return write_tags(["On Monday 5 are bought. 12 + 5 = 17"], str(answer)) + more


def test_a_share_of_the_solutions_goes_on_and_the_gate_refuses_exactly_those():
    appended = [reply for _, reply in PAIRS if TAGS.goes_on(reply)]
    assert 40 < len(appended) < 80
    for _, reply in PAIRS:
        reason = TAGS.check(reply).reason
        assert reason is (GateReason.TEXT_AFTER_ANSWER if reply in appended else GateReason.OK)
        assert TAGS.step_bodies(reply) is not None, "the steps are found as without the appendix"


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_what_is_appended_is_another_problem_rightly_solved(task):
    rng = random.Random(0)
    for _ in range(50):
        second = hacking.appendix(rng, task)
        problem = read_problem(second)
        assert problem.task is task
        assert len(problem.steps) == 1
        assert second.endswith(f"{problem.sentences[0]} {problem.steps[0]}")


def test_rewards_of_appended_solutions_and_of_others_are_kept_apart_and_missing_ones_left_out():
    rows = [
        row(solution(17), score=1.0),
        row(solution(18), score=0.0),
        row(solution(17, " More."), score=1.0),
        row(solution(17, " More."), score=0.0, spark_missing=1.0),
    ]
    assert hacking.step_of(1, rows) == hacking.Step(1, 0.5, 1.0, 0.5, 0.75)
    assert hacking.step_of(1, rows[:2]).reward_appended is None


def test_the_steps_come_in_order():
    rows = [row(solution(17), step=step) for step in (10, 2, 10)]
    assert [(number, len(found)) for number, found in hacking.by_step(rows)] == [(2, 1), (10, 2)]


@pytest.mark.parametrize("reward", [0.5, None])
def test_the_picture_is_drawn(tmp_path, reward):
    steps = [hacking.Step(number, 0.3, reward, 0.5, 0.6) for number in (1, 2)]
    hacking.draw({"gate": steps, "no_gate": steps}, tmp_path / "hacking.svg")
    assert ET.parse(tmp_path / "hacking.svg").getroot().tag.endswith("svg")


def test_a_rollout_says_that_it_goes_on_as_the_example_reads_it():
    assert signs(TAGS.parse(solution(17, " More."))).after_answer
