"""Reading problems: only what was named, every bad row by its place, and never a reference."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_spark.data.references import ReferenceSettings, read_references
from verl_spark.runs.problems import BadRowError, Problem, ProblemSettings, read_problems
from verl_spark.runs.rows import BadRow, SourceError

GOOD = b'{"id": "a", "problem": "One?"}\n'
BAD = {
    "missing": b'{"id": "b"}\n',
    "neither a text": b'{"id": "b", "problem": 5}\n',
    "empty": b'{"id": "b", "problem": " "}\n',
    "was there before": b'{"id": "a", "problem": "Two?"}\n',
    "broken UTF-8": b'{"id": "b", "problem": "\xff"}\n',
    "half of a surrogate": b'{"id": "b", "problem": "\\ud800"}\n',
    "broken JSON": b'{"id": "b", "problem": \n',
    "not an object": b"[1]\n",
    "whole number": b'{"id": [1], "problem": "Two?"}\n',
}


def read(path, **settings):
    return list(read_problems(ProblemSettings(path=str(path), **settings)))


@pytest.mark.parametrize(("reason", "line"), BAD.items())
def test_a_bad_row_is_named_with_its_line_and_the_rest_is_read(tmp_path, reason, line):
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + line + b'{"id": "c", "problem": "Three?"}\n')
    first, bad, last = read(path)
    assert (first.id, last.id) == ("a", "c")
    assert isinstance(bad, BadRow)
    assert bad.place == f"{path}:2"
    assert reason in bad.reason


@pytest.mark.parametrize("line", BAD.values())
def test_a_bad_row_stops_the_run_if_so_asked(tmp_path, line):
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + line)
    with pytest.raises(BadRowError, match=r"p\.jsonl:2.*on_bad_row=skip"):
        read(path, on_bad_row="stop")


def test_a_problem_without_an_id_gets_one_from_its_text(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"problem": "One?"}, {"problem": "Two?"}, {"problem": "One?"}]))
    one, two, again = read(path)
    assert one.id != two.id
    assert "before" in again.reason
    assert again.place == f"{path}:row 2"


def test_verls_parquet_gives_the_last_user_turn_and_bad_utf8_is_a_bad_row(tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    rows = [[*turns, {"role": "user", "content": "One?"}], turns[1:], None]
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": rows, "reward_model": [{"ground_truth": "7"}] * 3}), path)
    good, no_user, missing = read(path, text_field="prompt")
    assert good.text == "One?"
    assert (no_user.place, missing.place) == (f"{path}:row 1", f"{path}:row 2")
    text = pa.array([b"One?", b"\xff"]).cast(pa.binary())
    broken = pa.StringArray.from_buffers(2, text.buffers()[1], text.buffers()[2])
    pq.write_table(pa.table({"problem": broken}), path)
    assert "broken UTF-8" in read(path)[1].reason


def test_only_named_columns_are_read_from_parquet(tmp_path, monkeypatch):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": ["a"], "problem": ["One?"], "reward_model": [{"ground_truth": "7"}]}), path)
    asked = []
    iter_batches = pq.ParquetFile.iter_batches

    def noting(file, size, columns):
        asked.append(columns)
        return iter_batches(file, size, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noting)
    assert read(path) == [Problem("a", "One?", f"{path}:row 0")]
    assert asked == [["id", "problem"]]


def test_references_are_found_by_the_ids_of_the_problems(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"problem": ["One?", "Two?"], "reward_model": [{"ground_truth": "7"}, None]}), path)
    settings = ProblemSettings(path=str(path))
    found = dict(read_references(settings, ReferenceSettings(field="reward_model.ground_truth")))
    assert found == {read(path)[0].id: "7"}


def test_a_limit_counts_good_problems(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(GOOD + BAD["empty"] + b'{"id": 3, "problem": "Three?"}\n{"id": 4, "problem": "Four?"}\n')
    assert [row.id for row in read(path, limit=2) if isinstance(row, Problem)] == ["a", "3"]


@pytest.mark.parametrize(("name", "text"), [("p.csv", "a"), ("p.json", "{}"), ("p.json", "[")])
def test_a_source_that_is_no_source_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=name):
        read(tmp_path / name)


def test_a_hub_data_set_is_streamed_and_only_named_columns_are_kept(monkeypatch):
    rows = [{"id": 7, "problem": "One?", "answer": "7"}, {"id": 8, "problem": None, "answer": "8"}]
    streams = [
        datasets.Dataset.from_list(rows).to_iterable_dataset(),
        datasets.IterableDataset.from_generator(lambda: iter(rows)),  # its columns are not known before a look
    ]
    for stream in streams:
        asked = []

        def load(path, subset, split, streaming, stream=stream, asked=asked):
            asked.append((path, subset, split, streaming))
            return stream

        monkeypatch.setattr(datasets, "load_dataset", load)
        good, bad = read("someone/maths", split="test")
        assert asked == [("someone/maths", None, "test", True)]
        assert good == Problem("7", "One?", "someone/maths/test:row 0")
        assert (bad.place, bad.reason) == ("someone/maths/test:row 1", "problem: missing")


def test_a_data_set_that_cannot_be_loaded_is_refused(monkeypatch):
    def load(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(SourceError, match=r"someone/maths: neither a file.*no route"):
        read("someone/maths")
