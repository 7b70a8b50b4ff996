import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rewards.credit import GlobalStep, Selective
from verl_spark.rewards.designs import DESIGNS, Baseline, Parts, Scored, State, composed, get_design
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
    "prm_step_augmented": ("step_augmented", Kind.PRM),
    "prm_cot_step_augmented": ("step_augmented", Kind.PRM_COT),
    "selective": ("selective", Kind.PRM_COT),
    "selective_half": ("selective_half", Kind.PRM_COT),
    "global_step": ("global_step", Kind.PRM_COT),
}
GOLDEN_PROMPTS = {"yes_no_question": "verifier_orm", "step_by_step": "verifier_prm"}


@pytest.mark.golden("rewards")
def test_golden_rewards(case):
    given, expected = case["input"], case["expected"]
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


@pytest.mark.parametrize("name", [name for name, design in DESIGNS.items() if design.asks_verifier])
@given(reading=st.none() | readings, n_steps=st.none() | st.integers(1, 30))
def test_without_a_verdict_no_design_invents_a_reward(name, reading, n_steps):
    design = get_design(name)
    if design.before_call(True, n_steps) is None and (reading is None or reading.outcome is None):
        assert design.score(True, n_steps, reading) == Scored(State.NO_VERDICT, None)


@pytest.mark.parametrize("name", [name for name, design in DESIGNS.items() if not isinstance(design, Baseline)])
@given(reading=st.none() | readings, n_steps=st.none() | st.integers(1, 30), valid=st.booleans())
def test_marks_are_handed_on_only_one_for_each_step(name, reading, n_steps, valid):
    scored = get_design(name).score(valid, n_steps, reading)
    assert scored.step_marks is None or (scored.step_marks == reading.steps and len(scored.step_marks) == n_steps)
    assert scored.step_marks is None or (scored.state is State.OK and scored.reward is not None)


@pytest.mark.parametrize(
    ("name", "verdict", "reward"),
    [
        ("step_augmented", True, 0.9),
        ("step_augmented", False, 0.3),
        ("step_average", True, 0.75),
        ("step_average", False, 0.75),
        ("selective", False, 0.0),
        ("selective_half", True, 1.0),
        ("global_step", True, 1.0),
    ],
)
def test_a_reward_is_what_its_formula_says(name, verdict, reward):
    marks = (1, 1, 0, 1)
    scored = get_design(name).score(True, 4, Reading(verdict, marks))
    assert (scored.state, scored.reward, scored.step_marks) == (State.OK, pytest.approx(reward), marks)


@pytest.mark.parametrize("verdict", [True, False])
def test_a_composed_reward_is_the_sum_of_its_weighted_parts(verdict):
    scored = composed(0.1, 0.4, 0.5).score(True, 4, Reading(verdict, (1, 1, 0, 1)))
    assert scored.parts == pytest.approx(Parts(0.1, 0.3, 0.5 * verdict))
    assert scored.reward == sum(scored.parts)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.none() | readings, st.integers(1, 5))
def test_a_composed_reward_stays_between_nothing_and_its_weights(f, p, o, reading, n_steps):
    scored = composed(f, p, o).score(True, n_steps, reading)
    assert scored.reward is None or 0 <= scored.reward <= f + p + o


@pytest.mark.parametrize("marks", [None, (1,), (1, 1, 1)])
def test_a_composed_reward_needs_marks_only_if_they_have_a_weight(marks):
    assert composed(0.1, 0.3, 0.6).score(True, 2, Reading(True, marks)) == Scored(State.STEP_MISMATCH, None)
    without = composed(0.1, 0, 0.9).score(True, 2, Reading(True, marks))
    assert (without.state, without.reward) == (State.OK, 1.0)
    assert composed(0.1, 0, 0.9).kinds == set(Kind)
    assert Kind.ORM not in composed(0.1, 0.3, 0.6).kinds


def test_the_weights_of_step_augmented_give_its_rewards():
    for reading in (Reading(True, (1, 0)), Reading(False, (1, 1)), Reading(True, None)):
        assert composed(0, 0.4, 0.6).score(True, 2, reading) == get_design("step_augmented").score(True, 2, reading)


@pytest.mark.parametrize("marks", [None, (1,) * 5, (1,) * 7])
@pytest.mark.parametrize(
    ("name", "reward"),
    [
        ("step_augmented", None),
        ("step_average", None),
        ("selective", 1.0),
        ("selective_half", 1.0),
        ("global_step", 1.0),
    ],
)
def test_marks_of_other_steps_are_not_used(name, reward, marks):
    assert get_design(name).score(True, 6, Reading(True, marks)) == Scored(State.STEP_MISMATCH, reward)


@pytest.mark.parametrize("marks", [None, (1,), (1,) * 21])
@pytest.mark.parametrize(("name", "fewest"), [("selective", 4), ("selective_half", 4), ("global_step", 3)])
def test_step_limits_hold_whatever_the_verifier_wrote(name, fewest, marks):
    design, strict = get_design(name), name != "global_step"
    for n_steps in (None, 1, fewest - 1, 21):
        decided = design.before_call(True, n_steps)
        assert decided == (Scored(State.STEP_LIMIT, 0.0) if strict else None)
        assert design.score(True, n_steps, Reading(True, marks)) == Scored(State.STEP_LIMIT, 0.0 if strict else 1.0)
    for n_steps in (fewest, 20):
        assert design.score(True, n_steps, Reading(True, (1,) * n_steps)).state is State.OK


def test_only_the_designs_of_steps_credit_steps():
    credits = {name: type(design.credit) for name, design in DESIGNS.items() if design.credit.reads_steps}
    assert credits == {"selective": Selective, "selective_half": Selective, "global_step": GlobalStep}


@pytest.mark.parametrize("design", DESIGNS.values(), ids=lambda design: design.name)
@given(reading=st.none() | readings)
def test_a_broken_format_is_a_real_zero_without_a_call_whatever_is_read(design, reading):
    assert design.before_call(False, None) == Scored(State.FORMAT_INVALID, 0.0)
    assert design.score(False, None, reading) == Scored(State.FORMAT_INVALID, 0.0)


@given(st.none() | st.integers(1, 30))
def test_the_format_alone_is_decided_without_a_call(n_steps):
    scored = Scored(State.OK, 1.0, parts=Parts(format=1.0))
    assert get_design("format").before_call(True, n_steps) == scored
    assert get_design("format").score(True, n_steps, None) == scored


@pytest.mark.parametrize("name", [name for name, design in DESIGNS.items() if isinstance(design, Baseline)])
@given(n_steps=st.none() | st.integers(1, 30))
def test_a_baseline_decides_nothing_of_a_valid_response_by_its_looks(name, n_steps):
    assert get_design(name).before_call(True, n_steps) is None


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_survives_pickling(name):
    assert pickle.loads(pickle.dumps(get_design(name))) == get_design(name)


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("gone:MINE", "No module named 'gone'"),
        ("own:HERS", "no attribute 'HERS'"),
        ("own:NUMBER", "is no verl_spark.rewards.designs.Design, but 5"),
        ("contradicting:MINE", r"fewest=30, most=20.*give 1 <= fewest <= most"),
    ],
)
def test_a_design_of_ones_own_is_named_by_its_module_or_refused(named, says, tmp_path, monkeypatch):
    common = "from dataclasses import replace\nfrom verl_spark.rewards.designs import StepLimits, get_design\n"
    mine = "MINE = replace(get_design('selective'), name='mine', limits=StepLimits({}, 20))\nNUMBER = 5\n"
    (tmp_path / "own.py").write_text(common + mine.format(5))
    (tmp_path / "contradicting.py").write_text(common + mine.format(30))
    monkeypatch.syspath_prepend(tmp_path)
    assert get_design("own:MINE").before_call(True, 4) == Scored(State.STEP_LIMIT, 0.0)
    with pytest.raises(ValueError, match=says):
        get_design(named)


def test_an_unknown_design_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"best_of.*orm, process_aware"):
        get_design("best_of")


def test_each_kind_of_verifier_has_a_design_that_can_use_it():
    assert set(Kind) == set().union(*(design.kinds for design in DESIGNS.values()))
