"""One tiny model behind the in-process engine and behind two replicas on Ray, one of which is killed at work."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from verl_spark.platforms.cpu.overrides import environment
from verl_spark.verifier import ray_engine
from verl_spark.verifier.engine import EngineSettings, open_engine

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SAMPLED = {"temperature": 1.0, "seed": 11, "n": 4}
LONG = [{**SAMPLED, "message": f"What is {i} plus {i}?", "max_tokens": 128} for i in range(12)]
"""Enough work to be killed in the middle of."""
TOO_LONG = {**LONG[-1], "message": "x" * 600}


@pytest.fixture(scope="module")
def ask(models, tmp_path_factory):
    """`ask(requests, kind=…, kill=…)`: what the engine gave for each request."""
    folder = tmp_path_factory.mktemp("asking")

    def run(requests, kill=False, **engine):
        vllm = {"dtype": "float32", "max_model_len": 512, "max_num_seqs": 64, "enforce_eager": True}
        settings = {"model": str(models.model), "num_gpus_per_replica": 0, "vllm": vllm, **engine}
        task, replies = folder / "task.json", folder / "replies.json"
        task.write_text(json.dumps({"engine": settings, "requests": requests, "kill": kill}))
        command = [sys.executable, "-m", "tests.end_to_end.asking", str(task), str(replies)]
        run = subprocess.run(
            command, env={**os.environ, **environment(threads=1)}, timeout=400, capture_output=True, text=True
        )
        assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
        return json.loads(replies.read_text())

    return run


@pytest.fixture(scope="module")
def in_process(ask):
    """Replies to `LONG`, to the last one again, to its samples 2 and 3, and to two requests that cannot work."""
    last = LONG[-1]
    return ask(
        [
            *LONG,
            last,
            {**last, "n": 2, "seed": last["seed"] + 2},
            TOO_LONG,
            {**last, "temperature": 0.0},
            {**last, "temperature": 0.0, "n": 1},
        ],
        kind="vllm",
    )


def texts(replies):
    return [reply["text"] for reply in replies]


def test_all_samples_come_from_one_request_and_repeat_under_their_seeds(in_process):
    whole, again, later = in_process[len(LONG) - 1 : len(LONG) + 2]
    assert len(set(texts(whole))) == 4
    assert texts(whole) == texts(again)
    assert texts(whole)[2:] == texts(later)


def test_every_sample_carries_its_end_and_its_tokens(in_process):
    for replies in in_process[: len(LONG)]:
        assert [reply["prompt_tokens"] > 0 for reply in replies] == [True, False, False, False]
        for reply in replies:
            cut = reply["completion_tokens"] == LONG[0]["max_tokens"]
            assert reply["finish_reason"] == ("length" if cut else "stop")
    assert any(reply["finish_reason"] == "length" for reply in in_process[0])


def test_a_request_that_can_never_work_fails_for_good(in_process):
    too_long, several_greedy, greedy = in_process[-3:]
    assert (too_long["error"], too_long["permanent"]) == ("PromptTooLong", True)
    assert (several_greedy["error"], several_greedy["permanent"]) == ("Refused", True)
    assert len(greedy) == 1


def test_a_replica_killed_at_work_loses_nothing_and_changes_nothing(in_process, ask):
    *replies, too_long = ask([*LONG, TOO_LONG], kind="ray", replicas=2, kill=True)
    assert [texts(of_one) for of_one in replies] == [texts(of_one) for of_one in in_process[: len(LONG)]]
    assert {reply["attempts"] for of_one in replies for reply in of_one} == {1, 2}
    assert (too_long["error"], too_long["permanent"]) == ("PromptTooLong", True)


async def test_replicas_for_which_the_cluster_has_no_room_are_waited_for_aloud(monkeypatch, caplog):
    monkeypatch.setattr(ray_engine, "PATIENCE_S", 0.5)
    settings = EngineSettings(kind="ray", model="absent", num_gpus_per_replica=0, num_cpus_per_replica=1000)
    engine = open_engine(settings)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(engine.__aenter__(), 20)
    assert "Each needs 1000 CPUs" in caplog.text
