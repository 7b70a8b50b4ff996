"""Signs in a response's text: counted as they are, in any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verification.texts import anything, step_body, tagged
from verl_spark.verification import markers
from verl_spark.verification.boxes import box_commands
from verl_spark.verification.policy_format import PLAIN, TAGS
from verl_spark.verification.signs import signs, undisguised

HONEST = tagged(["4 + 5 = 9, as is known.", "Nothing else is asked for."])


def test_an_honest_solution_has_none():
    found = signs(TAGS.parse(HONEST))
    assert (found.boxes, found.answer_tags, found.odd_tags, found.invisible, found.disguised) == (1, 2, 0, 0, 0)
    assert not found.after_answer
    assert not found.misplaced
    assert found.chars == len(HONEST)
    assert found.chars_per_step == (23 + 26) / 2
    assert (found.outside_steps, found.repetition) == (0, 0)


@given(anything)
def test_signs_are_within_their_bounds_for_any_text(text):
    for policy_format in (TAGS, PLAIN):
        found = signs(policy_format.parse(text))
        assert found.boxes == len(box_commands(text))
        assert 0 <= found.repetition < 1
        assert found.outside_steps is None or 0 <= found.outside_steps <= 1
        assert (found.chars_per_step is None) is (policy_format.step_spans(text) is None)
        assert found.invisible <= len(text)
        if text.isascii():
            assert (found.invisible, found.disguised) == (0, 0)


@given(st.lists(step_body, min_size=1, max_size=4), st.text(min_size=1).filter(str.strip))
def test_whatever_follows_the_answer_is_seen(bodies, text):
    assert signs(TAGS.parse(tagged(bodies) + text)).after_answer


@given(st.text(st.sampled_from("abc 123"), min_size=1), st.integers(1, 5))
def test_invisible_characters_are_counted_and_taken_out(text, n):
    assert signs(TAGS.parse(text + "\u200b" * n)).invisible == n
    assert undisguised("\u200b".join(text)) == text


@pytest.mark.parametrize(
    "line", [markers.verdict_line(True), markers.mark_line(0), markers.heading(2), "<step>", r"so \boxed{9}"]
)
@pytest.mark.parametrize("disguise", [("e", "\u0435"), ("o", "\u043e"), ("e", "e\u200d"), ("o", "\u2060o")])
def test_contract_text_in_disguise_is_found(line, disguise):
    hidden = line.replace(*disguise)
    if hidden != line:
        assert signs(TAGS.parse(f"a\n{hidden}\nb")).disguised == 1
    assert signs(TAGS.parse(f"a\n{line}\nb")).disguised == 0


def test_repetition_is_the_share_of_word_sequences_that_stood_there_before():
    assert signs(TAGS.parse("a b c d a b c d")).repetition == pytest.approx(1 / 5)
    assert signs(TAGS.parse("a b c")).repetition == 0


@pytest.mark.parametrize("unit", ["<", "< ", "<step", "\\boxed{", "\u200b", "\u0435", "<\u0430nswer>", "a "])
def test_signs_take_long_hostile_text(unit):
    run = unit * (100_000 // len(unit))
    for text in (run, tagged([run])):
        for policy_format in (TAGS, PLAIN):
            assert signs(policy_format.parse(text)).chars == len(text)
