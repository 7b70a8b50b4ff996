"""Reading items: every kind of source, and every unsound row by its file, row and field."""

import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.evaluation.made import rows, write_rows
from verl_spark.evaluation.items import SUBSETS, ItemsError, ItemSettings, read_items
from verl_spark.runs.rows import SourceError

ROWS = {name: rows(name, [-1, 0, 2]) for name in ("omnimath", "gsm8k", "extra")}


def read(path, **settings):
    return read_items(ItemSettings(path=str(path), **settings))


@pytest.fixture(params=["json", "jsonl", "parquet"])
def folder(request, tmp_path):
    for name, content in ROWS.items():
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "json":
            path.write_text(json.dumps(content))
        elif request.param == "jsonl":
            write_rows(path, content)
        else:
            pq.write_table(pa.Table.from_pylist(content), path)
    (tmp_path / "README.md").write_text("not a subset")
    return tmp_path


def test_a_folder_holds_a_file_for_each_subset(folder, request):
    found = read(folder)
    assert [item.subset for item in found.items] == ["gsm8k"] * 3 + ["omnimath"] * 3 + ["extra"] * 3
    first = found.items[0]
    assert (first.id, first.label, first.erroneous, first.answer_correct) == ("gsm8k-0", -1, False, True)
    assert first.steps == ("Part 0 of 0.", "Part 1 of 0.", "Part 2 of 0.")
    assert len(found.files) == len(set(found.files.values())) == 3
    # The kind of file plays no part in what the items are.
    assert found.content_hash == read(write_all(folder / "again")).content_hash
    assert [item.id for item in read(folder, subsets=("extra", "gsm8k")).items][::3] == ["extra-0", "gsm8k-0"]
    with pytest.raises(SourceError, match=r"no subset math; there is: extra, gsm8k, omnimath"):
        read(folder, subsets=("math",))


def test_a_limit_is_spread_over_a_subset_and_a_higher_one_adds_to_it(tmp_path):
    # ProcessBench's files begin with the erroneous items: the first 30 would have no F1.
    path = write_rows(tmp_path / "math.jsonl", rows("math", [1] * 60 + [-1] * 40))
    chosen = {limit: [item.id for item in read(path, limit=limit).items] for limit in (30, 50, 500)}
    assert [len(ids) for ids in chosen.values()] == [30, 50, 100]
    assert set(chosen[30]) < set(chosen[50])
    assert chosen[30] == [name for name in chosen[500] if name in chosen[30]]
    assert 10 <= sum(item.erroneous for item in read(path, limit=30).items) <= 25


def write_all(folder):
    for name, content in ROWS.items():
        write_rows(folder / f"{name}.jsonl", content)
    return folder


def test_one_file_is_one_subset(tmp_path):
    path = write_rows(tmp_path / "own.jsonl", ROWS["extra"])
    assert {item.subset for item in read(path).items} == {"own"}
    with pytest.raises(SourceError, match="one file is one subset, own"):
        read(path, subsets=("math",))


def test_the_hub_is_read_split_by_split(tmp_path, monkeypatch):
    # The library's own loader, on a folder in the shape of the hub's repository.
    for name in SUBSETS:
        write_rows(tmp_path / "repo" / f"{name}.jsonl", rows(name, [1, -1]))
    real = datasets.load_dataset
    files = {name: str(tmp_path / "repo" / f"{name}.jsonl") for name in SUBSETS}

    def load_dataset(path, name, **options):
        assert (path, name) == ("Qwen/ProcessBench", None)
        return real("json", data_files=files, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = read_items(ItemSettings())
    assert [item.id for item in found.items] == [f"{name}-{number}" for name in SUBSETS for number in range(2)]
    assert found.files == {}
    assert found.content_hash == read(tmp_path / "repo").content_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": None}, "problem: missing; an item has id, problem, steps, label"),
        ({"problem": " "}, "problem: a text that is not empty"),
        ({"steps": "one"}, "steps: a list of at least one text, not 'one'"),
        ({"steps": []}, "steps: a list of at least one text"),
        ({"steps": ["a", 3]}, "steps: a list of at least one text"),
        ({"label": 3}, r"label: 3; it is a whole number from -1 \(no error\) to 2"),
        ({"label": -2}, "label: -2"),
        ({"label": True}, "label: True"),
        ({"label": "1"}, "label: '1'"),
        ({"id": "math-0"}, "id: 'math-0' was there before"),
        ({"id": [1]}, "id: a text or a whole number"),
        ({"final_answer_correct": "yes"}, "final_answer_correct: true, false or absent"),
        ({"steps": ["\ud800"], "label": 0}, "broken UTF-8"),
    ],
)
def test_an_unsound_row_is_refused_by_file_row_and_field(tmp_path, change, message):
    good, bad = rows("math", [0, 1])
    path = write_rows(tmp_path / "math.jsonl", [good, {**bad, **change}])
    with pytest.raises(ItemsError, match=rf"math\.jsonl:2: {message}"):
        read(path)


def test_all_faults_are_told_but_not_without_end(tmp_path):
    path = tmp_path / "math.jsonl"
    path.write_text("{}\n" * 30 + "{\n")
    with pytest.raises(ItemsError) as refused:
        read(path)
    assert len(str(refused.value).splitlines()) == 12
    assert "and 21 more" in str(refused.value)


def test_nothing_to_judge_is_refused(tmp_path):
    (tmp_path / "math.jsonl").write_text("\n")
    with pytest.raises(ItemsError, match="no rows; the subset math would have no score"):
        read(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"no file that ends in \.jsonl, \.json, \.parquet"):
        read(tmp_path / "empty")


def test_the_benchmark_has_its_items(data):
    found = read(data / "processbench").items
    counts = {name: [item.erroneous for item in found if item.subset == name] for name in SUBSETS}
    assert {name: (sum(wrong), len(wrong) - sum(wrong)) for name, wrong in counts.items()} == {
        "gsm8k": (207, 193),
        "math": (594, 406),
        "olympiadbench": (661, 339),
        "omnimath": (759, 241),
    }
