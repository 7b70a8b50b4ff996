"""The judge: asks each question once, and calls nothing wrong that was not judged."""

import asyncio

import pytest

from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import read
from verl_spark.verifier.client import Client, Sampling
from verl_spark.verifier.judge import Judge, Question
from verl_spark.verifier.outcome import Cause, Judged, Undecided

QUESTION = Question("Problem:\nTwo and two?\n\nStep 1: 2 + 2 = 4\nAnswer: 4", Kind.PRM_COT)


async def test_a_question_under_way_is_not_asked_again(serve):
    async with serve(latency_s=0.1) as (mock, url), Client([url], "mock") as client:
        judge = Judge(client, Sampling(64))
        answers = await asyncio.gather(*(judge.judge(QUESTION) for _ in range(8)))
        again = await judge.judge(QUESTION)
    assert mock.served["ok"] == 1
    assert sum(answer.cached for answer in answers) == 7
    assert again.cached
    assert {answer.outcome.reading for answer in [*answers, again]} == {answers[0].outcome.reading}
    paid = [answer.outcome for answer in answers if answer.outcome.cost.completion_tokens]
    assert len(paid) == 1  # once, and the text is with the one who paid
    assert [answer.outcome.reply for answer in [*answers, again] if answer.outcome.reply] == [paid[0].reply]
    assert read(paid[0].reply, QUESTION.kind) == paid[0].reading


async def test_sampled_questions_are_asked_each_time(serve):
    async with serve() as (mock, url), Client([url], "mock") as client:
        judge = Judge(client, Sampling(64, temperature=0.8))
        await judge.judge(QUESTION)
        await judge.judge(QUESTION)
    assert mock.served["ok"] == 2


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("cut", Cause.CUT),
        ("garbage", Cause.UNREADABLE),
        ("empty", Cause.UNREADABLE),
        ("http400", Cause.FAILED),
        ("hang", Cause.FAILED),
    ],
)
async def test_what_is_not_judged_keeps_its_cause(serve, fault, cause):
    async with serve(fault) as (_, url), Client([url], "mock", timeout_s=0.2, deadline_s=0.3) as client:
        answer = await Judge(client, Sampling(64)).judge(QUESTION)
    assert isinstance(answer.outcome, Undecided)
    assert answer.outcome.cause is cause
    assert bool(answer.outcome.reply) is (fault in ("cut", "garbage"))


async def test_a_failure_is_asked_again_but_a_cut_is_not(serve):
    async with serve("http400", "ok") as (_, url), Client([url], "mock") as client:
        judge = Judge(client, Sampling(64))
        assert isinstance((await judge.judge(QUESTION)).outcome, Undecided)
        assert isinstance((await judge.judge(QUESTION)).outcome, Judged)
    async with serve("cut", "ok") as (mock, url), Client([url], "mock") as client:
        judge = Judge(client, Sampling(64))
        await judge.judge(QUESTION)
        assert (await judge.judge(QUESTION)).cached
    assert sum(mock.served.values()) == 1


async def test_a_caller_that_leaves_does_not_take_the_answer_with_it(serve):
    async with serve(latency_s=0.2) as (mock, url), Client([url], "mock") as client:
        judge = Judge(client, Sampling(64))
        first = asyncio.create_task(judge.judge(QUESTION))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(judge.judge(QUESTION))
        await asyncio.sleep(0)
        first.cancel()
        assert isinstance((await second).outcome, Judged)
    assert mock.served["ok"] == 1
