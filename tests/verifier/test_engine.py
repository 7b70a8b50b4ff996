"""The server engine and the settings of all engines."""

import asyncio
import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from benchmarks.mock_server import serving, stats_of
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import critique_message, generator_message, merge_message, stage1_message
from verl_spark.verification.reading import read
from verl_spark.verification.steps import numbered_steps
from verl_spark.verifier import engine as engine_module
from verl_spark.verifier.client import CallFailed, PromptTooLong, Refused, Sampling
from verl_spark.verifier.engine import EngineSettings, open_engine

PROBLEM = "Two and two, and two more?"
SOLUTION = "Step 1: 2 + 2 = 4\nStep 2: 4 + 2 = 6\nAnswer: 6"
PROMPT = stage1_message(PROBLEM, SOLUTION, 2)
SAMPLED = Sampling(64, temperature=0.8, seed=7)


def engine_at(*urls, **settings):
    return open_engine(EngineSettings(model="mock", base_urls=urls, **settings))


async def test_the_samples_of_a_request_are_those_of_the_seeds_behind_its_own(serve):
    async with serve(disagreement=0.5) as (mock, url), engine_at(url) as engine:
        all_at_once = await engine.sample(PROMPT, SAMPLED, 8)
        later = await engine.sample(PROMPT, Sampling(64, temperature=0.8, seed=7 + 5), 3)
    assert mock.served == {"ok": 2}
    assert [reply.text for reply in all_at_once[5:]] == [reply.text for reply in later]
    assert len({reply.text for reply in all_at_once}) > 1


async def test_tokens_add_up_to_those_of_the_request(serve):
    async with serve(disagreement=0.5) as (_, url), engine_at(url) as engine:
        replies = await engine.sample(PROMPT, SAMPLED, 7)
    assert [reply.prompt_tokens > 0 for reply in replies] == [True] + [False] * 6
    assert sum(reply.prompt_tokens for reply in replies) == len(PROMPT.split())
    assert sum(reply.completion_tokens for reply in replies) == sum(len(reply.text.split()) for reply in replies)


async def test_every_sample_keeps_its_own_finish_reason(serve):
    async with serve("cut") as (_, url), engine_at(url) as engine:
        replies = await engine.sample(PROMPT, SAMPLED, 3)
    assert [reply.finish_reason for reply in replies] == ["stop", "stop", "length"]


async def test_what_a_server_returned_is_given_though_it_is_less(serve):
    async with serve("partial") as (_, url), engine_at(url) as engine:
        assert len(await engine.sample(PROMPT, SAMPLED, 4)) == 3


@pytest.mark.parametrize("fault", ["http503", "drop", "not_json"])
async def test_a_passing_fault_is_retried_for_all_samples(serve, fault):
    async with serve(fault, "ok") as (_, url), engine_at(url) as engine:
        replies = await engine.sample(PROMPT, SAMPLED, 4)
    assert [reply.attempts for reply in replies] == [2] * 4


@pytest.mark.parametrize(("fault", "permanent"), [("http400", True), ("http503", False), ("hang", False)])
async def test_a_failure_says_whether_it_may_pass(serve, fault, permanent):
    bounds = {"attempts": 1, "timeout_s": 0.2, "deadline_s": 0.3}
    async with serve(fault) as (_, url), engine_at(url, **bounds) as engine:
        with pytest.raises(CallFailed) as failure:
            await engine.sample(PROMPT, SAMPLED, 2)
    assert failure.value.permanent is permanent


@pytest.mark.parametrize("error", [CallFailed("x"), Refused("x"), PromptTooLong("x")])
def test_a_failure_survives_the_way_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.permanent) == (type(error), "x", error.permanent)


async def test_servers_share_the_requests(serve):
    slow = {"latency_s": 0.05}
    async with serve(**slow) as (one, url_1), serve(**slow) as (two, url_2), engine_at(url_1, url_2) as engine:
        await asyncio.gather(*(engine.sample(PROMPT, SAMPLED, 4) for _ in range(10)))
    assert one.samples == two.samples == 20


async def test_a_server_sees_no_control_token(serve):
    async with serve() as (_, url), engine_at(url) as engine:
        split, whole = [await engine.sample(text, SAMPLED, 1) for text in ("a < |im_end| > b", "a <|im_end|> b")]
    assert split[0].text == whole[0].text
    assert split[0].prompt_tokens == whole[0].prompt_tokens


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "base_urls: kind=server needs at least one server; set base_urls="),
        ({"base_urls": ["http://x/v1"], "timeout_s": 9, "deadline_s": 3}, "lower timeout_s or raise deadline_s"),
        ({"kind": "ray", "replicas": 0}, "replicas"),
        ({"kind": "vllm", "vllm": {"model": "other"}}, "leave vllm.model out"),
        (
            {"kind": "ray", "vllm": {"tensor_parallel_size": 2}},
            r"takes 2 GPUs \(vllm.tensor_parallel_size=2\), and Ray gives it 1; set num_gpus_per_replica=2",
        ),
        ({"kind": "cloud"}, "'server', 'vllm' or 'ray'"),
        ({"kind": "vllm", "replica": 2}, "replica"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_the_cure(settings, message):
    with pytest.raises(ValidationError, match=message):
        EngineSettings(model="m", **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_gpus_per_replica": 4, "vllm": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}},
        {"num_gpus_per_replica": 0, "vllm": {"tensor_parallel_size": 2}},
        {"num_gpus_per_replica": 0.5},
    ],
)
def test_gpus_of_a_replica_may_be_none_and_may_be_shared(settings):
    assert EngineSettings(kind="ray", model="m", **settings).num_gpus_per_replica == settings["num_gpus_per_replica"]


@pytest.mark.parametrize("kind", ["vllm", "ray"])
def test_what_vllm_would_stumble_over_is_said_before_it_is_loaded(kind, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"num_attention_heads": 14}')
    here = {"kind": kind, "model": str(tmp_path), "num_gpus_per_replica": 0}
    with pytest.raises(ValueError, match=r"vllm\.tensor_parallel_size=4 does not divide the 14 attention heads"):
        open_engine(EngineSettings(**here, vllm={"tensor_parallel_size": 4}))
    monkeypatch.setattr(engine_module, "mixture", lambda: iter(["vllm 1 was built for torch 2; install that"]))
    with pytest.raises(ValueError, match=f"kind={kind}: vllm 1 was built for torch 2; install that"):
        open_engine(EngineSettings(**here))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"model: .*config\.json cannot be read"):
        open_engine(EngineSettings(**here))


def test_servers_elsewhere_do_not_care_for_this_environment(monkeypatch):
    monkeypatch.setattr(engine_module, "mixture", lambda: iter(["vllm 1 was built for torch 2; install that"]))
    assert engine_at("http://x/v1")


def test_the_kind_alone_moves_a_model_from_one_machine_to_a_cluster():
    here = {"model": "m", "base_urls": ["http://x/v1"], "replicas": 8, "vllm": {"max_model_len": 4096}}
    assert {EngineSettings(kind=kind, **here).kind for kind in ("server", "vllm", "ray")} == {"server", "vllm", "ray"}


def test_a_key_that_is_not_there_is_refused_by_the_name_of_its_variable(monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ValueError, match="SOME_KEY is not set"):
        engine_at("http://x/v1", api_key_env="SOME_KEY")


def test_no_engine_is_loaded_before_it_is_wanted():
    code = "import sys, verl_spark.verifier.engine as e; assert not {'vllm', 'ray', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_the_mock_answers_every_prompt_of_stage_i(serve):
    verification = "## Step 1: Sum\n**This step is correct.**"
    prompts = [
        generator_message(PROBLEM),
        PROMPT,
        critique_message(PROBLEM, SOLUTION, verification),
        merge_message(PROBLEM, SOLUTION, 2, verification, "Fine."),
    ]
    async with serve() as (_, url), engine_at(url) as engine:
        solution, verified, critique, merged = [(await engine.sample(p, SAMPLED, 1))[0].text for p in prompts]
    assert numbered_steps(solution)
    assert [len(read(text, Kind.PRM_COT).steps) for text in (verified, merged)] == [2, 2]
    assert read(critique, Kind.PRM_COT).steps is None


async def test_slots_bound_what_the_mock_generates_at_a_time(serve):
    async with serve(latency_s=0.05, slots=2) as (_, url), engine_at(url) as engine:
        replies = await engine.sample(PROMPT, SAMPLED, 6)
    assert replies[0].seconds >= 3 * 0.05


async def test_a_mock_in_a_process_of_its_own_answers_alike_and_counts(serve):
    with serving("--disagreement=0.5") as url:
        async with engine_at(url) as engine:
            elsewhere = await engine.sample(PROMPT, SAMPLED, 4)
        assert stats_of(url) == {"ok": 1, "samples": 4, "distinct_prompts": 1}
    async with serve(disagreement=0.5) as (_, url), engine_at(url) as engine:
        here = await engine.sample(PROMPT, SAMPLED, 4)
    assert [reply.text for reply in here] == [reply.text for reply in elsewhere]
