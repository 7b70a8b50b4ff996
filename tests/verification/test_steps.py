import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verification.texts import anything, plain_words, step_body, tagged
from verl_spark.verification.policy_format import PLAIN, TAGS, get_policy_format
from verl_spark.verification.steps import answer_of, numbered_steps, tagged_steps


@given(anything | st.lists(anything, max_size=4).map(tagged))
def test_step_spans_are_disjoint_ordered_and_hold_their_bodies(text):
    for spans in (tagged_steps(text), numbered_steps(text), PLAIN.step_spans(text)):
        end = 0
        for span in spans or []:
            assert end <= span.start < span.end <= len(text)
            assert text[span.start : span.end].strip()
            end = span.end


@given(anything | st.lists(anything, max_size=4).map(tagged))
def test_a_response_is_taken_apart_into_what_its_format_finds_one_by_one(text):
    for policy_format in (TAGS, PLAIN):
        parsed = policy_format.parse(text)
        assert (parsed.text, parsed.policy_format) == (text, policy_format)
        assert parsed.gate == policy_format.check(text)
        assert parsed.gate.stated == policy_format.answer(text)
        assert parsed.spans == policy_format.step_spans(text)


@given(st.lists(step_body, min_size=1, max_size=4))
def test_tagged_steps_are_found_as_written(bodies):
    text = tagged(bodies)
    spans = tagged_steps(text)
    assert [text[span.start : span.end] for span in spans] == [f"<step>{body}</step>" for body in bodies]
    assert TAGS.step_bodies(text) == bodies


@pytest.mark.parametrize(
    "text",
    [
        "<step>a</step>",
        "<think>a</think>",
        "<think><step>a</think></step>",
        "<think><step>a<step>b</step></step></think>",
        "<think><step>a</step><step>b</think>",
        "<think><step>a</step></think><step>b</step>",
        "<think><step>a</step></think><think><step>b</step></think>",
        "<think><steps>a</steps></think>",
        "<think><Step>a</Step></think>",
        "<think><step n=1>a</step></think>",
    ],
)
def test_broken_tags_are_no_step_structure(text):
    assert tagged_steps(text) is None


@given(st.lists(plain_words, min_size=1, max_size=5))
def test_numbered_steps_are_found_as_written(bodies):
    steps = "\n".join(f"Step {number}: {body}\nand so on" for number, body in enumerate(bodies, 1))
    spans = numbered_steps(f"Let us see.\n{steps}\nAnswer: 9\nDone.")
    assert [span.body.split() for span in spans] == [f"{body} and so on".split() for body in bodies]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no steps",
        "Step 2: a",
        "Step 1: a\nStep 3: b",
        "Step 1: a\nStep 1: b",
        "Step 1.1: a",
        "Step 2a: b",
        "Step one",
    ],
)
def test_broken_numbering_is_no_step_structure(text):
    assert numbered_steps(text) is None


def test_the_last_answer_line_ends_the_last_step():
    text = "Step 1: I recall\nAnswer: 8\nbut no.\n**Step 2.** Nine.\nAnswer: 7?\nAnswer: 9"
    spans = numbered_steps(text)
    assert [span.body for span in spans] == ["I recall\nAnswer: 8\nbut no.", "Nine.\nAnswer: 7?"]
    assert text[spans[1].start : spans[1].end] == "**Step 2.** Nine.\nAnswer: 7?"


def test_plain_steps_are_numbered_lines_or_else_paragraphs():
    assert PLAIN.step_bodies("Step 1: a\n\nb\nStep 2: c\nSo \\boxed{9}") == ["a\n\nb", "c"]
    assert PLAIN.step_bodies("a\nb\n \n\nc\n\\[\n\\boxed{9}\n\\]") == ["a\nb", "c"]
    assert PLAIN.step_bodies("Step 1: a\nStep 2: so \\boxed{9}") == ["a", "so \\boxed{9}"]
    assert PLAIN.step_bodies("\\boxed{9}") is None


def test_a_bold_heading_leaves_no_half_open_bold():
    assert PLAIN.step_bodies("**Step 1: Add**\n4 + **5**\n\\boxed{9}") == ["Add\n4 + **5**"]
    assert PLAIN.step_bodies("**Step 1:** 4 + **5**\n\\boxed{9}") == ["4 + **5**"]


def test_an_unknown_format_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"xml.*tags, plain"):
        get_policy_format("xml")


@pytest.mark.parametrize("name", ["tags", "plain"])
def test_the_worked_example_of_an_instruction_follows_its_format(name):
    policy_format = get_policy_format(name)
    instruction = policy_format.instruction()
    assert len(instruction.split()) < 150
    example = instruction.partition('?":\n')[2]
    assert policy_format.check(example).valid
    assert len(policy_format.step_spans(example)) == 2


@pytest.mark.parametrize(
    "unit", ["<step>", "<step></step>", "Step 1 ", "Step 1: a\n", "#", "* ", "\n", "9", "Answer:\n"]
)
def test_splitting_takes_long_hostile_text(unit):
    text = unit * (200_000 // len(unit))
    assert tagged_steps(f"<think>{text}") is None
    assert numbered_steps(f"Step 2: {text}") is None
    PLAIN.step_spans(text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Step 1: The Answer: is near.\nAnswer: 8\nno\nAnswer: 9", "9"),
        ("Step 1: a\nAnswer: 8\nStep 2: b", None),
        ("Step 1: a\nAnswer:", None),
        ("Step 1: a", None),
        ("**Answer:** 9.", "9"),
        ("**Answer: 9**", "9"),
        ("Answer: $\\frac{1}{2}$", "\\frac{1}{2}"),
        ("Answer: \\(x\\)", "x"),
        ("Answer: $x$ and $y$", "$x$ and $y$"),
        ("Answer: so $\\boxed{\\{1, 2\\}}$", "\\{1, 2\\}"),
        ("Answer: \\boxed{1} or \\boxed{2}", "\\boxed{1} or \\boxed{2}"),
        ("Answer: .5", ".5"),
        ("Answer: $", "$"),
        ("Answer: 9\nI hope this helps.", "9"),
    ],
)
def test_the_answer_is_that_of_the_last_answer_line(text, answer):
    assert answer_of(text) == answer
