"""The command `verl-spark eval math` as a function, and the files it writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from verl_spark.evaluation.asking import Answered, Progress, ask_all, with_engine_if_owed
from verl_spark.evaluation.contamination import Overlap, find_overlap
from verl_spark.evaluation.items import Items
from verl_spark.evaluation.policy.answers import Marker, readable
from verl_spark.evaluation.policy.benchmarks import Task, read_tasks
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.evaluation.policy.metric import Attempt, BenchmarkScore, Score, Solved, score
from verl_spark.evaluation.results import begin, contamination, in_percent, kept, write_results
from verl_spark.rewards.majority import vote
from verl_spark.runs.calls import Call, digest, make_call
from verl_spark.runs.cost import wall_seconds
from verl_spark.runs.journal import Sample
from verl_spark.verification.boxes import last_box
from verl_spark.verification.prompts import policy_message
from verl_spark.verifier.engine import Engine
from verl_spark.versions import versions

GREEDY, SAMPLED = "greedy", "sampled"
"""Kinds of calls; their replies lie in `calls/<kind>.jsonl`."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    progress: Progress
    score: Score | None = None
    """None while calls are owed: a score of some problems would be another number."""
    overlap: Overlap | None = None
    without_overlap: Score | None = None


async def run(config: MathConfig, report: Callable[[Progress, int], None]) -> Result:
    """Asks every call that is owed and, when none is left, checks the answers and writes both files.

    `report` gets the progress and the number of all calls. Raises `SettingsError`, `SourceError`, `ItemsError` or
    `JournalError` with what the user can mend."""
    tasks = read_tasks(config.data)
    overlap = None
    if config.training_data:
        overlap = find_overlap(tasks.items, config.training_data, config.training_field)
    begin(config)
    calls = [(f"{task.subset}/{task.id}", call) for task in tasks.items for call in _calls(config, task)]

    def told(progress: Progress) -> None:
        report(progress, len(calls))

    async def ask(engine: Engine | None) -> Answered:
        return await ask_all(calls, (GREEDY, SAMPLED), engine, config.output, config.window, told)

    done = await with_engine_if_owed(ask, config.policy.open)
    if done.owed:
        return Result(done.progress)
    solved = _solved(config, tasks.items, [replies or () for replies in done.replies])
    rest = None
    if overlap is not None:
        rest = score([one for one in solved if not overlap.holds(one.task)], config.seed)
    result = Result(done.progress, score(solved, config.seed), overlap, rest)
    write_results(config.output, map(_item, solved), _result(config, tasks, result, done))
    return result


def _calls(config: MathConfig, task: Task) -> Iterator[Call]:
    """The greedy call about a problem, and the sampled one if it is wanted."""
    message = policy_message(task.problem, config.policy.instruction)
    for stage, n, sampling in (
        (GREEDY, 1, config.greedy),
        (SAMPLED, config.sampled.size(task.subset), config.drawn),
    ):
        if n:
            yield make_call(
                stage,
                n,
                sampling,
                config.seed,
                lambda: message,
                message,
                prompt=config.policy.prompt_hash,
                model=config.policy.engine.model,
            )


def _solved(config: MathConfig, tasks: Sequence[Task], replies: Sequence[Sequence[Sample]]) -> list[Solved]:
    """The problems with what was replied to them, marked; the replies come in the order of the calls."""
    asked, calls = [], iter(replies)
    for task in tasks:
        k = config.sampled.size(task.subset)
        greedy, sampled = next(calls), next(calls) if k else ()
        elected = vote(answer and readable(answer) for answer in map(_answer, sampled)).label
        asked.append((task, k, greedy, sampled, elected))
    marker = Marker(
        ((answer, task.reference) for task, _, *found, elected in asked for answer in (*_answers(*found), elected)),
        config.checkers,
    )

    def attempt(task: Task, reply: Sample) -> Attempt:
        return Attempt(reply, marker.verdict(_answer(reply), task.reference))

    return [
        Solved(
            task,
            attempt(task, greedy[0]) if greedy else None,
            k,
            tuple(attempt(task, reply) for reply in sampled),
            marker.verdict(elected, task.reference),
        )
        for task, k, greedy, sampled, elected in asked
    ]


def _answer(reply: Sample) -> str | None:
    return last_box(reply.text)


def _answers(*replies: Sequence[Sample]) -> Iterator[str | None]:
    for each in replies:
        yield from map(_answer, each)


def _item(solved: Solved) -> dict[str, Any]:
    task = solved.task
    return {
        "benchmark": task.subset,
        "id": task.id,
        "problem_sha256": digest([task.problem]),
        "reference": task.reference,
        "greedy": _attempt(solved.greedy) if solved.greedy else None,
        "k": solved.k,
        "sampled": [_attempt(one) for one in solved.sampled],
        "majority": solved.majority._asdict() if solved.k else None,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {**kept(attempt.reply), **attempt.verdict._asdict()}


def _result(config: MathConfig, tasks: Items[Task], result: Result, done: Answered) -> dict[str, Any]:
    policy = config.policy
    return {
        **(_score(result.score) or {}),
        "contamination": contamination(config.training_data, result.overlap, _score(result.without_overlap)),
        "policy": {
            "model": policy.engine.model,
            "prompt": policy.prompt,
            "prompt_sha256": policy.prompt_hash,
            "greedy": asdict(config.greedy),
            "sampled": asdict(config.drawn),
            "seed": config.seed,
        },
        "data": {
            "path": config.data.path,
            "problems": len(tasks.items),
            "problems_sha256": tasks.content_hash,
            "files": tasks.files,
        },
        "cost": {**asdict(done.cost), "wall_seconds": round(wall_seconds(config.output), 3)},
        "versions": versions(),
        "config": config.model_dump(mode="json"),
    }


def _score(score: Score | None) -> dict[str, Any] | None:
    """Scores in percent; counts of problems and replies as they are."""
    if score is None:
        return None
    means = {name: in_percent(getattr(score, name)) for name in ("greedy", "avg", "majority")}
    return {"mean_of_six": means, "benchmarks": {name: _benchmark(one) for name, one in score.benchmarks.items()}}


def _benchmark(one: BenchmarkScore) -> dict[str, Any]:
    return {
        "problems": one.problems,
        "k": one.k,
        "greedy": in_percent(one.greedy),
        "avg_at_k": in_percent(one.avg),
        "pass_at": {str(j): in_percent(passed) for j, passed in one.passed.items()},
        "maj_at_k": in_percent(one.majority),
        "ties": one.ties,
        "greedy_faults": one.greedy_faults,
        "sampled_faults": one.sampled_faults,
    }
