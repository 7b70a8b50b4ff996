"""Items, replies and configs for the tests of what is measured."""

import json

from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.items import Item
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.runs.journal import Sample


def item(label=-1, n_steps=3, name="i0", subset="math", problem=None, **more):
    """An item whose problem is its own unless one is given."""
    steps = tuple(f"So {number}." for number in range(n_steps))
    return Item(name, problem or f"How many in {subset} {name}?", steps, label, subset, **more)


def replies(*texts, finish_reason="stop"):
    return [Sample(index, text, finish_reason, 0, 0, 0.0) for index, text in enumerate(texts)]


def rows(subset, labels, n_steps=3):
    """Rows of a subset's file."""
    return [
        {
            "id": f"{subset}-{number}",
            "problem": f"What is {number} of {subset}?",
            "steps": [f"Part {step} of {number}." for step in range(n_steps)],
            "label": label,
            "final_answer_correct": label < 0,
        }
        for number, label in enumerate(labels)
    ]


def write_rows(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def config(output, path, /, **changes) -> EvalConfig:
    """A run over the items at `path`; `changes` replace top-level keys, those of a nested node one by one."""
    plain = {"output": str(output), "data": {"path": str(path)}, "verifier": {"kind": "prm_cot"}}
    for key, value in changes.items():
        plain[key] = {**plain[key], **value} if isinstance(value, dict) and key in plain else value
    return EvalConfig.from_mapping(plain)


def engine(url):
    return {"model": "mock", "base_urls": [url], "attempts": 1, "deadline_s": 5, "timeout_s": 5}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def math_rows(name, n=3):
    """Rows of a benchmark's file in the columns that it has; the reference of problem i is i."""
    keys = {"olympiadbench": "question", "amc23": "question"}
    rows = [{"id": i, keys.get(name, "problem"): f"What is {i} of {name}?"} for i in range(n)]
    for i, row in enumerate(rows):
        if name == "olympiadbench":
            row |= {"final_answer": [f"${i}$"], "context": None, "solution": ["So it is."]}
        elif name == "minerva_math":
            row |= {"solution": f"First \\boxed{{77}}, so \\boxed{{{i}}}.", "answer": ["77\n"], "idx": row.pop("id")}
        else:
            row |= {"answer": float(i) if name == "amc23" else str(i)}
    return rows


def write_benchmarks(folder, n=3, names=tuple(BENCHMARKS)):
    for name in names:
        write_rows(folder / name / "test.jsonl", math_rows(name, n))
    return folder


def math_config(output, path, url="http://x", /, **changes) -> MathConfig:
    """A run with few replies over the benchmarks at `path`."""
    plain = {"output": str(output), "data": {"path": str(path)}, "policy": {"engine": engine(url)}, "checkers": 1}
    plain["sampled"] = {"n": 2, "n_contest": 4}
    for key, value in changes.items():
        plain[key] = {**plain[key], **value} if isinstance(value, dict) and key in plain else value
    return MathConfig.from_mapping(plain)
