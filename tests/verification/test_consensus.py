from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.verification.consensus import Drop, pick, vote
from verl_spark.verification.reading import NOTHING, Reading

step_vectors = st.lists(st.integers(0, 1), min_size=1, max_size=3).map(tuple)
# Mostly consistent ones, so that there is a vote at all.
ballots = st.lists(
    step_vectors.map(lambda steps: Reading(all(steps), steps))
    | st.builds(Reading, st.none() | st.booleans(), st.none() | step_vectors),
    min_size=1,
    max_size=17,
)
step_counts = st.none() | st.integers(1, 3)


def consistent(*marks):
    return Reading(all(marks), marks)


@pytest.mark.golden("consensus")
def test_golden_consensus(case):
    given, expected = case["input"], case["expected"]
    outcomes = {"yes": True, "no": False, None: None}
    found = vote(
        [
            Reading(outcomes[v["outcome"]], None if v["steps"] is None else tuple(v["steps"]))
            for v in given["verifications"]
        ],
        given["n_steps"],
    )
    assert list(found.usable) == expected["usable"]
    assert found.yes_votes + found.no_votes == expected["outcome"]["valid"] == expected["step"]["valid"]
    assert found.levels_agree is expected["levels_agree"]
    assert found.outcome.verdict is outcomes[expected["outcome"]["y"]]
    assert list(found.outcome.picks) == expected["outcome"]["picks"]
    assert found.outcome.drop == expected["outcome"]["drop"]
    assert found.n_steps == expected["step"]["n_steps"]
    assert found.step.marks == (None if expected["step"]["v"] is None else tuple(expected["step"]["v"]))
    votes = found.step.votes  # the file has [correct, incorrect]
    assert (None if votes is None else [[yes, no] for no, yes in votes]) == expected["step"]["votes"]
    assert list(found.step.picks) == expected["step"]["picks"]
    assert found.step.drop == expected["step"]["drop"]


@given(ballots, step_counts, st.randoms(use_true_random=False))
def test_a_vote_ignores_the_order_of_the_ballots(ballots, n_steps, rng):
    order = list(range(len(ballots)))
    rng.shuffle(order)
    plain, mixed = vote(ballots, n_steps), vote([ballots[index] for index in order], n_steps)
    for name in ("n_steps", "yes_votes", "no_votes", "levels_agree"):
        assert getattr(mixed, name) == getattr(plain, name)
    assert replace(mixed.outcome, picks=()) == replace(plain.outcome, picks=())
    assert replace(mixed.step, picks=()) == replace(plain.step, picks=())
    assert sorted(order[index] for index in mixed.step.picks) == list(plain.step.picks)
    assert sorted(order[index] for index in mixed.outcome.picks) == list(plain.outcome.picks)


@given(ballots, step_counts)
def test_doubling_all_voters_changes_nothing(ballots, n_steps):
    once, twice = vote(ballots, n_steps), vote(ballots * 2, n_steps)
    assert (twice.outcome.verdict, twice.outcome.drop) == (once.outcome.verdict, once.outcome.drop)
    assert (twice.step.marks, twice.step.drop, twice.n_steps) == (once.step.marks, once.step.drop, once.n_steps)
    assert twice.levels_agree is once.levels_agree


@given(ballots, step_counts)
def test_picks_are_usable_and_state_what_was_voted(ballots, n_steps):
    found = vote(ballots, n_steps)
    for index in found.usable:
        assert ballots[index].consistent
        assert len(ballots[index].steps) == found.n_steps
    for level in (found.outcome, found.step):
        assert set(level.picks) <= set(found.usable)
        assert bool(level.picks) is (level.drop is None)
    assert all(ballots[index].outcome is found.outcome.verdict for index in found.outcome.picks)
    assert all(ballots[index].steps == found.step.marks for index in found.step.picks)


@given(ballots, step_counts)
def test_a_failed_call_counts_in_n_but_never_votes(ballots, n_steps):
    found = vote(ballots, n_steps)
    lost = vote([*ballots, *[NOTHING] * len(ballots)], n_steps)
    assert lost.usable == found.usable
    assert lost.outcome.drop in (Drop.QUORUM, Drop.STEP_COUNT_TIE)
    assert (lost.outcome.verdict, lost.step.marks, lost.step.votes, lost.levels_agree) == (None,) * 4


@given(st.integers(0, 15))
def test_one_dissenter_of_sixteen_never_decides(place):
    found = vote([consistent(1, 0) if index == place else consistent(1, 1) for index in range(16)], 2)
    assert found.outcome.verdict is True
    assert found.step.marks == (1, 1)
    assert place not in found.step.picks


def test_a_verdict_that_contradicts_its_marks_is_not_usable():
    assert vote([Reading(True, (1, 0))], 2).outcome.drop is Drop.QUORUM
    assert vote([Reading(False, (1, 1)), consistent(1, 1)], 2).outcome.drop is Drop.QUORUM  # half is no quorum


def test_contradicting_ballots_have_no_say_in_the_step_count():
    found = vote([consistent(1, 1)] * 3 + [Reading(False, (1,)), Reading(None, (1,))], None)
    assert (found.n_steps, found.usable) == (2, (0, 1, 2))


def test_levels_may_disagree():
    found = vote([consistent(1, 1, 1)] * 2 + [consistent(1, 1, 0), consistent(1, 0, 1), consistent(0, 1, 1)], 3)
    assert (found.outcome.verdict, found.step.marks, found.step.picks) == (False, (1, 1, 1), (0, 1))
    assert found.levels_agree is False


def test_nobody_to_ask_is_no_quorum():
    assert vote([], None).step.drop is vote([], 3).outcome.drop is Drop.QUORUM


@given(st.sets(st.integers(0, 15), min_size=1).map(sorted), st.text(), st.text())
def test_a_pick_is_a_member_and_over_seeds_every_member_is_picked(picks, problem_id, solution_id):
    found = {pick(picks, seed, problem_id, solution_id) for seed in range(40 * len(picks))}
    assert found == set(picks)


def test_picks_do_not_depend_on_the_order_of_work():
    work = [(f"p{p}", f"s{s}") for p in range(10) for s in range(8)]
    forwards = {item: pick(range(16), 3, *item) for item in work}
    backwards = {item: pick(range(16), 3, *item) for item in reversed(work)}
    assert forwards == backwards
    assert len(set(forwards.values())) == 16
    assert pick(range(16), 0, "ab", "c") == 13  # pinned: the same in every process and version


def test_picks_are_uniform():
    counts = [0] * 4
    for seed in range(4000):
        counts[pick(range(4), seed, "p", "s")] += 1
    assert all(900 < count < 1100 for count in counts)
