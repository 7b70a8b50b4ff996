import pandas as pd
import pytest

from verl_spark.data.builders import NotTaggable, Solved, tagged_response, write_format_sft, write_rl_prompts
from verl_spark.rl.prompts import PromptPreparer, reference_of
from verl_spark.runs.problems import Problem
from verl_spark.settings import SparkSettings
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.rendering import render, render_numbered

PROBLEMS = [Problem(f"p{n}", f"What is {n} + {n}?", f"file:{n}") for n in range(3)]
SOLUTION = "Let n = 4.\nStep 1: Add\nn + 5 = 9\n\nStep 2: Done.\nAnswer: $9$\nBye."


def rows_of(path):
    return pd.read_parquet(path).to_dict("records")


def test_rl_prompts_are_verls_columns_without_any_reference(tmp_path):
    counts = write_rl_prompts(PROBLEMS, tmp_path / "rl.parquet", "maths")
    rows = rows_of(tmp_path / "rl.parquet")
    assert counts.rows["train"] == len(rows) == 3
    assert list(rows[0]) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    assert [dict(turn) for turn in rows[1]["prompt"]] == [{"role": "user", "content": "What is 1 + 1?"}]
    assert all(row["reward_model"] == {"style": "rule", "ground_truth": ""} for row in rows)
    assert rows[2]["extra_info"] == {"index": 2, "id": "p2", "source": "file:2"}


def test_references_are_written_when_asked_for_and_problems_without_are_counted(tmp_path):
    counts = write_rl_prompts(PROBLEMS, tmp_path / "rl.parquet", "maths", {"p0": "0", "p2": "4"})
    assert [reference_of(row) for row in rows_of(tmp_path / "rl.parquet")] == ["0", "4"]
    assert dict(counts.dropped) == {"no_reference": 1}


def test_a_policy_learns_the_prompt_that_rl_gives_it(tmp_path):
    write_rl_prompts(PROBLEMS[:1], tmp_path / "rl.parquet", "maths")
    row = rows_of(tmp_path / "rl.parquet")[0]
    prepare = PromptPreparer(lambda rows: rows, SparkSettings(), validation=False)
    in_rl = prepare([{"raw_prompt": list(row["prompt"]), "index": 0}])[0]["raw_prompt"]
    write_format_sft([Solved("p0", PROBLEMS[0].text, SOLUTION)], tmp_path, 0, 0.0)
    user, assistant = rows_of(tmp_path / "train.parquet")[0]["messages"]
    assert [dict(user)] == in_rl
    assert assistant["content"] == tagged_response(SOLUTION)


def test_a_solution_in_tags_says_the_same():
    response = tagged_response(SOLUTION)
    assert response == (
        "<think>\n<step>Let n = 4.\nAdd\nn + 5 = 9</step>\n<step>Done.</step>\n</think>\n<answer>\\boxed{9}</answer>"
    )
    canonical = "Step 1: Add\nn + 5 = 9\nStep 2: Done.\nAnswer: 9"
    assert render(tagged_response(canonical), TAGS).text == render_numbered(canonical).text == canonical


@pytest.mark.parametrize(
    ("solution", "reason"),
    [
        ("4 + 5 = 9\nAnswer: 9", "no_steps"),
        ("Step 1: 4 + 5 = 9", "no_answer"),
        ("Step 1: so \\boxed{9}\nAnswer: 9", "box_count"),
        ("Step 1: a\nAnswer: }", "box_empty"),
        ("Step 1: a\nAnswer: {", "box_syntax"),
        ("Step 1: a\nAnswer: 9}, or {9", "other_steps"),
        ("Step 1: <answer>9</answer>\nAnswer: 9", "answer_block"),
        ("Step 1: a</step><step>b\nAnswer: 9", "other_steps"),
        ("Step 1: a</think>\nAnswer: 9", "other_steps"),
    ],
)
def test_what_cannot_be_said_in_tags_is_refused_with_the_reason(solution, reason):
    with pytest.raises(NotTaggable, match=f"^{reason}$"):
        tagged_response(solution)


def test_refused_solutions_are_counted_and_problems_stay_together(tmp_path):
    solved = [Solved(f"p{n}", "q", SOLUTION) for n in range(40) for _ in range(2)]
    bad = [Solved("p1", "q", "no steps"), Solved("p1", "\ud800", SOLUTION)]
    counts = write_format_sft([*bad, *solved], tmp_path, seed=3, validation_share=0.25)
    assert dict(counts.dropped) == {"no_steps": 1, "not_utf8": 1}
    ids = {split: {row["problem_id"] for row in rows_of(tmp_path / f"{split}.parquet")} for split in counts.rows}
    assert sum(counts.rows.values()) == 80
    assert ids["train"]
    assert ids["validation"]
    assert not ids["train"] & ids["validation"]
