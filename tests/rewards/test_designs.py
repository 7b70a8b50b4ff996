import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rewards.designs import DESIGNS, Scored, State, get_design
from verl_spark.verification.gate import check
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import verifier_prompt
from verl_spark.verification.reading import Reading, read
from verl_spark.verification.steps import tagged_steps

# How the golden vectors name a design: ours, and the kind of verifier it asks.
GOLDEN_DESIGNS = {
    "orm": ("orm", Kind.ORM),
    "prm_outcome": ("process_aware", Kind.PRM),
    "prm_cot_outcome": ("process_aware", Kind.PRM_COT),
}
GOLDEN_PROMPTS = {"yes_no_question": "verifier_orm", "step_by_step": "verifier_prm"}


@pytest.mark.golden("rewards")
def test_golden_rewards(case):
    given, expected = case["input"], case["expected"]
    if given["design"] not in GOLDEN_DESIGNS:
        pytest.skip(f"design {given['design']} is not there yet")
    name, kind = GOLDEN_DESIGNS[given["design"]]
    design = get_design(name)
    assert kind in design.kinds

    valid = check(given["solution"]).valid
    spans = tagged_steps(given["solution"])
    n_steps = None if spans is None else len(spans)
    called = design.before_call(valid, n_steps) is None
    reading = read(given["verifier_text"], kind, given["finish_reason"]) if called else None
    scored = design.score(valid, n_steps, reading)

    assert valid is expected["valid"]
    assert called is expected["verifier_called"]
    assert scored.reward == (None if expected["reward"] is None else pytest.approx(expected["reward"], abs=1e-9))
    assert (None if scored.step_marks is None else list(scored.step_marks)) == expected["step_marks"]
    assert scored.state.value == expected["status"]
    assert verifier_prompt(kind) == GOLDEN_PROMPTS[expected["prompt_style"]]


readings = st.builds(
    Reading,
    st.none() | st.booleans(),
    st.none() | st.lists(st.integers(0, 1), min_size=1, max_size=5).map(tuple),
)


@pytest.mark.parametrize("name", ["orm", "process_aware"])
@given(reading=st.none() | readings, n_steps=st.none() | st.integers(1, 30))
def test_the_verdict_alone_is_the_reward_and_its_absence_is_no_zero(name, reading, n_steps):
    design = get_design(name)
    scored = design.score(True, n_steps, reading)
    if reading is None or reading.outcome is None:
        assert scored == Scored(State.NO_VERDICT, None)
    else:
        assert scored == Scored(State.OK, float(reading.outcome))
    assert design.before_call(True, n_steps) is None


@pytest.mark.parametrize("design", DESIGNS.values(), ids=lambda design: design.name)
@given(reading=st.none() | readings)
def test_a_broken_format_is_a_real_zero_without_a_call_whatever_is_read(design, reading):
    assert design.before_call(False, None) == Scored(State.FORMAT_INVALID, 0.0)
    assert design.score(False, None, reading) == Scored(State.FORMAT_INVALID, 0.0)


@given(st.none() | st.integers(1, 30))
def test_the_format_alone_is_decided_without_a_call(n_steps):
    assert get_design("format").before_call(True, n_steps) == Scored(State.OK, 1.0)
    assert get_design("format").score(True, n_steps, None) == Scored(State.OK, 1.0)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_survives_pickling(name):
    assert pickle.loads(pickle.dumps(get_design(name))) == get_design(name)


def test_an_unknown_design_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"best_of.*orm, process_aware"):
        get_design("best_of")


def test_each_kind_of_verifier_has_a_design_that_can_use_it():
    assert set(Kind) == set().union(*(design.kinds for design in DESIGNS.values()))
