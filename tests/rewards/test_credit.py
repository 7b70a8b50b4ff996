"""Who sits out of a step's advantages."""

from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rewards.credit import sits_out

GROUPS = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.sampled_from([0.0, 0.6, 1.0])), max_size=24)


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
