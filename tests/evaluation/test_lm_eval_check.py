"""The cross-check: replies as the harness keeps them, marked again."""

import subprocess
import sys
from pathlib import Path

from tests.evaluation.made import write_rows


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
