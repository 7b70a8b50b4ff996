from dataclasses import replace

import pytest

from tests.data.made import consistent, dropped, record
from verl_spark.data.quality import (
    ALL,
    FIRST_ERROR,
    OUTCOME,
    RIGHT,
    STEP,
    WRONG,
    growth,
    label_accuracy,
    solution_truth,
)
from verl_spark.rewards.rule import AnswerChecker

NOTHING = {}


def table(records, truth=NOTHING, step_truth=NOTHING):
    return {(row.method, row.label, row.truth): row for row in label_accuracy(records, truth, step_truth)}


async def test_truth_compares_answers_with_references():
    checker = AnswerChecker()
    made = [
        record(problem_id="p0", answer="9"),
        record(problem_id="p0", answer="\\frac{18}{2}"),
        record(problem_id="p0", answer="8"),
        record(problem_id="no-reference", answer="9"),
        replace(record(problem_id="p0", answer="9"), solution="Step 1: 9", solution_id="no-answer"),
        dropped(record(problem_id="p0", answer="9.0"), "tie"),
    ]
    try:
        truth = await solution_truth(made, {"p0": "9"}, checker)
    finally:
        checker.close()
    assert truth == {"p0-9": True, "p0-\\frac{18}{2}": True, "p0-8": False, "p0-9.0": True}


def test_right_and_wrong_solutions_stand_apart():
    # A verifier that says Yes to everything: perfect on right solutions, useless on wrong ones.
    made = [record((1, 1), f"p{p}", f"p{p}-{right}") for p in range(6) for right in (0, 1, 2)]
    truth = {item.solution_id: item.solution_id.endswith("1") for item in made}
    found = table([*made, record((1, 1), "p9"), dropped(record((1,), "p8"), "tie")], truth)
    assert set(found) == {("step", OUTCOME, of) for of in (ALL, RIGHT, WRONG)}
    by_truth = {of: found["step", OUTCOME, of] for of in (ALL, RIGHT, WRONG)}
    assert {of: row.accuracy.mean for of, row in by_truth.items()} == {
        ALL: pytest.approx(1 / 3),
        RIGHT: 1.0,
        WRONG: 0.0,
    }
    assert {of: row.labels for of, row in by_truth.items()} == {ALL: 18, RIGHT: 6, WRONG: 12}
    assert {row.unknown for row in by_truth.values()} == {1}
    assert by_truth[ALL].accuracy.n == 6  # problems, not solutions


def test_step_labels_and_first_errors():
    made = [
        record((1, 0, 0), "p0", "exact"),
        record((1, 1, 0), "p1", "late"),
        record((1, 1), "p2", "clean"),
        record((1, 1), "p3", "other_count"),
    ]
    step_truth = {"exact": (1, 0, 0), "late": [1, 0, 0], "clean": (1, 1), "other_count": (1,)}
    found = table(made, step_truth=step_truth)
    assert set(found) == {("step", label, of) for label in (STEP, FIRST_ERROR) for of in (ALL, RIGHT, WRONG)}
    assert found["step", STEP, ALL].accuracy.mean == 7 / 8
    assert found["step", STEP, RIGHT].accuracy.mean == 1.0
    assert found["step", STEP, WRONG].accuracy.mean == 3 / 4
    assert found["step", FIRST_ERROR, WRONG].accuracy.mean == 1 / 2
    assert found["step", FIRST_ERROR, RIGHT].accuracy.mean == 1.0
    assert {row.unknown for row in found.values()} == {1}


def test_methods_stand_apart_and_an_unknown_one_has_its_line():
    made = [record(method="outcome"), record((1,), method="step", solution_id="x")]
    found = table(made, {"p0-9": False})
    assert found["outcome", OUTCOME, WRONG].accuracy.mean == 1.0
    assert found["step", OUTCOME, ALL].accuracy is None
    assert (found["step", OUTCOME, ALL].labels, found["step", OUTCOME, ALL].unknown) == (0, 1)


def test_more_ballots_correct_an_early_slip():
    good, slip = consistent(1, 0), consistent(1, 1)
    made = [record((1, 0), f"p{p}", ballots=[slip, good, good, good, slip]) for p in range(4)]
    truth = {item.solution_id: False for item in made}
    step_truth = {item.solution_id: (1, 0) for item in made}
    found = {(row.level, row.n): row for row in growth(made, truth, step_truth)}
    assert set(found) == {(level, n) for level in (OUTCOME, STEP) for n in range(1, 6)}
    for level in (OUTCOME, STEP):
        one, two, three, five = (found[level, n] for n in (1, 2, 3, 5))
        assert (one.kept, one.agreement.mean, one.settled, one.accuracy[ALL].mean) == (1.0, 1.0, 0.0, 0.0)
        assert (two.kept, two.agreement, two.settled, two.accuracy) == (0.0, None, None, {})  # a tie is no label
        assert (three.kept, three.settled, three.accuracy[WRONG].mean) == (1.0, 1.0, 1.0)
        assert three.accuracy[RIGHT] is None
        assert five.settled == 1.0
    assert found[OUTCOME, 5].agreement.mean == pytest.approx(3 / 5)
    assert found[STEP, 5].agreement.mean == pytest.approx((5 + 3) / 10)
    assert found[STEP, 1].step_accuracy[WRONG].mean == 0.0
    assert found[STEP, 3].step_accuracy[ALL].mean == 1.0
    assert found[OUTCOME, 3].step_accuracy == {}


def test_growth_looks_at_verified_solutions_without_truth_as_well():
    made = [record((1, 0)), dropped(replace(record(), ballots=()), "solution_cut")]
    lines = growth(made, {}, {})
    assert [(line.level, line.n, line.kept, line.accuracy) for line in lines] == [
        (OUTCOME, 1, 1.0, {}),
        (STEP, 1, 1.0, {}),
    ]
