"""Stage I on real engines, and a PRM-CoT of what it made: the way of the demonstration up to its measured PRM.

Tiny models are generator, verifier and critic, first in this process, then as replicas."""

import json
from dataclasses import replace

import pytest
import yaml

from examples.stage1 import METHODS, SOLUTIONS, VERIFICATIONS, write_config
from examples.stage1_models import Stage1Recipe, stage1_models
from examples.stage2 import Training, held_out, judge_model, quality, train_prm
from examples.teaching import Lessons
from examples.tiny_models import Recipe, base_model
from tests.end_to_end.command import verl_spark
from verl_spark.data.config import DataConfig
from verl_spark.data.records import read_records, records_file
from verl_spark.verification.kinds import Kind

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PROBLEMS = 6
FEW = Lessons(examples=640, updates=120, batch=16, learning_rate=3e-3, seed=1)
"""Enough for the format, not for the arithmetic."""
FEWER = replace(FEW, updates=80)
NONE = replace(FEW, updates=2)
RECIPE = Stage1Recipe(base=Recipe(facts=NONE, quoting=NONE, working=NONE), generator=FEWER, verifier=FEW, critic=FEWER)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def config(cache, tmp_path_factory) -> DataConfig:
    return write_config(tmp_path_factory.mktemp("stage1"), stage1_models(cache, RECIPE), PROBLEMS)


@pytest.fixture(scope="module")
def in_process(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "data.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    verl_spark("data", "run", "--config", path)
    return path


def kept(folder, method):
    """The records of a method, without what differs from run to run."""
    read = (replace(record, engine_seconds=0.0) for record in read_records(records_file(folder, method)))
    return sorted(read, key=lambda record: record.solution_id)


def test_every_method_selects_from_the_same_calls(config, in_process):
    cost = json.loads((config.output / "cost.json").read_text())
    for method in METHODS:
        records = kept(config.output, method)
        assert 0 < len(records) <= PROBLEMS * SOLUTIONS
        assert any(record.usable for record in records), method
        assert cost["methods"][method]["kept"] == sum(record.drop is None for record in records)
    single, step = cost["methods"]["single"], cost["methods"]["step"]
    assert single["calls"] < step["calls"] <= PROBLEMS * SOLUTIONS * (1 + VERIFICATIONS)


@pytest.mark.full  # `test_engines.py` shows replicas in small
def test_replicas_on_ray_give_the_records_of_the_engine_in_process(config, in_process, tmp_path):
    """One role moves to a cluster, by the lines that a user would change."""
    ray = {"kind": "ray", "replicas": 2, "num_gpus_per_replica": 0}
    changes = [f"verifier.engine.{key}={value}" for key, value in ray.items()]
    verl_spark("data", "run", "--config", in_process, f"output={tmp_path}/data", "methods=[single,step]", *changes)
    for method in ("single", "step"):
        assert kept(tmp_path / "data", method) == kept(config.output, method)


def test_a_prm_cot_is_trained_on_it_and_measured_on_the_same_task(cache, config, in_process, tmp_path, remark):
    base = base_model(cache, RECIPE.base, print)
    data = config.output / "sft" / "step"
    train_prm(base, data, Kind.PRM_COT, tmp_path / "run", Training(updates=100, batch=4))
    score = quality(judge_model(tmp_path / "run" / "export", Kind.PRM_COT, held_out(40), tmp_path), Kind.PRM_COT)
    remark(f"PRM-CoT of a minute on the demonstration's task: F1 {score.f1.percent()} over {score.items} items")
    assert (score.items, score.erroneous) == (40, 20)
    assert sum(score.faults.values()) < 1  # it has learned to be read
