"""What makes a row no example for a kind."""

from pathlib import Path

import pytest

from tests.prm import made
from verl_spark.prm.rows import Row, fault, fault_of_reply, problem_of, read_rows
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import verifier_message
from verl_spark.verification.writing import write

SOLUTION = "Step 1: so\nStep 2: so\nAnswer: 9"


def row(kind, reply, message=None, problem_id=None):
    message = verifier_message(kind, "What?", SOLUTION) if message is None else message
    turns = [{"role": "user", "content": message}, {"role": "assistant", "content": reply}]
    return Row(Path("f.parquet"), 3, turns, problem_id)


def reply(kind, marks=(1, 0), verdict=False, **more):
    return write(kind, marks, verdict, **more)


@pytest.mark.parametrize("kind", Kind)
def test_every_row_that_stage_one_writes_is_an_example(data, kind):
    found = [one for split in ("train", "validation") for one in read_rows([data / kind.value / f"{split}.parquet"])]
    assert len(found) == len(made.records())
    assert [fault(one, kind) for one in found] == [None] * len(found)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("other", Kind)
def test_the_reply_of_another_kind_is_named(kind, other):
    thinking = {"thinking": "hm"} if other is Kind.THINK_PRM else {}
    found = fault(row(kind, reply(other, **thinking)), kind)
    assert found is None if other is kind else f"the reply of another kind, {other.value}" in found


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (Kind.ORM, "Maybe", "no verdict"),
        (Kind.ORM, "**Yes.**", "more than the verdict"),
        (Kind.PRM, reply(Kind.PRM).rsplit("\n", 1)[0], "no verdict"),
        (Kind.PRM, reply(Kind.PRM).replace("Step 2", "Step 3"), "mark every step"),
        (Kind.PRM, reply(Kind.PRM, verdict=True), "contradicts"),
        (Kind.PRM, "Let me see.\n" + reply(Kind.PRM), "more than"),
        (Kind.PRM_COT, reply(Kind.PRM_COT).replace("**This step is correct.**", ""), "mark every step"),
        (Kind.PRM_COT, reply(Kind.PRM_COT) + "\nThank you.", "more than"),
        (Kind.PRM_COT, reply(Kind.PRM_COT, verdict=True), "contradicts"),
        (Kind.THINK_PRM, reply(Kind.THINK_PRM, thinking=" "), "thinking part that is closed and not empty"),
        (Kind.THINK_PRM, "<think>hm" + reply(Kind.PRM_COT), "thinking part that is closed"),
    ],
)
def test_a_reply_that_breaks_the_contract(kind, text, says):
    assert says in fault_of_reply(text, kind)
    assert says in fault(row(kind, text), kind)


def test_a_prompt_that_is_not_ours():
    plain = "Problem:\nWhat?\n\nIs it right?"
    assert "not our prompt verifier_prm" in fault(row(Kind.PRM_COT, reply(Kind.PRM_COT), plain), Kind.PRM_COT)
    of_orm = verifier_message(Kind.ORM, "What?", SOLUTION)
    assert "not our prompt verifier_prm" in fault(row(Kind.PRM, reply(Kind.PRM), of_orm), Kind.PRM)


def test_marks_for_another_number_of_steps():
    assert "marks 3 steps of a solution with 2" in fault(row(Kind.PRM, reply(Kind.PRM, (1, 1, 0))), Kind.PRM)


@pytest.mark.parametrize(
    "turns", [None, [], [{"role": "user", "content": "a"}], [{"role": "user", "content": "a"}] * 2, "text"]
)
def test_other_turns(turns):
    assert "its turns are" in fault(Row(Path("f"), 0, turns, None), Kind.ORM)
    assert problem_of(Row(Path("f"), 0, turns, None), Kind.ORM) is None


def test_an_empty_reply():
    assert "empty" in fault(row(Kind.ORM, " "), Kind.ORM)


def test_a_problem_is_known_by_its_id_or_its_text():
    assert problem_of(row(Kind.ORM, "Yes", problem_id="p1"), Kind.ORM) == "p1"
    assert problem_of(row(Kind.ORM, "Yes"), Kind.ORM) == "What?"


def test_files_that_are_no_sft_files(tmp_path, data):
    with pytest.raises(SettingsError, match="no such file; set"):
        list(read_rows([tmp_path / "absent.parquet"]))
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(SettingsError, match=r"text\.parquet is no readable parquet file"):
        list(read_rows([tmp_path / "text.parquet"]))
    with pytest.raises(SettingsError, match=r"no column 'chat' but messages, .*data\.messages_key"):
        list(read_rows([data / "orm" / "train.parquet"], "chat"))
