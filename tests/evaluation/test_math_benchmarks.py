"""The six benchmarks: every loader's columns, sound rows only, and the hub by the names of the table."""

import pytest
from datasets import IterableDataset

from tests.evaluation.made import math_rows, write_benchmarks, write_rows
from verl_spark.evaluation.items import ItemsError
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS, BenchmarkSettings, read_tasks
from verl_spark.runs.rows import SourceError
from verl_spark.settings import SettingsError

SIZES = {"math500": 500, "aime24": 30, "aime25": 30, "amc23": 40, "olympiadbench": 675, "minerva_math": 272}


def read(path, **settings):
    return read_tasks(BenchmarkSettings(path=str(path), **settings))


def test_every_benchmark_is_read_from_its_own_columns(tmp_path):
    found = read(write_benchmarks(tmp_path))
    assert [task.subset for task in found.items] == [name for name in BENCHMARKS for _ in range(3)]
    for name in BENCHMARKS:
        tasks = [task for task in found.items if task.subset == name]
        assert [task.id for task in tasks] == ["0", "1", "2"]
        assert [task.problem for task in tasks] == [f"What is {i} of {name}?" for i in range(3)]
        sign = "$" if name == "olympiadbench" else ""
        assert [task.reference for task in tasks] == [f"{sign}{i}{sign}" for i in range(3)]
    assert len(found.files) == 6


def test_the_hub_is_asked_by_the_names_of_the_table(monkeypatch):
    """The loading is `datasets`' own, over rows as each data set has them; only the network is not there."""
    asked = []

    def load_dataset(path, subset, split, streaming):
        asked.append((path, subset, split))
        (name,) = (name for name, benchmark in BENCHMARKS.items() if benchmark.hub.path == path)
        return IterableDataset.from_generator(lambda: iter(math_rows(name)))

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    found = read_tasks(BenchmarkSettings())
    assert len(found.items) == 18
    assert found.files == {}
    assert asked == [(one.hub.path, one.hub.subset, one.hub.split) for one in BENCHMARKS.values()]


def test_a_file_beside_the_others_and_a_choice_of_benchmarks(tmp_path):
    write_rows(tmp_path / "aime24.jsonl", math_rows("aime24"))
    write_rows(tmp_path / "math500.jsonl", math_rows("math500", 9))
    found = read(tmp_path, benchmarks=["aime24", "math500"], limit=4)
    assert [task.subset for task in found.items] == ["math500"] * 4 + ["aime24"] * 3
    with pytest.raises(SourceError, match=r"no file of the benchmark aime25; .*data\.benchmarks"):
        read(tmp_path)


@pytest.mark.parametrize("names", [[], ["math"], ["math500", "gsm8k"]])
def test_an_unknown_benchmark_is_refused(tmp_path, names):
    from tests.evaluation.made import math_config

    with pytest.raises(SettingsError, match=r"data\.benchmarks: .*math500, aime24"):
        math_config(tmp_path, "d", data={"benchmarks": names})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": 1, "problem": "What?"}, "answer: no reference answer; a text, a number, or a list of one"),
        ({"id": 1, "problem": "What?", "answer": ["1", "2"]}, "answer: no reference answer"),
        ({"id": 1, "problem": "What?", "answer": " "}, "answer: no reference answer"),
        ({"id": 1, "problem": "What?", "answer": True}, "answer: no reference answer"),
        ({"id": 1, "problem": "What?", "answer": float("nan")}, "answer: no reference answer"),
        ({"id": 1, "answer": "1"}, "problem: missing"),
        ({"id": 1, "problem": 7, "answer": "1"}, "problem: neither a text"),
        ({"id": 1, "problem": "\ud800", "answer": "1"}, "problem: broken UTF-8"),
        ({"id": 0, "problem": "Again?", "answer": "1"}, "id: '0' was there before"),
        ([1], "not an object but list"),
    ],
)
def test_a_row_that_is_no_problem_is_named(tmp_path, row, message):
    path = write_rows(tmp_path / "aime24.jsonl", [*math_rows("aime24", 1), row])
    with pytest.raises(ItemsError) as refused:
        read(tmp_path, benchmarks=["aime24"])
    assert f"{path}:2: {message}" in str(refused.value)


def test_minerva_falls_back_on_the_answer_where_no_solution_has_a_box(tmp_path):
    rows = [{"question": "a?", "answer": "5"}, {"question": "b?", "solution": "None", "answer": "6"}]
    write_rows(tmp_path / "minerva_math.jsonl", rows)
    assert [task.reference for task in read(tmp_path, benchmarks=["minerva_math"]).items] == ["5", "6"]


def test_the_real_files(data):
    found = read(data)
    counts = {name: sum(task.subset == name for task in found.items) for name in BENCHMARKS}
    assert counts == SIZES
