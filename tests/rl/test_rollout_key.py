"""verl's key of a rollout: taken apart and put together again."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rl.rollout_key import RolloutKey


@given(st.text(min_size=1), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_key_comes_apart_into_what_verl_put_together(prompt, session, output):
    text = f"{prompt}_{session}_{output}"
    assert RolloutKey.parse(text) == RolloutKey(prompt, session, output)
    assert str(RolloutKey.parse(text)) == text


@given(st.text() | st.from_regex(r"\w{0,2}_\d{1,2}_\d{1,2}", fullmatch=True))
def test_a_text_is_the_key_that_it_is_parsed_to_or_is_refused(text):
    with contextlib.suppress(ValueError):
        assert str(RolloutKey.parse(text)) == text


@pytest.mark.parametrize("text", ["", "a", "a_0", "_0_0", "a_0_", "a_0_x", "a_0_-1", "a_00_0", "a_0_\u0663", "a_0_0\n"])
def test_what_verl_does_not_write_is_refused_with_the_form_of_a_key(text):
    with pytest.raises(ValueError, match="<uid of the prompt>_<session>_<output>"):
        RolloutKey.parse(text)
