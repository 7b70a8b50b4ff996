"""One run of the miniature study through verl for real, with a fixture for a policy; and what is made of its result."""

import json

import pytest

from recipes.miniature import questions, runs
from recipes.miniature.config import RunId, StudyConfig
from recipes.miniature.results import StaleResult
from recipes.miniature.truth import METRICS
from verl_spark.report.result import RunResult

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(900)]

RUN = RunId("arm", "format", 0)
ROOM = (  # the fixture's tokens are bytes
    "data.max_prompt_length=640",
    "data.max_response_length=192",
    "actor_rollout_ref.rollout.max_model_len=832",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
)


def small(steps: int = 2) -> StudyConfig:
    config = StudyConfig.load(quick=True)
    arm = config.arms[RUN.name]
    arms = {RUN.name: arm.model_copy(update={"overrides": (*arm.overrides, *ROOM)})}
    return config.model_copy(update={"steps": steps, "held_out": 8, "arms": arms})


def test_an_arm_is_trained_kept_and_not_trained_again(policy, tmp_path, monkeypatch):
    (policy / "teaching.json").write_text(json.dumps({"split": "policy"}))
    monkeypatch.setattr(runs, "base_model", lambda *_: policy)
    monkeypatch.setattr(runs.models, "policy", lambda *_: policy)
    results = tmp_path / "results"

    def runner(config):
        return runs.Runner(config, tmp_path / "work", results, tmp_path / "cache", print)

    with runner(small()) as first:
        assert first.owed(RUN)
        first.run(RUN)
    with runner(small()) as again:
        assert not again.owed(RUN)
    with runner(small(steps=3)) as larger, pytest.raises(StaleResult):
        larger.owed(RUN)

    result = RunResult.read(results / RUN.file)
    assert [step["step"] for step in result.steps if "spark/rollouts" in step] == [1, 2]
    assert all(step["truth/accuracy"] == 0 for step in result.steps if "spark/rollouts" in step)
    assert METRICS.keys() - {"truth/verdict", "truth/reward_appended"} <= result.steps[-1].keys()
    assert [len(items) for _, items in sorted(result.evaluations.items())] == [8, 8]
    assert result.settings["reward"]["spark"]["design"] == "format"
    tables = json.loads(questions.write_study(small(), results).read_text())["tables"]
    assert {table["id"] for table in tables} == {"c", "f"}
    (row,) = next(table for table in tables if table["id"] == "c")["rows"]
    assert row[0] == RUN.name
    assert row[1]["n"] == 8
    assert f"| {RUN.name} |" in (results / "tables.md").read_text()
