"""The plan of a whole Stage I run: what it says is what a run asks."""

import json

import pytest
import yaml

from tests.data.runs import PLAIN, config, finish
from tests.planning.commands import said
from tests.recipes.scripts import FULL
from verl_spark.data.config import DataConfig
from verl_spark.data.run import plan
from verl_spark.planning.earlier import read_earlier
from verl_spark.planning.stage1 import plan_stage1
from verl_spark.settings import SettingsError

PAPER = FULL / "stage1.yaml"
KEYS = [
    "output=out",
    "problems.path=problems.jsonl",
    "generator.engine.model=Qwen/Qwen2.5-14B-Instruct",
    "verifier.engine.model=Qwen/Qwen3-32B",
]
URL = "http://localhost:1/v1"  # a plan asks nobody


def calls(works) -> dict[str, int]:
    return {work.name: work.calls for work in works}


def test_the_papers_config_makes_1_024_000_verifications():
    made = DataConfig.load(PAPER, KEYS)
    works = plan_stage1(made, 8000, {}, None)
    assert calls(works) == {"generate": 64_000, "verify": 1_024_000}
    assert works[1].reply_tokens == 1_024_000 * 8192
    assert (works[1].model, works[1].role) == ("Qwen/Qwen3-32B", "verifier")
    meta = plan_stage1(made.model_copy(update={"methods": ("step", "meta_step", "meta_outcome")}), 8000, {}, None)
    assert calls(meta) == {"generate": 64_000, "verify": 1_024_000, "critique": 128_000, "merge": 128_000}


def test_lengths_that_are_given_count_in_replies_and_in_the_prompts_that_show_them():
    made = DataConfig.load(PAPER, KEYS)
    bare, given = (plan_stage1(made, 8000, lengths, None) for lengths in ({"generate": 1}, {"generate": 701}))
    assert given[0].reply_tokens == 64_000 * 701
    assert given[1].prompt_tokens - bare[1].prompt_tokens == 64_000 * 700  # one prompt for 16 verifications
    longer = plan_stage1(made, 8000, {"generate": 1, "problem": 300}, None)
    assert longer[0].prompt_tokens - bare[0].prompt_tokens == 8000 * 200


async def test_a_run_asks_what_was_planned(serve, problems, tmp_path):
    async with serve() as (mock, url):
        made = config(url, problems, tmp_path / "out", methods=["step", "meta_step", "reference"])
        planned = plan_stage1(made, None, {}, None)
        assert mock.samples == 0
        owed = await plan(made, 0, lambda _: None)
        assert calls(planned) == {stage: one.calls for stage, one in owed.stages.items()}
        assert [work.prompt_tokens for work in planned] == [one.cost.prompt_tokens for one in owed.stages.values()]
        progress, _ = await finish(made)
    assert sum(calls(planned).values()) == progress.samples == mock.samples
    cost = json.loads((tmp_path / "out" / "cost.json").read_text())
    assert calls(planned) == {stage: one["calls"] for stage, one in cost["stages"].items()}


async def test_a_plan_is_never_less_than_what_is_asked(serve, problems, tmp_path):
    """Cut and repeated solutions, picks without a majority and shared ones make fewer calls."""
    async with serve("ok", "cut", "garbage", disagreement=0.4) as (_, url):
        made = config(url, problems, tmp_path / "out", methods=PLAIN)
        await finish(made)
    cost = json.loads((tmp_path / "out" / "cost.json").read_text())
    planned = calls(plan_stage1(made, None, {}, None))
    assert all(cost["stages"][stage]["calls"] <= planned[stage] for stage in planned)
    assert cost["total"]["calls"] < sum(planned.values())


async def test_a_small_run_gives_tokens_and_pace_to_a_large_one(serve, problems, tmp_path):
    async with serve() as (_, url):
        small = config(url, problems, tmp_path / "small", prices={"gpus": 2})
        await finish(small)
        large = config(url, problems, tmp_path / "large", verifier={"n": 10})
    cost = json.loads((tmp_path / "small" / "cost.json").read_text())
    spent, total = cost["stages"], cost["total"]
    earlier = read_earlier(tmp_path / "small", large)
    generate, verify = plan_stage1(large, 600, {}, earlier)
    assert generate.prompt_tokens == pytest.approx(100 * spent["generate"]["prompt_tokens"], rel=0.05)
    assert verify.calls == 200 * spent["verify"]["calls"]
    assert verify.reply_tokens == pytest.approx(200 * spent["verify"]["completion_tokens"], rel=0.05)
    assert verify.prompt_tokens == pytest.approx(100 * spent["verify"]["prompt_tokens"], rel=0.05)  # one for all ten
    again = plan_stage1(small, 6, {}, earlier)
    hours = sum(earlier.rate.gpu_hours(work) for work in again)
    assert hours == pytest.approx(2 * total["wall_seconds"] / 3600, rel=0.05)
    assert plan_stage1(large, 600, {"verify": 7}, earlier)[1].reply_tokens == 7 * verify.calls


async def test_a_run_of_other_models_says_nothing(serve, problems, tmp_path):
    async with serve() as (_, url):
        await finish(config(url, problems, tmp_path / "small"), ["generate"])
    other = config(URL, problems, tmp_path, verifier={"engine": {"model": "other", "base_urls": [URL]}})
    with pytest.raises(SettingsError, match="its verifier is mock, and here it is other"):
        read_earlier(tmp_path / "small", other)


def test_folders_without_a_run_are_refused(problems, tmp_path):
    made = config(URL, problems, tmp_path)
    with pytest.raises(SettingsError, match=r"no run is there \(config.yaml is missing\)"):
        read_earlier(tmp_path, made)
    made.claim()
    with pytest.raises(SettingsError, match="no call has been made there"):
        read_earlier(tmp_path, made)


def test_the_command(problems, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config(URL, problems, tmp_path / "out").model_dump(mode="json")))
    found = said("data", "--config", file, "--tokens", "verify=100")
    assert "verify mock 60" in found
    assert "6,000 given no rate" in found
    assert "GPU hours need a rate: --rate generator=TOKENS --rate verifier=TOKENS" in found
    assert not (tmp_path / "out").exists()
    paper = ("data", "--config", PAPER, *KEYS, "--problems", 8000)
    found = said(*paper, "--tokens", "verify=3600", "--rate", "verifier=1024", "--gpus", 8)
    assert "verify Qwen/Qwen3-32B 1,024,000" in found
    assert "given 1,000.00" in found  # 1,024,000 x 3,600 / 1,024 / 3,600
    assert "Together without those 1,000.0 GPU hours: 125.0 hours on 8 GPUs" in found
    found = said(*paper, "--tokens", "verfy=1", "--tokens", "verify=-3", status=2)
    assert "there is no 'verfy' here; there are: problem, generate, verify" in found
    assert "--tokens verify=-3: give a number above 0" in found
    assert "there is no 'judge' here; there are: generator, verifier, critic" in said(
        *paper, "--rate", "judge=1", status=2
    )
    assert "neither a file nor a data set" in said("data", "--config", PAPER, *KEYS, status=2)


def test_a_measured_rate_is_used_and_named_unless_another_is_given(problems, tmp_path):
    engine = {"model": "HuggingFaceTB/SmolLM2-135M-Instruct", "base_urls": [URL]}
    made = config(URL, problems, tmp_path / "out", generator={"engine": engine})
    file, own = tmp_path / "c.yaml", tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(made.model_dump(mode="json")))
    own.write_text("- {model: mock, machine: my GPU, gpus: 2, reply_tokens_per_s: 10, source: mine}")
    found = said("data", "--config", file)
    assert "generator: 8,199 tokens/s and GPU; NVIDIA H100 80GB HBM3, benchmarks/reports/h100.md; ProcessBench" in found
    assert "need a rate: --rate verifier=TOKENS" in found
    assert "--rate generator=TOKENS --rate verifier=TOKENS" in said("data", "--config", file, "--machine", "B200")
    found = said("data", "--config", file, "--rates", own, "--rate", "generator=3")
    assert "generator: 3 tokens/s and GPU" in found
    assert "verifier: 5 tokens/s and GPU; my GPU, mine" in found
