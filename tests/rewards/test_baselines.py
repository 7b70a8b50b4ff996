"""What the verdicts of baselines rest on, and the overlong penalty: pure rules."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rewards import rule
from verl_spark.rewards.chance import Place, coin
from verl_spark.rewards.majority import Vote, normalised, vote
from verl_spark.rewards.overlong import overlong_penalty
from verl_spark.rewards.rule import AnswerChecker

places = st.builds(Place, st.integers(0, 1000), st.text(), st.integers(0, 63))

# ---- chance


def test_coins_fall_as_they_always_did():
    pinned = [0, 1, 0, 0, 1, 0, 1, 1]
    assert [coin(0, Place(1, "7", rollout)) for rollout in range(8)] == pinned


@given(places, places)
def test_places_that_differ_are_tossed_apart(one, other):
    tosses = [[coin(seed, place) for seed in range(64)] for place in (one, other)]
    assert (tosses[0] == tosses[1]) == (one == other)


@pytest.mark.parametrize(
    "places",
    [
        [Place(step, "0", 0) for step in range(2000)],
        [Place(1, str(index), 0) for index in range(2000)],
        [Place(1, "0", rollout) for rollout in range(2000)],
    ],
    ids=["steps", "rows", "rollouts"],
)
def test_half_of_the_coins_fall_on_either_side(places):
    assert 900 < sum(coin(3, place) for place in places) < 1100


# ---- majority


@pytest.mark.parametrize(
    ("answers", "label", "share"),
    [
        (["5", "5", "6"], "5", 2 / 3),
        (["5", "6"], None, 1 / 2),
        (["5", "5", "6", "6", "7"], None, 2 / 5),
        (["5", None, None, None], "5", 1 / 4),
        ([None, None], None, None),
        (["$", " "], None, None),
        ([], None, None),
        (["\\frac{1}{2}", "\\dfrac{1} {2}", "$\\tfrac{1}{2}$.", "3", "3"], "$\\tfrac{1}{2}$.", 3 / 5),
        (["\\left( 1, 2 \\right)", "(1,\\,2)", "x"], "(1,\\,2)", 2 / 3),
        (["1/2", "0.5", "3", "3"], "3", 1 / 2),  # votes are counted by text
    ],
)
def test_the_most_frequent_answer_wins_and_a_tie_is_no_vote(answers, label, share):
    assert vote(answers) == Vote(label, None if share is None else pytest.approx(share))


ballots = st.lists(st.none() | st.sampled_from(["5", " 5", "$5$", "6", "\\frac12", "\\dfrac12", "x"]), max_size=9)


@given(ballots, st.randoms(use_true_random=False))
def test_the_order_of_votes_changes_nothing(answers, rng):
    assert vote(rng.sample(answers, len(answers))) == vote(answers)


@given(ballots)
def test_a_winner_has_more_voters_than_any_other_and_twice_the_voters_change_nothing(answers):
    result = vote(answers)
    counts = Counter(normalised(answer) for answer in answers if answer is not None)
    if result.label is not None:
        assert all(
            counts[normalised(result.label)] > n for text, n in counts.items() if text != normalised(result.label)
        )
    else:
        assert not counts or list(counts.values()).count(max(counts.values())) > 1
    assert vote(answers * 2) == result


def test_what_is_mathematics_is_never_taken_for_looks():
    for text in ("\\leftarrow", "\\rightarrow", "1.5", "\\frac{1}{2}", "\\{1\\}"):
        assert normalised(text) == text


# ---- the answer check


async def test_a_check_without_a_result_is_not_a_verdict(monkeypatch, caplog):
    monkeypatch.setattr(rule, "DEADLINE_S", 0.001)  # its child cannot even have started
    checker = AnswerChecker()
    try:
        assert await checker.compare("\\boxed{5}", "6") is None
        assert checker.compare_all([("5", "6")]) == [None]
        assert await checker.compare("\\boxed{5}", "5", answer="5") is True  # no child is asked
    finally:
        checker.close()
    assert "no result" in caplog.text


def test_many_answers_are_compared_at_once_in_their_order():
    checker = AnswerChecker(processes=2)
    try:
        pairs = [("0.5", "\\frac{1}{2}"), ("5", "6"), ("6", "6")]
        assert checker.compare_all(pairs) == [True, False, True]
    finally:
        checker.close()


def test_small_numbers_are_not_all_the_same():
    small = "1.325 \\times 10^{-27}"
    equal = [
        ("1.3250 \\times 10^{-27}", small),
        ("\\frac{1}{3}", "0.333333"),
        ("0.333333", "\\frac{1}{3}"),
        ("0", "0.0"),
    ]
    other = [("2 \\times 10^{-27}", small), ("5 \\times 10^{-30}", small), ("0", small), ("0.00006721", "0.0000672")]
    checker = AnswerChecker()
    try:
        assert checker.compare_all([*equal, *other]) == [True] * 4 + [False] * 4
    finally:
        checker.close()


# ---- the overlong penalty


@pytest.mark.parametrize(("n_tokens", "penalty"), [(0, 0), (384, 0), (385, -1 / 128), (448, -0.5), (512, -1), (256, 0)])
def test_the_penalty_grows_in_a_straight_line_over_the_buffer(n_tokens, penalty):
    assert overlong_penalty(n_tokens, 512, 128, 1.0) == pytest.approx(penalty)
    assert overlong_penalty(n_tokens, 512, 128, 0.5) == pytest.approx(penalty / 2)


@given(st.integers(0, 4096), st.integers(1, 4096), st.floats(0.01, 10))
def test_the_penalty_is_that_of_verls_own_manager(n_tokens, buffer, factor):
    # verl 0.9.1, experimental/reward_loop/reward_manager/dapo.py
    exceed = n_tokens - (4096 - buffer)
    assert overlong_penalty(n_tokens, 4096, buffer, factor) == pytest.approx(min(-exceed / buffer * factor, 0))
