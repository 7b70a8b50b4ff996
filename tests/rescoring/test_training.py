"""`verl-spark score` gives the rewards and advantages of the trainer hook, from the dump that the hook wrote."""

import asyncio
import json

import pytest
import torch
from typer.testing import CliRunner

from tests.rescoring.made import (
    FROM_STEP,
    IDS,
    KEYS,
    LONGEST,
    MASKS,
    PROBLEM,
    REFERENCE,
    ROLLOUTS,
    by_token,
    infos,
    rows,
    settings,
)
from tests.rl.made import batch_of, nested, objects
from tests.rl.test_steps import ByteTokenizer, Step
from verl_spark.cli.main import app
from verl_spark.rewards.designs import DESIGNS
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rl.row import STEPS_KEY, steps_of

OF_STEPS = [name for name in DESIGNS if name != "orm"]
"""Designs that can use a verification with step marks, or need none."""
OVERLONG = {"enable": True, "len": 150, "penalty_factor": 0.5}


@pytest.fixture(autouse=True)
def by_text(monkeypatch):
    """The answer check without its processes: equal is what is spelt alike."""

    async def compare(self, response, reference, answer=None):
        return f"\\boxed{{{reference}}}" in response

    monkeypatch.setattr(AnswerChecker, "compare", compare)
    monkeypatch.setattr(AnswerChecker, "compare_all", lambda self, pairs: [one == other for one, other in pairs])


class Training(Step):
    """A training step over the made rollouts, and its dump."""

    def __init__(self, monkeypatch, spark, **algorithm):
        super().__init__(monkeypatch, spark, asyncio.run(infos(spark)), MASKS, KEYS, **algorithm)
        self.batch = batch_of(KEYS, [{"global_steps": FROM_STEP}] * len(KEYS))
        self.run()
        self.infos = [extra["reward_extra_info"] for extra in self.queue.columns["extra_fields"]]

    def dump(self, folder):
        note = {"spark_problem": PROBLEM, "spark_validation": False}
        self.hook.config.data.max_response_length = LONGEST
        self.queue.columns |= {
            "prompts": nested([[80, 81]] * len(KEYS), torch.int64),
            "responses": nested(IDS, torch.int64),
            "extra_info": objects([{**note, "index": key[0]} for key in KEYS]),
            "reward_model": objects([{"ground_truth": REFERENCE}] * len(KEYS)),
        }
        self.hook.tokenizer, self.hook.global_steps = ByteTokenizer(), 3
        self.hook.config.trainer.rollout_data_dir = str(folder)
        self.hook._init_dump_executor()
        self.hook._log_rollout_data(self.batch, {}, str(folder))
        self.hook._shutdown_dump_executor()
        return folder

    def check(self, scored, design):
        """Whether rows of `score` are what this training made of its rollouts."""
        assert [one["uid"] for one in scored] == KEYS
        for one, info, ids in zip(scored, self.infos, IDS, strict=True):
            found = one["designs"][design]
            assert found["reward"] == (None if info["spark_missing"] else info["spark_reward"]), one
            assert found["state"] == next(s for s in ("scored", "gated", "missing") if info[f"spark_{s}"])
            assert found["steps"] == (steps_of(info) and [[a, b, int(mark)] for a, b, mark in steps_of(info)])
            # verl computes in single precision, and so it stores ours
            trained = self.of("advantages")[one["uid"]]
            assert by_token(found["advantages"], len(ids)) == pytest.approx(trained, abs=2e-5)


def score(*arguments):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("buffer", [{}, OVERLONG], ids=["", "overlong"])
@pytest.mark.parametrize("design", DESIGNS)
def test_a_dump_scores_as_it_was_trained_on(monkeypatch, tmp_path, design, buffer):
    training = Training(monkeypatch, settings(design, overlong_buffer=buffer))
    score(training.dump(tmp_path / "dump"), f"output={tmp_path}/out")
    training.check(rows(tmp_path / "out"), design)
    found = json.loads((tmp_path / "out" / "result.json").read_text())["designs"][design]
    assert found["mean_reward"] == pytest.approx(training.metrics["spark/reward/mean"])
    assert sum(found["gated"].values()) == training.metrics["spark/gated"]
    assert sum(found["missing"].values()) == training.metrics["spark/missing"]
    assert any(a for row in training.queue.rows("advantages") for a in row)  # else all of this is about zeros


@pytest.mark.parametrize("by_deviation", [True, False])
def test_the_dump_of_one_design_gives_the_training_of_all_others(monkeypatch, tmp_path, by_deviation):
    algorithm = {"norm_adv_by_std_in_grpo": by_deviation}
    folder = Training(monkeypatch, settings("process_aware"), **algorithm).dump(tmp_path / "dump")
    score(folder, "--designs", ",".join(OF_STEPS), f"output={tmp_path}/out")
    for design in OF_STEPS:
        Training(monkeypatch, settings(design), **algorithm).check(rows(tmp_path / "out"), design)


def test_the_dump_says_what_it_said_before(monkeypatch, tmp_path):
    training = Training(monkeypatch, settings("selective"))
    lines = [json.loads(line) for line in (training.dump(tmp_path / "dump") / "3.jsonl").open()]
    assert [line["output"] for line in lines] == [text for text, _, _ in ROLLOUTS]
    assert [line["spark_reward"] for line in lines] == [info["spark_reward"] for info in training.infos]
    marked = [line[STEPS_KEY] for line in lines]
    assert marked == [steps_of(info) and [[a, b, c] for a, b, c in steps_of(info)] for info in training.infos]
    assert [line["spark_verdict"] for line in lines] == [1, 0, 0, None, None, None, 0, 0]
