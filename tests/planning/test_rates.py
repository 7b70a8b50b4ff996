"""Rates: which one counts, and what follows from it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.planning.commands import said as planned
from verl_spark.planning.rates import Rate, find, given_rate, read_rates, shipped
from verl_spark.planning.work import Work
from verl_spark.settings import SettingsError

ROOT = Path(__file__).parents[2]
TRAINING = [
    *("data.train_batch_size=4", "algorithm.adv_estimator=grpo", "trainer.total_epochs=1", "reward_model=spark_random"),
    *("actor_rollout_ref.rollout.n=8", "actor_rollout_ref.rollout.name=vllm"),
]
WORK = Work("verify", "verifier", "m", calls=10, prompt_tokens=7200, reply_tokens=3600, source="given")


def test_hours_are_of_all_gpus_and_prompts_count_where_they_have_a_rate():
    rate = Rate(model="m", machine="x", gpus=4, reply_tokens_per_s=1.0, source="me")
    assert rate.gpu_hours(WORK) == 4.0
    assert rate.model_copy(update={"prompt_tokens_per_s": 2.0}).gpu_hours(WORK) == 8.0
    assert given_rate("verifier", 2.0).gpu_hours(WORK) == 0.5
    assert given_rate("trainer", 2.0).gpu_hours(replace(WORK, training="rl")) == 1.5  # it works on prompts as well


def test_shipped_rates_stand_in_the_reports_that_they_name():
    for rate in shipped():
        report = (ROOT / rate.source).read_text()
        assert rate.machine in report
        assert rate.model.rpartition("/")[2] in report
    smollm, sft = shipped()
    found = re.search(r"tokens read, written \| [\d,]+, ([\d,]+)", (ROOT / smollm.source).read_text())
    seconds = re.search(r"seconds of asking \| ([\d.]+)", (ROOT / smollm.source).read_text())
    assert found
    assert seconds
    assert smollm.reply_tokens_per_s == pytest.approx(int(found[1].replace(",", "")) / float(seconds[1]), abs=1)

    trained = re.search(r"over all timed steps ([\d,]+) \|", (ROOT / sft.source).read_text())
    assert trained
    assert sft.reply_tokens_per_s == int(trained[1].replace(",", ""))


def test_a_rate_is_found_by_the_last_part_of_a_name_and_by_machine():
    named = replace(WORK, model="HuggingFaceTB/SmolLM2-135M-Instruct")
    assert find(replace(WORK, model="models/SmolLM2-135M-Instruct/"), None, shipped())
    assert find(named, "h100", shipped())
    assert find(named, "a100", shipped()) is None
    assert find(replace(WORK, model="HuggingFaceTB/SmolLM2-135M"), None, shipped()) is None


def test_replies_and_both_trainings_have_rates_of_their_own():
    named = replace(WORK, model="SmolLM2-135M-Instruct")
    replies, sft, rl = (find(replace(named, training=which), None, shipped()) for which in (None, "sft", "rl"))
    assert (replies.role, sft.role, rl) == (None, "sft", None)
    assert replies.reply_tokens_per_s < sft.reply_tokens_per_s


def test_both_trainings_take_measured_rates_of_their_model_alone(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "- {model: org/base, role: sft, machine: my GPU, gpus: 2, reply_tokens_per_s: 100, source: mine}\n"
        "- {model: org/base, role: rl, machine: my GPU, reply_tokens_per_s: 10, source: my RL}\n"
    )
    sft = ("sft", "prm", "data.train_batch_size=4", "trainer.total_epochs=1", "--rows", 40, "--tokens", "row=900")
    found = planned(*sft, "model.path=base", "--rates", file)
    assert "update base 40 0 36,000 given 0.20" in found  # 360 s of two GPUs
    assert "trainer: 50 tokens/s and GPU; my GPU, mine" in found
    found = planned(*sft, "model.path=HuggingFaceTB/SmolLM2-135M-Instruct")
    assert "trainer: 64,672 tokens/s and GPU; NVIDIA H100 80GB HBM3, benchmarks/reports/h100.md; PRM-CoT" in found
    assert "need a rate: --rate trainer=TOKENS" in planned(*sft, "model.path=other", "--rates", file)
    assert "need a rate: --rate trainer=TOKENS" in planned(
        *sft, "model.path=base", "--rates", file, "--machine", "B200"
    )
    lengths = ("--problems", 10, "--tokens", "prompt=100", "--tokens", "rollout=200")
    found = planned("train", *TRAINING, "actor_rollout_ref.model.path=org/base", "--rates", file, *lengths)
    assert "update org/base 32 3,200 6,400 given 0.27" in found  # 9,600 tokens at 10 a second
    assert "trainer: 10 tokens/s and GPU; my GPU, my RL" in found
    assert "--rate policy=TOKENS" in found


def test_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("- {model: Qwen/Qwen3-32B, machine: H200, gpus: 2, reply_tokens_per_s: 3000, source: mine}\n")
    (rate,) = read_rates(file)
    assert (rate.gpus, rate.reply_tokens_per_s) == (2, 3000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m", "not a list of rates"),
        (
            "- {model: m, machine: x, source: s, reply_tokens_per_s: 0}",
            "reply_tokens_per_s: Input should be greater than 0",
        ),
        ("- {model: m, machine: x, source: s, tokens_per_s: 3}", "tokens_per_s: there is no such setting"),
        ("- [", "mine.yaml"),
    ],
)
def test_a_faulty_file_is_refused_by_name(tmp_path, text, said):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as error:
        read_rates(file)
    assert "mine.yaml" in str(error.value)
