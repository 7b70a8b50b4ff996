import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verification.texts import LINE_BREAKS, hostile
from verl_spark.verification import markers
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import NOTHING, Reading, read
from verl_spark.verification.rendering import neutralise
from verl_spark.verification.writing import write

STEP_KINDS = (Kind.PRM, Kind.PRM_COT, Kind.THINK_PRM)

marks_of_steps = st.lists(st.integers(0, 1), min_size=1, max_size=6)
harmless = (hostile | st.text()).map(lambda text: neutralise(text)[0])


@pytest.mark.golden("verification_parse")
def test_golden_reading(case):
    given, expected = case["input"], case["expected"]
    reading = read(given["text"], Kind(given["kind"]), given["finish_reason"])
    assert {True: "yes", False: "no", None: None}[reading.outcome] == expected["outcome"]
    assert (None if reading.steps is None else list(reading.steps)) == expected["steps"]
    assert reading.consistent is expected["consistent"]


@given(st.sampled_from(Kind), marks_of_steps, st.booleans(), st.data())
def test_write_then_read_is_the_identity(kind, marks, verdict, data):
    each = st.lists(harmless, min_size=len(marks), max_size=len(marks))
    thinking = data.draw(st.none() | hostile) if kind is Kind.THINK_PRM else None
    text = write(kind, marks, verdict, data.draw(st.none() | each), data.draw(st.none() | each), thinking)
    reading = read(text, kind)
    assert reading == Reading(verdict, None if kind is Kind.ORM else tuple(marks))
    if kind is not Kind.ORM:
        assert reading.consistent is (verdict is all(marks))


@given(st.sampled_from(Kind), marks_of_steps, st.booleans(), hostile)
def test_a_cut_reply_is_not_read(kind, marks, verdict, tail):
    assert read(write(kind, marks, verdict) + tail, kind, finish_reason="length") is NOTHING


@given(st.sampled_from(STEP_KINDS), marks_of_steps, st.booleans(), hostile)
def test_a_draft_before_the_end_of_thinking_changes_nothing(kind, marks, verdict, draft):
    reply = write(kind, marks, verdict)
    assert read(f"<think>{draft}</think>\n{reply}", kind) == read(f"{draft}</think>\n{reply}", kind)
    assert read(f"<think>{draft}</think>\n{reply}", kind) == Reading(verdict, tuple(marks))


@given(st.sampled_from(Kind), marks_of_steps, st.booleans())
def test_thinking_that_was_never_closed_is_not_searched(kind, marks, verdict):
    draft = write(kind, marks, verdict).replace("</think>", "")
    assert read(f"<think>\n{draft}", kind) is NOTHING


@given(st.sampled_from((Kind.PRM, Kind.PRM_COT)), marks_of_steps, st.booleans(), st.booleans())
def test_only_the_last_verdict_counts(kind, marks, first, last):
    reply = write(kind, marks, last)
    quoted = markers.verdict_line(first)
    assert read(f"{quoted}\n{reply}", kind) == Reading(last, tuple(marks))


@given(st.sampled_from(Kind), marks_of_steps, st.booleans(), st.sampled_from(LINE_BREAKS))
def test_any_line_break_and_letter_case_reads_the_same(kind, marks, verdict, line_break):
    reply = write(kind, marks, verdict).replace("\n", line_break)
    assert read(reply, kind) == read(write(kind, marks, verdict), kind)
    if kind is not Kind.THINK_PRM:
        assert read(reply.upper(), kind) == read(reply.lower(), kind) == read(reply, kind)


@given(st.sampled_from(Kind), hostile | st.text())
def test_reading_never_raises_and_no_verdict_is_no_negative(kind, text):
    reading = read(text, kind)
    assert reading.outcome in (True, False, None)
    if not text.strip():
        assert reading == NOTHING


@pytest.mark.parametrize("word", ["Not sure", "None", "Yesterday", "Yes and No", "Yes/No", "-1.0", "eyes", "", "Ye s"])
def test_other_words_are_no_verdicts(word):
    assert read(word, Kind.ORM).outcome is None
    assert read(f"Step 1: Correct\n\nIs the answer correct (Yes/No)? {word}", Kind.PRM).outcome is None


def test_a_long_s_is_never_read_as_no():
    # Unicode folds it to `s`, so a pattern that ignores case takes it for one.
    assert read("Is the answer correct? Yeſ", Kind.PRM).outcome is not False


def test_a_step_without_a_mark_takes_none_from_its_neighbour():
    text = "## Step 1: a\n\n## Step 2: b\n**This step is correct.**\n**This step is correct.**\n"
    assert read(text + markers.verdict_line(True), Kind.PRM_COT) == Reading(True, None)


def test_the_last_mark_of_a_section_counts():
    line = "It said **This step is correct.**, yet **This step is incorrect**"
    assert read(f"## Step 1: a\n{line}\n{markers.verdict_line(False)}", Kind.PRM_COT).steps == (0,)


@pytest.mark.parametrize(
    ("kind", "marks", "problem"),
    [
        (Kind.PRM, [], "at least one"),
        (Kind.PRM_COT, [1, 2], "1 or 0"),
    ],
)
def test_marks_that_would_not_be_read_are_refused(kind, marks, problem):
    with pytest.raises(ValueError, match=problem):
        write(kind, marks, True)


def test_an_analysis_with_markers_is_refused():
    with pytest.raises(ValueError, match="neutralise"):
        write(Kind.PRM_COT, [1], True, analyses=["**Step 2: more**"])


def test_titles_and_analyses_go_with_the_steps():
    with pytest.raises(ValueError, match="2 marks but 1 titles"):
        write(Kind.PRM_COT, [1, 1], True, titles=["a"])


def test_only_a_think_prm_writes_its_thinking():
    with pytest.raises(ValueError, match="think_prm only, not to prm_cot"):
        write(Kind.PRM_COT, [1], True, thinking="hm")


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "*",
        "\u2003*",
        "# ",
        "Step 1",
        "Final ",
        "Is the answer correct ",
        "** ",
        "</think>",
        "9",
        "- ",
        ": ",
        "Yes ",
    ],
)
def test_reading_takes_long_hostile_lines(kind, unit):
    run = unit * (200_000 // len(unit))
    openings = (
        "",
        "Final",
        "Verification",
        "Is the answer correct?",
        "Step 1",
        "**This step is correct",
        "-",
        "Yes",
        "x",
    )
    for opening in openings:
        assert read(f"{opening}{run}x", kind).outcome is None
