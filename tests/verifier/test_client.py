"""The client against a real local server: bounds, retries, replicas."""

import asyncio

import pytest

from verl_spark.verifier.client import TRIP, CallFailed, Client, Sampling

PROMPT = "Problem:\nTwo and two?\n\nStudent Solution:\nStep 1: 2 + 2 = 4\nAnswer: 4\n\nVerify."
GREEDY = Sampling(max_tokens=64)


async def test_a_reply_carries_text_reason_and_cost(serve):
    async with serve() as (_, url), Client([url], "mock") as client:
        reply = await client.complete(PROMPT, GREEDY)
    assert "Step 1" in reply.text
    assert (reply.finish_reason, reply.attempts) == ("stop", 1)
    assert reply.completion_tokens > 0
    assert reply.seconds > 0


@pytest.mark.parametrize("fault", ["http503", "drop", "not_json"])
async def test_a_passing_fault_is_retried(serve, fault):
    async with serve(fault, "ok") as (mock, url), Client([url], "mock") as client:
        reply = await client.complete(PROMPT, GREEDY)
    assert reply.attempts == 2
    assert mock.served == {fault: 1, "ok": 1}


async def test_a_refused_request_is_not_retried(serve):
    async with serve("http400") as (mock, url), Client([url], "mock") as client:
        with pytest.raises(CallFailed, match="HTTP 400"):
            await client.complete(PROMPT, GREEDY)
    assert mock.served == {"http400": 1}


async def test_attempts_are_bounded(serve):
    async with serve("http503") as (mock, url), Client([url], "mock", attempts=3) as client:
        with pytest.raises(CallFailed, match="503"):
            await client.complete(PROMPT, GREEDY)
    assert mock.served == {"http503": 3}


async def test_a_hung_server_costs_one_deadline_not_a_batch_of_them(serve):
    n = TRIP * 3
    bounds = {"max_concurrency": TRIP, "timeout_s": 0.2, "deadline_s": 0.3}
    async with serve("hang") as (mock, url), Client([url], "mock", **bounds) as client:
        results = await asyncio.gather(*(client.complete(PROMPT, GREEDY) for _ in range(n)), return_exceptions=True)
    assert all(isinstance(result, CallFailed) for result in results)
    assert sum(mock.served.values()) < n + TRIP  # most of the later ones were never sent


async def test_a_server_that_comes_back_is_used_again(serve):
    async with serve(*["http400"] * TRIP, "ok") as (_, url), Client([url], "mock") as client:
        for _ in range(TRIP):
            with pytest.raises(CallFailed):
                await client.complete(PROMPT, GREEDY)
        assert (await client.complete(PROMPT, GREEDY)).finish_reason == "stop"
        assert client._failed_in_a_row == 0


async def test_requests_spread_over_replicas(serve):
    slow = {"latency_s": 0.05}
    async with (
        serve(**slow) as (one, url_1),
        serve(**slow) as (two, url_2),
        Client([url_1, url_2], "mock") as client,
    ):
        await asyncio.gather(*(client.complete(PROMPT, GREEDY) for _ in range(20)))
    assert one.served["ok"] == two.served["ok"] == 10


async def test_a_dead_replica_does_not_lose_requests(serve):
    async with serve() as (mock, url), Client(["http://127.0.0.1:9/v1", url], "mock") as client:
        await asyncio.gather(*(client.complete(PROMPT, GREEDY) for _ in range(10)))
    assert mock.served["ok"] == 10


def test_no_server_is_refused_with_the_cure():
    with pytest.raises(ValueError, match="http://localhost"):
        Client([], "mock")
