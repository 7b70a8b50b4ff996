from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from tests.data.made import dropped, record
from verl_spark.data.parquet import SPLITS, split_of
from verl_spark.data.sft import NO_THINKING, NOT_READ_BACK, NOT_UTF8, target, write_sft
from verl_spark.verification import prompts
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading, read
from verl_spark.verification.rendering import render_numbered

MARKS = ((1, 1), (1, 0, 0), (0,))


def records(problems=30):
    return [record(marks, f"p{p}", f"p{p}-s{s}") for p in range(problems) for s, marks in enumerate(MARKS)]


def rows(folder, kind):
    return {split: pq.read_table(folder / kind.value / f"{split}.parquet").to_pylist() for split in SPLITS}


def test_every_kind_learns_the_labels_of_the_same_solutions(tmp_path):
    given = records()
    counts = write_sft(given, tmp_path, seed=1, validation_share=0.3)
    by_id = {item.solution_id: item for item in given}
    shown = {}
    for kind in Kind:
        found = rows(tmp_path, kind)
        assert {split: len(found[split]) for split in SPLITS} == dict(counts[kind].rows)
        for split, row in [(split, row) for split, part in found.items() for row in part]:
            item = by_id[row["solution_id"]]
            user, assistant = row["messages"]
            assert (user["role"], assistant["role"]) == ("user", "assistant")
            solution = render_numbered(item.solution).text
            assert solution.endswith("\nAnswer: 9")
            assert user["content"] == prompts.verifier_message(kind, item.problem, solution)
            expected = Reading(item.verdict, None if kind is Kind.ORM else item.marks)
            assert read(assistant["content"], kind) == expected
            assert (row["problem_id"], row["method"]) == (item.problem_id, "step")
            shown.setdefault(kind, set()).add((split, row["solution_id"]))
    assert set(map(frozenset, shown.values())) == {frozenset(shown[Kind.ORM])}
    assert len(shown[Kind.ORM]) == len(given)


def test_replies_are_those_of_the_contract():
    item = record((1, 0))
    assert target(item, Kind.ORM) == "No"
    assert target(item, Kind.PRM).splitlines()[:2] == ["Step 1: Correct", "Step 2: Incorrect"]
    assert target(item, Kind.PRM_COT).startswith("## Step 1")
    assert target(item, Kind.THINK_PRM) == f"<think>\nhm\n</think>\n\n{target(item, Kind.PRM_COT)}"


def test_a_thinking_part_that_was_opened_in_the_prompt_is_opened_in_the_target():
    item = record()
    headless = replace(item, text=item.text.removeprefix("<think>\n"))
    assert target(headless, Kind.THINK_PRM) == target(item, Kind.THINK_PRM)


@pytest.mark.parametrize("text", ["", "<think>\n\n</think>\n"])
def test_without_thinking_only_the_think_prm_does_without_the_solution(tmp_path, text):
    item = record(thinking=None)
    counts = write_sft([replace(item, text=text + item.text), record(problem_id="p1")], tmp_path, 0, 0.0)
    assert dict(counts[Kind.THINK_PRM].dropped) == {NO_THINKING: 1}
    assert {kind: counts[kind].rows["train"] for kind in Kind} == {
        Kind.ORM: 2,
        Kind.PRM: 2,
        Kind.PRM_COT: 2,
        Kind.THINK_PRM: 1,
    }


def test_a_target_that_states_something_else_is_left_out_for_every_kind(tmp_path):
    item = record()
    other = record((1, 1))
    bad = [
        replace(item, text=other.text),
        replace(item, text="## Step 1"),
        replace(item, verdict=True),
        replace(item, marks=()),
        replace(item, marks=None),
    ]
    counts = write_sft([*bad, item], tmp_path, 0, 0.0)
    for kind in Kind:
        assert dict(counts[kind].dropped) == {NOT_READ_BACK: len(bad)}
        assert len(rows(tmp_path, kind)["train"]) == 1


def test_a_text_that_no_file_holds_is_left_out(tmp_path):
    counts = write_sft([replace(record(), solution="Step 1: \ud800\nAnswer: 9"), record()], tmp_path, 0, 0.0)
    assert dict(counts[Kind.PRM].dropped) == {NOT_UTF8: 1}


def test_what_selection_dropped_is_passed_over(tmp_path):
    counts = write_sft([dropped(record(), "tie")], tmp_path, 0, 0.5, kinds=[Kind.PRM])
    assert not counts[Kind.PRM].rows
    assert not counts[Kind.PRM].dropped
    assert rows(tmp_path, Kind.PRM) == {"train": [], "validation": []}
    assert not (tmp_path / "orm").exists()


def test_a_problem_is_never_in_both_splits(tmp_path):
    write_sft(records(200), tmp_path, seed=7, validation_share=0.2, kinds=[Kind.ORM])
    ids = {split: {row["problem_id"] for row in found} for split, found in rows(tmp_path, Kind.ORM).items()}
    assert not ids["train"] & ids["validation"]
    assert 20 <= len(ids["validation"]) <= 60
    assert {split_of("p1", seed, 0.5) for seed in range(20)} == set(SPLITS)
    assert split_of("p1", 0, 0.0) == "train"
    assert split_of("p1", 0, 1.0) == "validation"


def test_an_interrupted_export_leaves_the_old_file(tmp_path):
    write_sft([record()], tmp_path, 0, 0.0, kinds=[Kind.ORM])
    before = (tmp_path / "orm" / "train.parquet").read_bytes()

    def broken():
        yield record()
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_sft(broken(), tmp_path, 0, 0.0, kinds=[Kind.ORM])
    assert (tmp_path / "orm" / "train.parquet").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "orm").iterdir()) == ["train.parquet", "validation.parquet"]


def test_rows_are_written_in_batches(tmp_path):
    write_sft(records(800), tmp_path, 0, 0.0, kinds=[Kind.ORM])
    file = pq.ParquetFile(tmp_path / "orm" / "train.parquet")
    assert file.metadata.num_rows == 2400
    assert file.num_row_groups == 3
