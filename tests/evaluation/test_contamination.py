"""Overlap of items and training data: in every kind of file that training reads."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluation.made import item, write_rows
from verl_spark.evaluation.contamination import find_overlap
from verl_spark.runs.rows import SourceError
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import verifier_message

LONG = "A farmer sells nine baskets of red apples and four sacks of old potatoes on the market of his town every Friday"
ITEMS = [
    item(name="short", problem="Add 2 and 3."),
    item(name="long", problem=f"{LONG}; what does he earn?"),
    item(name="new", problem="Add 5 and 6."),
]


def sft_row(kind, problem):
    message = verifier_message(kind, problem, "Step 1: So.\nAnswer: 5")
    return {"messages": [{"role": "user", "content": message}, {"role": "assistant", "content": "Yes"}]}


@pytest.mark.parametrize("kind", Kind)
def test_the_problem_of_an_sft_row_is_found_inside_its_message(tmp_path, kind):
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([sft_row(kind, "add 2, and 3"), sft_row(kind, LONG)]), path)
    found = find_overlap(ITEMS, [str(path)])
    assert found.overlapping == {"math": ("short", "long")}
    assert found.same_text == {"math": ("short",)}
    assert (found.rows, found.unread) == (2, 0)
    assert [found.holds(one) for one in ITEMS] == [True, True, False]


def test_problems_and_rl_prompts_and_a_named_column(tmp_path):
    problems = write_rows(tmp_path / "p.jsonl", [{"id": 1, "problem": "Add 5 and 6"}, {"id": 1, "problem": " "}])
    prompts = write_rows(tmp_path / "rl.jsonl", [{"prompt": [{"role": "user", "content": LONG}]}])
    found = find_overlap(ITEMS, [str(problems), str(prompts)])
    assert found.overlapping == {"math": ("new", "long")}
    assert (found.rows, found.unread) == (2, 1)
    other = write_rows(tmp_path / "q.jsonl", [{"question": "Add 5 and 6"}])
    assert find_overlap(ITEMS, [str(other)], "question").overlapping == {"math": ("new",)}
    with pytest.raises(
        SourceError, match=r"q\.jsonl: no row with a problem in problem, prompt, messages; .*training_field"
    ):
        find_overlap(ITEMS, [str(other)])


def test_known_overlaps_with_the_training_problems_are_found(data):
    rows = json.loads((data / "processbench" / "omnimath.json").read_text())
    items = [item(name=row["id"], problem=row["problem"], subset="omnimath") for row in rows]
    found = find_overlap(items, [str(data / "skywork_or1_8k" / "train_8k.jsonl")])
    assert found.rows > 7900
    assert 90 <= len(found.same_text["omnimath"]) <= len(found.overlapping["omnimath"]) < 200
