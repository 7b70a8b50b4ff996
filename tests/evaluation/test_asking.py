"""From Python: any verifier with the interface, any items, any engine."""

import itertools
from dataclasses import dataclass

from tests.evaluation.made import item
from verl_spark.evaluation.asking import evaluate
from verl_spark.evaluation.metric import score
from verl_spark.evaluation.prediction import Prediction
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.verification.kinds import Kind
from verl_spark.verification.writing import write
from verl_spark.verifier.client import CallFailed, Reply


@dataclass(frozen=True)
class Loudest:
    """A verifier of someone else: the step that the model shouts."""

    prompt_hash: str = "shout"
    max_tokens: int = 7
    locates: bool = True
    votes: bool = False

    def request(self, item):
        return f"Which of {', '.join(item.steps)}?"

    def predict(self, item, replies):
        loud = [place for place, step in enumerate(item.steps) if step.upper() in replies[0].text]
        return Prediction(loud[0] if loud else -1)


class Engine:
    """Answers by a function; every second request fails if it is `shaky`."""

    def __init__(self, answer, shaky=False):
        self.answer, self.shaky, self.requests, self.sent = answer, shaky, [], itertools.count(1)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def sample(self, message, sampling, n):
        if self.shaky and next(self.sent) % 2 == 0:
            raise CallFailed("no")
        self.requests.append((message, sampling.max_tokens, sampling.temperature))
        return [Reply(self.answer(message), "stop", 5, 2, 0.5, 1)]


ITEMS = [item(1, name="a"), item(-1, name="b"), item(2, name="c", n_steps=4)]


async def test_a_verifier_and_an_engine_of_ones_own(tmp_path):
    engine = Engine(lambda message: "SO 1. it is" if "3" in message else "nothing")
    items = [item(1, name=str(number), n_steps=number) for number in (4, 5)] + [item(-1, name="c")]
    found = await evaluate(items, Loudest(), engine, tmp_path, "theirs")
    assert [one.prediction.index for one in found.judgements] == [1, 1, -1]
    assert score(found.judgements).f1.mean == 1
    assert {request[1:] for request in engine.requests} == {(7, 0.0)}
    assert (found.cost.calls, found.cost.prompt_tokens, found.cost.completion_tokens) == (3, 15, 6)


async def test_a_shaky_engine_is_asked_until_all_is_there_and_no_more(tmp_path):
    engine = Engine(lambda message: write(Kind.PRM_COT, [1, 0, 1], False), shaky=True)
    verifier = StepVerifier(Kind.PRM_COT)
    starts, owed = 0, 1
    while owed:
        found = await evaluate(ITEMS, verifier, engine, tmp_path, "m")
        owed, starts = found.owed, starts + 1
        assert len(found.judgements) == 3 - owed
    assert starts > 1
    assert len(engine.requests) == len(set(engine.requests)) == 3
    assert [one.prediction.index for one in found.judgements] == [1, 1, None]
    assert (await evaluate(ITEMS, verifier, None, tmp_path, "m")).judgements == found.judgements
    assert (await evaluate(ITEMS, verifier, None, tmp_path / "new", "m")).owed == 3
    # Another model and another way to draw are other calls, in the same folder.
    await evaluate(ITEMS, verifier, Engine(engine.answer), tmp_path, "m")
    other = Engine(engine.answer)
    await evaluate(ITEMS, verifier, other, tmp_path, "other")
    assert len(other.requests) == 3


async def test_the_same_texts_under_two_names_are_one_call(tmp_path):
    engine = Engine(lambda message: write(Kind.PRM, [1, 1, 1], True))
    twice = [item(-1, name="a", problem="p?"), item(0, name="b", problem="p?")]
    found = await evaluate(twice, StepVerifier(Kind.PRM), engine, tmp_path, "m")
    assert len(engine.requests) == 1
    assert [one.match for one in found.judgements] == [True, False]
