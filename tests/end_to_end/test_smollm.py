"""Real input: a pretrained model as policy and as verifier on GSM8K problems, with `make test-full DATA=DIR`.

A model of this size writes no verification of steps that a reader accepts, and learns nothing. What counts is that a
real tokenizer, chat template and text go through, and that an abstention is counted as one and never becomes a
reward."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from examples.smollm import smollm
from tests.end_to_end import tiny
from tests.end_to_end.command import verl_spark
from tests.end_to_end.test_training import balance, rollouts
from verl_spark.data.records import read_records, records_file
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import read
from verl_spark.verifier.outcome import Cause

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(1200)]

PROMPTS, ANSWERS = 4, 2
SLICE, SOLUTIONS, VERIFICATIONS = 24, 4, 4


def gsm8k(source: Path, target: Path, rows: int) -> Path:
    """The first `rows` problems of a GSM8K file as a parquet file in verl's schema."""
    with source.open(encoding="utf-8") as lines:
        problems = [json.loads(line) for line, _ in zip(lines, range(rows), strict=False)]
    table = [
        {
            "data_source": "gsm8k",
            "prompt": [{"role": "user", "content": problem["question"]}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem["answer"].rpartition("####")[2].strip()},
            "extra_info": {"index": index},
        }
        for index, problem in enumerate(problems)
    ]
    pd.DataFrame(table).to_parquet(target)
    return target


@pytest.fixture(scope="module")
def models(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tiny.Tiny:
    """The pretrained model in the place of the tiny one, for the fixture `train`; its data are GSM8K problems."""
    try:
        model = smollm()
    except ImportError as absent:
        pytest.skip(str(absent))
    folder = tmp_path_factory.mktemp("gsm8k")
    train = gsm8k(data / "gsm8k/train.jsonl", folder / "train.parquet", 2 * PROMPTS)
    return tiny.Tiny(model, train, gsm8k(data / "gsm8k/test.jsonl", folder / "test.parquet", PROMPTS))


def test_a_pretrained_model_that_judges_itself(train, models, tmp_path):
    run = train(
        "reward_model=spark_prmcot",
        f"reward.reward_model.model_path={models.model}",
        "reward.reward_model.n_gpus_per_node=1",
        "reward.reward_model.rollout.max_model_len=1024",
        "reward.reward_model.rollout.max_num_seqs=16",
        "reward.reward_model.rollout.max_num_batched_tokens=1024",
        "reward.spark.format_gate=False",  # else the verifier would hardly be asked
        "reward.spark.verifier.max_tokens=96",
        "data.max_prompt_length=384",
        "data.max_response_length=48",
        f"actor_rollout_ref.rollout.n={ANSWERS}",
        "actor_rollout_ref.actor.optim.lr=1e-6",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4",
        # The embedding in float32 takes 108 MB, and a bucket must hold it.
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=256",
        f"trainer.rollout_data_dir={tmp_path}/rollouts",
        timeout_s=1000,
    )
    assert run.returncode == 0, run.text()[-4000:]
    steps = [metrics for metrics in run.metrics if metrics["step"] > 0]
    assert len(steps) == 2
    for metrics in steps:
        balance(metrics)
        assert metrics["spark/rollouts"] == PROMPTS * ANSWERS
        assert metrics["spark/gated"] == metrics["spark/missing/failed"] == 0
        assert metrics["spark/called"] > 0
        assert metrics["spark/verifier/completion_tokens"] > 0
    dumped = rollouts(tmp_path / "rollouts")
    assert len(dumped) == len(steps) * PROMPTS * ANSWERS
    assert sum(row["spark_missing"] for row in dumped) == sum(metrics["spark/missing"] for metrics in steps)
    for row in dumped:
        causes = [cause for cause in Cause if row[f"spark_{cause.value}"]]
        if row["spark_missing"]:
            assert len(causes) == 1
            assert row["spark_verdict"] is None
        else:
            assert not causes
            assert row["spark_verdict"] in (0, 1)
        assert row["score"] == (row["spark_verdict"] or 0)
    if any(metrics["spark/missing"] > 0.2 * metrics["spark/rollouts"] for metrics in steps):
        assert "gave no verdict" in run.text()
    # The rule-based checker read the references; their share of right answers says nothing at this size.
    assert 0 <= run.metrics[-1]["val-core/gsm8k/acc/mean@1"] <= 1


def test_stage1_counts_what_such_a_model_cannot_do(data, models, tmp_path):
    problems = tmp_path / "problems.jsonl"
    with (data / "skywork_or1_8k/train_8k.jsonl").open(encoding="utf-8") as lines:
        problems.write_text("".join(line for line, _ in zip(lines, range(SLICE), strict=False)), encoding="utf-8")
    engine = {
        "kind": "vllm",
        "model": str(models.model),
        "vllm": {"dtype": "float32", "max_model_len": 2048, "max_num_seqs": 32, "enforce_eager": True},
    }
    config = {
        "output": str(tmp_path / "data"),
        "problems": {"path": str(problems)},
        "generator": {"engine": engine, "n": SOLUTIONS, "max_tokens": 256},
        "verifier": {"engine": engine, "n": VERIFICATIONS, "max_tokens": 128, "examples": False},
        "methods": ["single", "outcome", "step"],
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(config))
    verl_spark("data", "run", "--config", tmp_path / "data.yaml", timeout_s=1000)
    card = json.loads((tmp_path / "data/card.json").read_text())
    for method in card["methods"].values():
        assert method["solutions"] == SLICE * SOLUTIONS == method["kept"] + sum(method["dropped"].values())
    for record in read_records(records_file(tmp_path / "data", "step")):
        if record.drop is None:  # never made up: what is kept was read, and read by more than half
            assert record.usable > VERIFICATIONS // 2
            assert record.text is not None
            assert read(record.text, Kind.PRM_COT).steps == record.marks
