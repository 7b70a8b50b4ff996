"""What a token is credited with, and who sits out of a step's advantages."""

from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from verl_spark.rewards.credit import (
    EPSILON,
    PROCESS,
    PROCESS_WEIGHT,
    STEP_WEIGHT,
    GlobalStep,
    MarkedStep,
    Rollouts,
    Selective,
    marked,
    sits_out,
)
from verl_spark.rewards.designs import get_design
from verl_spark.rewards.spans import step_spans
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.reading import Reading, read

GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from([0.0, 0.6, 1.0])), max_size=24)
GOLDEN = {"grpo": "process_aware", "selective": "selective", "selective_half": "selective_half"}
GOLDEN["global_step"] = "global_step"
CREDITS = {name: get_design(design).credit for name, design in GOLDEN.items()}
T = 12
"""Tokens of every rollout here."""


# ---- golden vectors


@pytest.mark.golden("advantages")
def test_golden_advantages(case):
    given, expected = case["input"], case["expected"]
    assert (given["process_weight"], given["step_weight"]) == (PROCESS_WEIGHT, STEP_WEIGHT)
    assert given["epsilon"] == EPSILON
    for name in expected:
        if "tokens" in given:
            rollouts = from_text(given, get_design(GOLDEN[name]), case["expected_details"][name])
        else:
            rollouts = from_marks(given)
        found = CREDITS[name].advantages(rollouts).advantages
        assert found == pytest.approx(np.array(expected[name]), abs=1e-4), name


def from_marks(given):
    """Rollouts of a case that states spans and marks."""
    steps = [
        marked([tuple(span) for span in spans], marks) if usable else None
        for spans, marks, usable in zip(
            given["step_spans"], given["step_marks"], given["step_info_usable"], strict=True
        )
    ]
    return Rollouts(given["uid"], given["scores"], np.array(given["response_mask"], dtype=bool), steps)


def from_text(given, design, details):
    """Rollouts of a case that states responses in pieces and the verifier's texts."""
    rewards, steps = [], []
    for index, pieces in enumerate(given["tokens"]):
        text = "".join(pieces)
        characters = TAGS.step_spans(text)
        n_steps, valid = characters and len(characters), TAGS.check(text).valid
        reading = read(given["verifier_texts"][index], Kind.PRM_COT, given["finish_reasons"][index])
        scored = design.score(valid, n_steps, reading)
        ids = range(len(pieces))
        spans = characters and step_spans(ids, text, characters, lambda ids, said=pieces: "".join(said[i] for i in ids))

        assert scored.reward == details["scores"][index]
        assert scored.state.value == details["status"][index]
        assert (spans and [list(span) for span in spans]) == details["step_spans"][index]
        assert (scored.step_marks and list(scored.step_marks)) == details["step_marks"][index]
        rewards.append(scored.reward)
        steps.append(None if scored.step_marks is None else marked(spans, scored.step_marks))
    return Rollouts(given["uid"], rewards, np.array(given["response_mask"], dtype=bool), steps)


# ---- by hand


def batch(rewards, steps, mask=None, uids=None):
    mask = np.ones((len(rewards), T), dtype=bool) if mask is None else mask
    return Rollouts(uids or ["a"] * len(rewards), rewards, mask, steps)


RIGHT, WRONG = True, False
TWO = batch(
    [1.0, 0.0],
    [
        [MarkedStep(1, 4, RIGHT), MarkedStep(5, 7, WRONG)],
        [MarkedStep(0, 2, RIGHT), MarkedStep(2, 5, WRONG), MarkedStep(5, 5, WRONG), MarkedStep(5, 9, RIGHT)],
    ],
)
A = 0.5 / (sqrt(0.5) + EPSILON)


def test_the_process_advantage_is_the_same_on_every_token():
    found = PROCESS.advantages(TWO)
    assert found.advantages == pytest.approx(np.array([[A] * T, [-A] * T]))
    assert not found.silenced.any()
    assert PROCESS.advantages(TWO, by_deviation=False).advantages[:, 0].tolist() == [0.5, -0.5]


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_mark_against_the_advantage_takes_it_from_the_tokens_of_its_step(kept):
    found = Selective(kept).advantages(TWO)
    k = kept * A
    assert found.advantages[0] == pytest.approx(np.array([A, A, A, A, A, k, k, A, A, A, A, A]))
    assert -found.advantages[1] == pytest.approx(np.array([k, k, A, A, A, k, k, k, k, A, A, A]))
    silent = [[5, 6], [0, 1, 5, 6, 7, 8]] if kept == 0 else [[], []]
    assert [np.flatnonzero(row).tolist() for row in found.silenced] == silent


def test_global_step_rewards_are_pooled_and_summed_from_a_token_to_the_end():
    pool = np.array([0.5, -0.5, 0.25, -0.25, -0.25, 0.25])  # 1/2 each for two steps, 1/4 each for four
    z = pool / (pool.std(ddof=1) + EPSILON)
    first = [z[0] + z[1]] * 4 + [z[1]] * 3 + [0.0] * 5
    second = [z[2:].sum()] * 2 + [z[3:].sum()] * 3 + [z[5]] * 4 + [0.0] * 3  # two steps end on token 4
    found = GlobalStep().advantages(TWO)
    assert found.advantages == pytest.approx(0.2 * np.array([first, second]) + 0.8 * np.array([[A] * T, [-A] * T]))
    assert not found.silenced.any()


def test_equal_rewards_leave_only_what_the_steps_say():
    equal = replace(TWO, rewards=[0.6, 0.6])
    assert not CREDITS["grpo"].advantages(equal).advantages.any()
    assert not CREDITS["selective"].advantages(equal).advantages.any()
    assert not CREDITS["selective"].advantages(equal).silenced.any()
    assert CREDITS["global_step"].advantages(equal).advantages.any()


@pytest.mark.parametrize("n_steps", [1, 2, 21, 60])
def test_a_solution_outside_the_limits_earns_no_step_advantage_however_many_steps_it_has(n_steps):
    spans = [(k, k + 1) for k in range(n_steps)]
    scored = get_design("global_step").score(True, n_steps, Reading(True, (1,) * n_steps))
    padded = None if scored.step_marks is None else marked(spans, scored.step_marks)
    bad = [MarkedStep(k, k + 1, k == 4) for k in range(5)]
    mask = np.ones((3, 64), dtype=bool)
    found = GlobalStep(process_weight=0.0).advantages(batch([0.0, 0.0, scored.reward], [bad, bad, padded], mask))
    assert not found.advantages[2].any()
    assert found.advantages[0].any()


def test_holes_in_a_mask_are_covered():
    mask = np.ones((2, T), dtype=bool)
    mask[:, [3, 6, 11]] = False  # among them the last tokens of two steps and of the rollout
    holes = replace(TWO, response_mask=mask)
    for credit in CREDITS.values():
        assert credit.advantages(holes).advantages == pytest.approx(credit.advantages(TWO).advantages * mask)
        assert not (credit.advantages(holes).silenced & ~mask).any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"uids": ["a"]}, "1 uids, 2 rewards"),
        ({"response_mask": np.ones(2, dtype=bool)}, r"shape \(2,\)"),
        ({"rewards": [1.0, float("nan")]}, "rollout 1 has the reward nan"),
        ({"steps": [None, [MarkedStep(3, T + 1, RIGHT)]]}, "rollout 1 has MarkedStep"),
        ({"steps": [[MarkedStep(0, 0, RIGHT)], None]}, "rollout 0 has MarkedStep"),
        ({"steps": [[MarkedStep(4, 3, RIGHT)], None]}, "rollout 0 has MarkedStep"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(change, says):
    with pytest.raises(ValueError, match=says):
        replace(TWO, **change)


def test_marks_of_other_steps_are_refused():
    with pytest.raises(ValueError, match="2 steps, but 3 marks"):
        marked([(0, 1), (1, 2)], [1, 1, 0])


# ---- properties


@st.composite
def rollout(draw):
    edges = sorted(draw(st.sets(st.integers(0, T), min_size=2, max_size=8)))
    steps = [MarkedStep(a, b, draw(st.booleans())) for a, b in pairwise(edges)]
    return (
        draw(st.sampled_from("ab")),
        draw(st.none() | st.sampled_from([0.0, 0.2, 0.6, 1.0])),
        draw(st.lists(st.booleans(), min_size=T, max_size=T)),
        draw(st.none() | st.just(steps)),
    )


BATCHES = st.lists(rollout(), min_size=1, max_size=9)
ANY_CREDIT = pytest.mark.parametrize("credit", CREDITS.values(), ids=CREDITS)


def together(rows):
    uids, rewards, masks, steps = zip(*rows, strict=True)
    return Rollouts(uids, rewards, np.array(masks, dtype=bool), steps)


@ANY_CREDIT
@given(rows=BATCHES, random=st.randoms(), by_deviation=st.booleans())
def test_the_order_of_rollouts_changes_nothing(credit, rows, random, by_deviation):
    order = random.sample(range(len(rows)), len(rows))
    before = credit.advantages(together(rows), by_deviation)
    after = credit.advantages(together([rows[index] for index in order]), by_deviation)
    assert np.array_equal(before.advantages[order], after.advantages)
    assert np.array_equal(before.silenced[order], after.silenced)


@ANY_CREDIT
@given(rows=BATCHES)
def test_a_missing_reward_has_no_advantage_and_changes_no_other(credit, rows):
    there = [index for index, row in enumerate(rows) if row[1] is not None]
    assume(there)
    among = credit.advantages(together(rows))
    apart = credit.advantages(together([rows[index] for index in there]))
    assert np.array_equal(among.advantages[there], apart.advantages)
    assert np.array_equal(among.silenced[there], apart.silenced)
    gone = [index for index in range(len(rows)) if index not in there]
    assert not among.advantages[gone].any()
    assert not among.silenced[gone].any()


@ANY_CREDIT
@given(rows=BATCHES)
def test_another_prompts_rollouts_change_nothing(credit, rows):
    own = [index for index, row in enumerate(rows) if row[0] == "a"]
    assume(own)
    among = credit.advantages(together(rows)).advantages
    assert np.array_equal(among[own], credit.advantages(together([rows[index] for index in own])).advantages)


@ANY_CREDIT
@given(rows=BATCHES)
def test_nothing_is_credited_outside_the_mask(credit, rows):
    rollouts = together(rows)
    found = credit.advantages(rollouts)
    assert not found.advantages[~rollouts.response_mask].any()
    assert not found.silenced[~rollouts.response_mask].any()


@given(BATCHES)
def test_without_step_information_the_rollout_alone_counts(rows):
    rollouts = replace(together(rows), steps=[None] * len(rows))
    process = PROCESS.advantages(rollouts).advantages
    assert np.array_equal(Selective().advantages(rollouts).advantages, process)
    assert np.array_equal(GlobalStep().advantages(rollouts).advantages, PROCESS_WEIGHT * process)


@given(BATCHES)
def test_marks_take_from_an_advantage_and_never_turn_it(rows):
    rollouts = together(rows)
    process, whole = PROCESS.advantages(rollouts).advantages, Selective().advantages(rollouts)
    assert np.array_equal(whole.silenced, (process != 0) & (whole.advantages == 0))
    assert np.array_equal(whole.advantages[~whole.silenced], process[~whole.silenced])
    assert np.array_equal(Selective(0.5).advantages(rollouts).advantages, (process + whole.advantages) / 2)


@given(GROUPS)
def test_who_sits_out_has_no_process_advantage_and_nobody_else(rows):
    uids, rewards = columns(rows)
    rollouts = Rollouts(uids, rewards, np.ones((len(rows), 1), dtype=bool), [None] * len(rows))
    credited = PROCESS.advantages(rollouts).advantages[:, 0] != 0
    out = np.array(sits_out(uids, rewards, grouped=True), dtype=bool)
    assert not (credited & out).any()
    contrast = {uid for uid, is_out in zip(uids, out, strict=True) if not is_out}
    assert contrast == {uid for uid, is_credited in zip(uids, credited, strict=True) if is_credited}


# ---- who sits out


def test_a_missing_reward_sits_out_alone():
    assert sits_out(["a"] * 4, [1.0, None, 0.0, 0.0], grouped=True) == [False, True, False, False]


def test_one_reward_is_no_group():
    assert sits_out(["a", "a", "b"], [1.0, None, 1.0], grouped=True) == [True, True, True]


def test_equal_rewards_have_no_advantage():
    assert sits_out(["a"] * 16, [0.6] * 16, grouped=True) == [True] * 16


def test_estimators_without_groups_keep_whoever_has_a_reward():
    assert sits_out(["a", "a", "b"], [1.0, None, 1.0], grouped=False) == [False, True, False]


@given(GROUPS, st.booleans(), st.randoms())
def test_order_plays_no_part(rows, grouped, random):
    shuffled = random.sample(rows, len(rows))
    before = sorted(zip(rows, sits_out(*columns(rows), grouped=grouped), strict=True), key=repr)
    after = sorted(zip(shuffled, sits_out(*columns(shuffled), grouped=grouped), strict=True), key=repr)
    assert before == after


def columns(rows):
    return [uid for uid, _ in rows], [reward for _, reward in rows]
