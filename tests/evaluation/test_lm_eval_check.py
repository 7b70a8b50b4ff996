"""The cross-check: replies as the harness keeps them, marked again."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.lm_eval_replies import spellings, write_tasks
from tests.evaluation.made import write_rows
from verl_spark.evaluation.policy.benchmarks import Task


def row(number, reply, target, right):
    return {"doc_id": number, "resps": [[reply]], "target": target, "exact_match": right}


def test_replies_on_which_both_differ_are_named(tmp_path):
    rows = [
        row(0, r"\boxed{1} or rather \boxed{\frac{1}{2}}", "0.5", 0.0),
        row(1, r"\boxed{3}", "3", 1.0),
        row(2, "I do not know", "3", 0),
    ]
    path = write_rows(tmp_path / "samples_aime24.jsonl", rows)
    line = [sys.executable, "-m", "benchmarks.lm_eval_check", str(path), "--processes=1"]
    said = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True).stdout
    assert "samples_aime24.jsonl/0" in said
    assert "harness False, ours True" in " ".join(said.split())
    assert "2 of 3 replies are marked alike" in said


def test_the_documents_say_what_the_report_says():
    root = Path(__file__).parents[2]
    report = (root / "benchmarks" / "reports" / "lm_eval.md").read_text()
    ((alike, of),) = re.findall(r"^(\d+) of (\d+) replies are marked alike$", report, re.MULTILINE)
    said = re.findall(r"^samples_spark_math500.*: answer ('.*'), target .*: harness False, ours True$", report, re.M)
    named = [ast.literal_eval(answer) for answer in said]
    assert len(named) == int(of) - int(alike)
    page = " ".join((root / "docs" / "how-to" / "evaluate.md").read_text().split())
    assert f"marked {alike} of {of} alike (`benchmarks/reports/lm_eval.md`)" in page
    assert all(f"`{answer}`" in page for answer in named)


def test_replies_with_known_answers_for_a_harness_without_a_hub(tmp_path):
    tasks = [
        Task(str(n), f"Which {n}?", reference, "math500") for n, reference in enumerate(["1", "\\frac12", "(3,4)"])
    ]
    assert list(spellings(tasks).values()) == ["1", "\\dfrac12", "1"]  # as it is, another spelling, the next one's
    write_tasks(tasks, tmp_path, Path("/harness"))
    written = yaml.safe_load((tmp_path / "spark_math500.yaml").read_text())
    assert written["include"] == "/harness/tasks/hendrycks_math/hendrycks_math500.yaml"
    rows = [json.loads(line) for line in Path(written["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()]
    assert rows[1] == {"problem": "Which 1?", "solution": "\\boxed{\\frac12}"}
