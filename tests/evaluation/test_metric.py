"""The score: the golden vectors, its undefined cases, and what its intervals rest on."""

import pytest

from tests.evaluation.made import item, replies
from verl_spark.evaluation.asking import judge
from verl_spark.evaluation.metric import score
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.evaluation.verifiers.critic import Critic
from verl_spark.evaluation.verifiers.outcome import OutcomeVerifier
from verl_spark.verification.kinds import Kind
from verl_spark.verification.writing import write

TOLERANCE = 1e-6


def judged(label, prediction, name="i0", subset="math", problem=None, finish_reason="stop"):
    text = "none" if prediction is None else f"\\boxed{{{prediction}}}"
    found = item(label, 10, name, subset, problem)
    return judge(found, Critic(), replies(text, finish_reason=finish_reason))


def golden_judgement(entry, place, subset):
    if "critiques" in entry:
        return judge(item(entry["label"], name=str(place), subset=subset), Critic(), replies(*entry["critiques"]))
    marks = entry["step_marks"]
    text = "unreadable" if marks is None else write(Kind.PRM, marks, all(marks))
    about = item(entry["label"], len(marks or [0]), str(place), subset)
    return judge(about, StepVerifier(Kind.PRM), replies(text))


@pytest.mark.golden("processbench")
def test_golden_processbench(case):
    judgements = [
        golden_judgement(entry, place, subset)
        for subset, entries in case["input"]["subsets"].items()
        for place, entry in enumerate(entries)
    ]
    found, expected = score(judgements), case["expected"]
    assert found.subsets.keys() == expected["subsets"].keys()
    for name, subset in found.subsets.items():
        wanted = expected["subsets"][name]
        assert [one.prediction.index for one in judgements if one.item.subset == name] == wanted["predictions"]
        for field in ("error_acc", "correct_acc", "f1"):
            assert_same(getattr(subset, field), wanted[field])
    assert_same(found.f1, expected["average_f1"])


def assert_same(found, wanted):
    assert (found is None) == (wanted is None)
    if found is not None:
        assert 100 * found.mean == pytest.approx(wanted, abs=TOLERANCE)
        assert found.low - 1e-9 <= found.mean <= found.high + 1e-9


def test_nothing_right_is_an_f1_of_0_and_a_missing_class_none_at_all():
    wrong = [judged(1, 2), judged(-1, 0, "i1")]
    assert score(wrong).f1.mean == 0
    for one in wrong:
        assert score([one]).subsets["math"].f1 is None
    both = score([*wrong, judged(2, 2, subset="gsm8k")])
    assert both.subsets["math"].f1.mean == 0
    assert both.f1 is None  # a mean of the others would be another number


def test_a_subset_that_lost_its_items_leaves_no_mean():
    found = score([judged(1, 1), judged(-1, -1, "i1")], subsets=("gsm8k", "math"))
    assert found.subsets["math"].f1.mean == 1
    assert (found.subsets["gsm8k"].items, found.subsets["gsm8k"].f1, found.f1) == (0, None, None)


def test_no_prediction_is_wrong_and_counted_by_its_cause():
    about = item(1)
    said = [write(Kind.PRM, [1, 0, 1], False), "what?", write(Kind.PRM, [1, 0], False)]
    judgements = [judge(about, StepVerifier(Kind.PRM), replies(text)) for text in said]
    judgements.append(judge(about, StepVerifier(Kind.PRM), replies(said[0], finish_reason="length")))
    judgements.append(judge(about, StepVerifier(Kind.PRM), []))
    found = score(judgements).subsets["math"]
    assert found.error_acc.mean == pytest.approx(1 / 5)
    assert found.faults == pytest.approx(dict.fromkeys(("failed", "cut", "unreadable", "step_mismatch"), 1 / 5))
    assert found.cut_replies == 1 / 4


def test_solutions_of_one_problem_are_one_observation():
    def made(problem_of):
        return [judged(1, 1 + place % 2, f"e{place}", problem=problem_of(place)) for place in range(80)] + [
            judged(-1, -1, f"c{place}", problem=problem_of(place)) for place in range(80)
        ]

    apart = score(made(lambda place: f"p{place}")).f1
    together = score(made(lambda place: f"p{place % 8}")).f1
    assert together.mean == apart.mean
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_an_orm_has_no_f1_but_verdicts_by_the_answer():
    # A right answer by a wrong way is a right answer to an ORM.
    items = [
        item(-1, answer_correct=True),
        item(1, answer_correct=True),
        item(0, answer_correct=False),
        item(-1),
        item(2),
    ]
    verdicts = ["Yes", "Yes", "Yes", "No", "No"]
    pairs = zip(items, verdicts, strict=True)
    found = score([judge(about, OutcomeVerifier(), replies(text)) for about, text in pairs], locates=False)
    subset = found.subsets["math"]
    assert (found.f1, subset.f1, subset.error_acc, subset.correct_acc) == (None,) * 4
    assert subset.verdict_acc_right.mean == pytest.approx(2 / 3)
    assert subset.verdict_acc_wrong.mean == pytest.approx(1 / 2)
    assert score([judged(1, 1)]).subsets["math"].verdict_acc_right is None
