import pytest
from hypothesis import given

from tests.verification.texts import anything, tagged
from verl_spark.verification.gate import GateReason, check
from verl_spark.verification.policy_format import PLAIN, TAGS


@pytest.mark.golden("format_validity")
def test_golden_gate(case):
    gate = check(case["input"]["text"])
    assert gate.valid is case["expected"]["valid"]
    assert gate.reason.value == case["expected"]["reason"]


@given(anything)
def test_a_gate_never_raises_and_gives_an_answer_exactly_to_valid_text(text):
    for policy_format in (TAGS, PLAIN):
        gate = policy_format.check(text)
        assert gate.valid is (gate.reason is GateReason.OK)
        assert (gate.answer is not None) is gate.valid
        if gate.answer is not None:
            box = gate.answer.box
            assert text[box.start : box.end].startswith("\\boxed")
            assert text[box.start : box.end].endswith("{" + box.content + "}")


@given(anything)
def test_appending_to_a_valid_solution_makes_it_invalid_unless_it_is_blank(text):
    gate = check(tagged(["4 + 5 = 9"]) + text)
    assert gate.valid is (not text.strip())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4 + 5 = 9\nSo \\boxed{9}.", GateReason.OK),
        ("4 + 5 = 9\n\\[\n\\boxed{9}\n\\]\n", GateReason.OK),
        ("\\boxed{9}\nProblem: 1 + 1. Solution: 2.", GateReason.TEXT_AFTER_ANSWER),
        ("first \\boxed{8}\nthen \\boxed{9}", GateReason.BOX_COUNT),
        ("4 + 5 = 9", GateReason.BOX_COUNT),
        ("\\\\boxed{9}", GateReason.BOX_SYNTAX),
        ("\\boxed{9", GateReason.BOX_SYNTAX),
        ("\\boxed{ \n }", GateReason.BOX_EMPTY),
    ],
)
def test_the_plain_format_wants_one_box_on_the_last_line(text, reason):
    assert PLAIN.check(text).reason is reason


@pytest.mark.parametrize("unit", ["\\", "\\boxed{", "\\boxed", "boxed ", "{", "<answer", " ", "<answer></answer>"])
def test_a_gate_takes_long_hostile_text(unit):
    text = unit * (200_000 // len(unit))
    assert not check(f"{text}<answer>\\boxed{{{text}").valid
    assert not PLAIN.check(text).valid
