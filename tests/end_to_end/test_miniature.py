"""Two runs of the miniature study side by side through verl for real, with a fixture for a policy; and their tables."""

import json

import pytest

from recipes.miniature import questions, runs
from recipes.miniature.config import RunId, StudyConfig
from recipes.miniature.results import StaleResult
from recipes.miniature.truth import METRICS
from verl_spark.report.result import RunResult

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(900)]

RUNS = [RunId("arm", name, 0) for name in ("random", "format")]
ROOM = (  # the fixture's tokens are bytes
    "data.max_prompt_length=640",
    "data.max_response_length=192",
    "actor_rollout_ref.rollout.max_model_len=832",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
)


def small(steps: int = 2) -> StudyConfig:
    config = StudyConfig.load(quick=True)
    chosen = {run.name: config.arms[run.name] for run in RUNS}
    arms = {name: arm.model_copy(update={"overrides": (*arm.overrides, *ROOM)}) for name, arm in chosen.items()}
    return config.model_copy(update={"steps": steps, "held_out": 8, "arms": arms})


def test_arms_are_trained_kept_and_not_trained_again(policy, tmp_path, monkeypatch):
    (policy / "teaching.json").write_text(json.dumps({"split": "policy"}))
    monkeypatch.setattr(runs, "base_model", lambda *_: policy)
    monkeypatch.setattr(runs.models, "policy", lambda *_: policy)
    results = tmp_path / "results"

    def runner(config):
        return runs.Runner(config, tmp_path / "work", results, tmp_path / "cache", print)

    with runner(small()) as first:
        assert all(map(first.owed, RUNS))
        first.run(RUNS)
    with runner(small()) as again:
        assert not any(map(again.owed, RUNS))
    with runner(small(steps=3)) as larger, pytest.raises(StaleResult):
        larger.owed(RUNS[0])

    result = RunResult.read(results / RUNS[1].file)
    assert [step["step"] for step in result.steps if "spark/rollouts" in step] == [1, 2]
    assert all(step["truth/accuracy"] == 0 for step in result.steps if "spark/rollouts" in step)
    assert METRICS.keys() - {"truth/verdict", "truth/reward_appended"} <= result.steps[-1].keys()
    assert [len(items) for _, items in sorted(result.evaluations.items())] == [8, 8]
    assert result.settings["reward"]["spark"]["design"] == "format"
    tables = json.loads(questions.write_study(small(), results).read_text())["tables"]
    assert {table["id"] for table in tables} == {"c", "f"}
    rows = next(table for table in tables if table["id"] == "c")["rows"]
    assert [(row[0], row[1]["n"]) for row in rows] == [("format", 8), ("random", 8)]
    assert "| format |" in (results / "tables.md").read_text()
