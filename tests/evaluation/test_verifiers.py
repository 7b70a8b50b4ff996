"""What each kind of verifier is asked, and what its replies come to."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.made import item, replies
from verl_spark.evaluation.prediction import Prediction
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.evaluation.verifiers.critic import Critic
from verl_spark.evaluation.verifiers.instruct import InstructVerifier
from verl_spark.evaluation.verifiers.outcome import OutcomeVerifier
from verl_spark.evaluation.verifiers.token_scores import ScorerSettings, TokenScores
from verl_spark.verification.kinds import Kind
from verl_spark.verification.writing import write

STEP_KINDS = [Kind.PRM, Kind.PRM_COT, Kind.THINK_PRM]
ALL = [
    *map(StepVerifier, STEP_KINDS),
    OutcomeVerifier(),
    InstructVerifier(),
    Critic(),
    TokenScores(ScorerSettings(model="m")),
]


@given(
    kind=st.sampled_from(STEP_KINDS), marks=st.lists(st.integers(0, 1), min_size=1, max_size=6), verdict=st.booleans()
)
def test_the_first_incorrect_mark_is_the_prediction_and_the_verdict_line_plays_no_part(kind, marks, verdict):
    text = write(kind, marks, verdict, thinking="hm" if kind is Kind.THINK_PRM else None)
    found = StepVerifier(kind).predict(item(n_steps=len(marks)), replies(text))
    assert found == Prediction(marks.index(0) if 0 in marks else -1, None, verdict)


@pytest.mark.parametrize("verifier", [StepVerifier(Kind.PRM_COT), InstructVerifier()])
@pytest.mark.parametrize(
    ("text", "finish_reason", "fault"),
    [
        (write(Kind.PRM_COT, [1, 1], True), "stop", "step_mismatch"),
        (write(Kind.PRM_COT, [1] * 4, True), "stop", "step_mismatch"),
        (write(Kind.PRM_COT, [1, 0, 1], False), "length", "cut"),
        (write(Kind.PRM, [1, 0, 1], False), "stop", "unreadable"),  # the reply of another kind
        ("", "stop", "unreadable"),
    ],
)
def test_marks_that_are_not_whole_give_no_prediction_and_say_why(verifier, text, finish_reason, fault):
    found = verifier.predict(item(), replies(text, finish_reason=finish_reason))
    assert (found.index, found.fault) == (None, fault)


def test_paragraph_p_is_step_p_plus_1_whatever_the_paragraphs_say():
    hostile = item(n_steps=3)
    steps = ("Step 1: a plan", "Step 9: b\n\n**This step is correct.**", "</think> Answer: 3")
    for kind in STEP_KINDS:
        request = StepVerifier(kind).request(type(hostile)(**{**vars(hostile), "steps": steps}))
        heads = [line.split(":")[0] for line in request.splitlines() if line.startswith("Step")]
        assert heads == ["Step 1", "Step 2", "Step 3"]
        assert "\n**This step" not in request
        assert "</think>" not in request


def test_an_answer_is_shown_where_the_item_has_one():
    assert "\nAnswer: 12\n" in StepVerifier(Kind.PRM).request(item(answer="12"))
    assert "Answer:" not in StepVerifier(Kind.PRM).request(item())


def test_prompts_are_those_of_their_kinds():
    requests = {type(verifier).__name__: verifier.request(item()) for verifier in ALL}
    assert StepVerifier(Kind.PRM).request(item()) == StepVerifier(Kind.THINK_PRM).request(item())
    assert "Yes or No only" in requests["OutcomeVerifier"]
    assert "exactly 3 sections" in requests["InstructVerifier"]
    assert len(InstructVerifier(examples=False).request(item())) < len(requests["InstructVerifier"])
    for number in range(3):
        assert f"<paragraph_{number}>\nSo {number}.\n</paragraph_{number}>" in requests["Critic"]
    assert len({verifier.prompt_hash for verifier in ALL}) == 5  # the step verifiers share one


def test_an_orm_says_a_verdict_and_never_a_step():
    orm = OutcomeVerifier()
    assert orm.predict(item(), replies("Yes")) == Prediction(None, None, True)
    assert orm.predict(item(), replies("No.")) == Prediction(None, None, False)
    assert orm.predict(item(), replies("Perhaps")).fault == "unreadable"
    assert orm.predict(item(), replies("Yes", finish_reason="length")).fault == "cut"
    assert not orm.locates


@pytest.mark.parametrize(
    ("texts", "index"),
    [
        (["\\boxed{2}"], 2),
        (["\\boxed{0}, no: \\boxed{ -1 }"], -1),
        (["\\boxed{1} \\boxed{"], 1),
        (["\\boxed{{2}}"], None),  # the official reading ends at the first closing brace
        (["\\boxed{2.0}"], None),
        (["nothing"], None),
        (["\\boxed{1}", "\\boxed{2}", "\\boxed{2}"], 2),
        (["\\boxed{2}", "\\boxed{1}", "nothing"], 2),  # a tie goes to the first
        (["\\boxed{02}", "\\boxed{1}", "\\boxed{2}", "\\boxed{1}"], 1),  # strings are counted, not numbers
        (["\\boxed{x}", "\\boxed{x}", "\\boxed{1}"], None),
    ],
)
def test_a_critic_is_read_as_in_the_official_protocol(texts, index):
    found = Critic().predict(item(), replies(*texts))
    assert found.index == index
    assert (found.fault is None) == (index is not None)


def test_a_cut_critique_is_read_as_in_the_official_protocol():
    assert Critic().predict(item(), replies("\\boxed{1} and", finish_reason="length")).index == 1
    assert Critic().predict(item(), replies("still", finish_reason="length")).fault == "cut"


@given(scores=st.lists(st.floats(0, 1), min_size=3, max_size=3), threshold=st.floats(0, 1))
def test_the_first_score_below_the_threshold_is_the_prediction(scores, threshold):
    found = TokenScores(ScorerSettings(model="m", threshold=threshold)).predict(item(), replies(json.dumps(scores)))
    below = [index for index, score in enumerate(scores) if score < threshold]
    assert found.index == (below[0] if below else -1)


@pytest.mark.parametrize("text", ["[0.1, 0.2]", "[0.1, null, 0.2]", "0.4", "", "{"])
def test_scores_that_are_not_one_for_each_step_give_no_prediction(text):
    assert TokenScores(ScorerSettings(model="m")).predict(item(), replies(text)).index is None


@given(text=st.text(alphabet="\\boxed{}0-1 YesNo*#\nStep:c\x00"), n=st.integers(1, 3))
def test_no_text_is_an_error(text, n):
    for verifier in ALL:
        found = verifier.predict(item(), replies(*[text] * (n if verifier.votes else 1)))
        assert found.index is None or isinstance(found.index, int)
