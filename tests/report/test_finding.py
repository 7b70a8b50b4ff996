"""What a folder holds: runs apart from each other, results, studies, data; and what is said when there is nothing."""

import json

import pytest

from tests.report.made import logged, result, run, validation
from verl_spark.report.finding import find, find_runs
from verl_spark.runs.rows import SourceError


async def test_a_folder_with_several_runs_is_a_study_of_them(tmp_path):
    for arm in ("prmcot", "random"):
        await run(tmp_path / arm, accuracies={0: {1: [1.0]}})
    found = find([tmp_path])
    assert list(found.runs) == ["prmcot", "random"]
    for arm, files in found.runs.items():
        assert files.home == tmp_path / arm
        assert files.dump == tmp_path / arm / "rollouts"
        assert files.logs == (tmp_path / arm / "log.jsonl",)
        assert files.validations == (tmp_path / arm / "held_out" / "0.jsonl",)
    assert find([tmp_path, tmp_path / "random", tmp_path / "prmcot"]) == found


async def test_folders_of_one_name_are_told_apart(tmp_path):
    await run(tmp_path / "a" / "run")
    await run(tmp_path / "b" / "run")
    assert list(find([tmp_path / "a", tmp_path / "b"]).runs) == ["a", "b"]
    assert list(find([tmp_path / "a" / "run", tmp_path / "b" / "run"]).runs) == ["a/run", "b/run"]


async def test_the_dump_itself_and_a_log_alone_are_runs(tmp_path):
    await run(tmp_path / "arm")
    assert list(find([tmp_path / "arm" / "rollouts"]).runs) == ["rollouts"]
    logged(tmp_path / "other" / "log.jsonl", {1: {"critic/advantages/mean": 0.0}})
    assert list(find([tmp_path]).runs) == ["arm", "other"]


async def test_files_beside_several_runs_belong_to_none_and_that_is_said(tmp_path):
    await run(tmp_path / "a")
    await run(tmp_path / "b")
    logged(tmp_path / "log.jsonl", {1: {"spark/called": 1.0}})
    found = find([tmp_path])
    assert list(found.runs) == ["a", "b"]
    assert [str(tmp_path / "log.jsonl") in remark for remark in found.remarks] == [True]


async def test_what_only_looks_like_a_run_is_none(tmp_path):
    logged(tmp_path / "other.jsonl", {1: {"loss": 1.0}})
    (tmp_path / "texts.jsonl").write_text('{"input": "a", "output": "b", "step": 1, "acc": null}\n')
    (tmp_path / "odd.jsonl").write_text("no json\n")
    (tmp_path / "config.json").write_text('{"architectures": []}')
    (tmp_path / "folder.json").mkdir()
    assert find_runs(tmp_path) == []
    with pytest.raises(SourceError, match=r"nothing to report.*spark_run\.json.*study\.json.*trainer\.logger"):
        find([tmp_path])


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="none: there is no such folder or file"):
        find([tmp_path / "none"])


def test_results_and_studies_are_found_in_folders_and_by_name(tmp_path):
    result("a").write(tmp_path / "results" / "a" / "0.json")
    result("b").write(tmp_path / "results" / "b.json")
    (tmp_path / "results" / "study.json").write_text(json.dumps({"title": "t"}))
    found = find([tmp_path])
    assert [path.name for path in found.results] == ["0.json", "b.json"]
    assert [path.name for path in found.studies] == ["study.json"]
    assert find([tmp_path / "results" / "b.json"]).results == [tmp_path / "results" / "b.json"]


async def test_an_sft_training_is_no_run_and_is_called_by_its_file(tmp_path):
    await run(tmp_path / "rl")
    logged(tmp_path / "sft" / "orm" / "run.jsonl", {1: {"train/loss": 1.0}})
    assert list(find([tmp_path]).trainings) == ["run"]
    logged(tmp_path / "sft" / "prm" / "run.jsonl", {1: {"train/loss": 1.0}})
    found = find([tmp_path, tmp_path / "sft"])
    assert list(found.trainings) == ["orm/run", "prm/run"]
    assert [files.logs for files in found.runs.values()] == [(tmp_path / "rl" / "log.jsonl",)]
    assert found.remarks == []


def test_validation_dumps_alone_are_a_run(tmp_path):
    validation(tmp_path / "v" / "3.jsonl", 3, {1: [1.0]})
    assert find([tmp_path]).runs[tmp_path.name].validations == (tmp_path / "v" / "3.jsonl",)
