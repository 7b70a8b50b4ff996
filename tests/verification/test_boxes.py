"""Boxes as ProcessBench reads them: to the next closing brace, whatever stands before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.verification.boxes import flat_boxes


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ("\\boxed{1} then \\boxed{ -1 }.", ["1", " -1 "]),
        ("\\boxed{\\text{1}}", ["\\text{1"]),
        ("\\boxed{\\boxed{4}}", ["\\boxed{4"]),
        ("\\\\boxed{4}", ["4"]),
        ("\\boxed {4} boxed{4}", []),
        ("\\boxed{1 \\boxed{2", []),
        ("\\boxed{\n3}\\boxed{", ["\n3"]),
    ],
)
def test_what_is_in_a_box(text, contents):
    assert flat_boxes(text) == contents


@given(st.lists(st.text(alphabet="ab\\{ \n")))
def test_boxes_come_back_in_order_with_other_text_between(contents):
    assert flat_boxes("".join(f"x}}\\boxed{{{content}}}" for content in contents)) == contents
