"""Judging items: asked once each, kept as they come, and gone on with after any stop.

    async with open_engine(settings) as engine:
        run = await evaluate(items, StepVerifier(Kind.PRM_COT), engine, folder, model="my-prm")
    if not run.owed:
        print(score(run.judgements).f1)

The items may be those of any task."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.prediction import Prediction
from verl_spark.evaluation.verifiers import Verifier
from verl_spark.runs.asking import Asked, Asker, in_window
from verl_spark.runs.calls import Call, make_call
from verl_spark.runs.cost import Cost, Stopwatch, paid
from verl_spark.runs.journal import Sample
from verl_spark.runs.store import Store
from verl_spark.verifier.client import Sampling
from verl_spark.verifier.engine import Engine
from verl_spark.verifier.outcome import Cause

STAGE = "judge"
"""Kind of the calls; the replies lie in `calls/judge.jsonl`."""
WINDOW = 256
"""Items in flight where nobody says otherwise."""


@dataclass
class Progress(Asked):
    """What a run has done so far."""

    items: int = 0
    """Calls seen to: answered now or before, or failed. Who judges solutions makes one for each item."""


@dataclass(frozen=True)
class Answered:
    """What came of some calls."""

    replies: tuple[tuple[Sample, ...] | None, ...]
    """Of each call, in their order: none if it failed for good, None while it is owed."""
    progress: Progress
    cost: Cost
    """Of all calls in the folder, those of earlier starts included."""

    @property
    def owed(self) -> int:
        """Calls whose replies are not all there and may still come."""
        return self.replies.count(None)


@dataclass(frozen=True)
class Judgement:
    """An item with the replies about it and what they come to."""

    item: Item
    replies: tuple[Sample, ...]
    prediction: Prediction

    @property
    def match(self) -> bool:
        """Whether the prediction is the label."""
        return self.prediction.index == self.item.label


@dataclass(frozen=True)
class Evaluation:
    """What a run came to."""

    judgements: tuple[Judgement, ...]
    """In the order of the items; those that are owed are left out."""
    owed: int
    """Items whose replies are not all there and may still come."""
    progress: Progress
    cost: Cost
    """Of all calls in the folder, those of earlier starts included."""


async def evaluate(
    items: Sequence[Item],
    verifier: Verifier,
    engine: Engine | None,
    folder: Path,
    model: str,
    sampling: Sampling | None = None,
    n: int = 1,
    seed: int = 0,
    window: int = WINDOW,
    report: Callable[[Progress], None] = lambda _: None,
) -> Evaluation:
    """Asks `n` replies about each item that has none yet in `folder`, of any task, and judges all.

    Greedy with the verifier's own limit unless `sampling` says otherwise. `model` names the model in the keys of the
    calls: another name asks anew. Without an `engine` nothing is asked, and only what is there is judged. Requests that
    failed in a way that may pass are owed; one that cannot succeed gives no prediction. Raises `JournalError` while
    another run works in the folder."""
    drawn = sampling or Sampling(verifier.max_tokens)

    def call_of(item: Item) -> Call:
        request = verifier.request(item)
        return make_call(STAGE, n, drawn, seed, lambda: request, request, prompt=verifier.prompt_hash, model=model)

    calls = [(f"{item.subset}/{item.id}", call_of(item)) for item in items]
    done = await ask_all(calls, [STAGE], engine, folder, window, report)
    pairs = zip(items, done.replies, strict=True)
    found = tuple(judge(item, verifier, replies) for item, replies in pairs if replies is not None)
    return Evaluation(found, done.owed, done.progress, done.cost)


async def ask_all(
    calls: Sequence[tuple[str, Call]],
    stages: Sequence[str],
    engine: Engine | None,
    folder: Path,
    window: int = WINDOW,
    report: Callable[[Progress], None] = lambda _: None,
) -> Answered:
    """Asks what is owed of the calls, each with the name of its place, and gives all that is there.

    `stages` are those of the calls. Without an `engine` nothing is asked. Raises `JournalError` while another run works
    in the folder."""
    progress = Progress()
    with Store(folder, stages, write=True) as store:
        engines = dict.fromkeys(stages, engine) if engine else {}
        asker = Asker(store, engines, engines.keys(), progress, lambda: report(progress))

        async def see_to(place: str, call: Call) -> None:
            await asker.ask(call, place)
            progress.items += 1
            report(progress)

        async def works() -> AsyncIterator[Coroutine[Any, Any, None]]:
            for place, call in calls:
                yield see_to(place, call)

        watch = Stopwatch(folder)
        try:
            await in_window(works(), window, watch.tick)
        finally:
            watch.stop()
        replies = tuple(None if store.owed(call) else tuple(store.samples(call)) for _, call in calls)
        return Answered(replies, progress, sum(map(paid, store.journals.values()), Cost()))


class _Owing(Protocol):
    @property
    def owed(self) -> int: ...


_Done = TypeVar("_Done", bound=_Owing)


async def with_engine_if_owed(ask: Callable[[Engine | None], Awaitable[_Done]], make: Callable[[], Engine]) -> _Done:
    """What `ask` comes to. No engine is made, and so no model loaded, unless something is owed without one."""
    done = await ask(None)
    if done.owed:
        async with make() as engine:
            done = await ask(engine)
    return done


def judge(item: Item, verifier: Verifier, replies: Sequence[Sample]) -> Judgement:
    """What replies say about an item; without any, the call failed for good."""
    prediction = verifier.predict(item, replies) if replies else Prediction(None, Cause.FAILED.value)
    return Judgement(item, tuple(replies), prediction)
