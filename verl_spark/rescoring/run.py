"""The command `verl-spark score` as a function, and the files it writes."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from verl_spark.files import file_hash, replacing
from verl_spark.rescoring.asking import STAGE, Replies
from verl_spark.rescoring.config import ScoreConfig
from verl_spark.rescoring.dumps import Rollout, dump_files, read_steps, stored_run
from verl_spark.rescoring.scoring import NOT_VERIFIED, Scored, rescore, rescorer
from verl_spark.rescoring.summary import Summary
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.runs.asking import Asked
from verl_spark.runs.store import Store
from verl_spark.settings import SettingsError, without_watching
from verl_spark.verifier.engine import Engine, EngineSettings, open_engine

ROLLOUTS_FILE, RESULT_FILE = "rollouts.jsonl", "result.json"


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    progress: Asked
    summaries: dict[str, Summary] | None = None
    """By design; None while questions are owed: rewards of some rollouts would give other advantages."""
    remarks: tuple[str, ...] = ()


async def run(config: ScoreConfig, dumps: Sequence[Path], report: Callable[[Asked, int], None]) -> Result:
    """Scores the rollouts of `dumps` and writes `rollouts.jsonl`, a row each, and `result.json`.

    `report` gets what was asked so far and the number of rollouts scored. Raises `SettingsError`, `SourceError`,
    `BadRowError` or `JournalError` with what the user can mend."""
    files = dump_files(dumps)
    trained = stored_run(files)
    settings = config.settings(trained)
    by_deviation = config.by_deviation(trained)
    remarks = [*config.remarks(trained, settings)]
    progress, done = Asked(), 0
    (config.output / RESULT_FILE).unlink(missing_ok=True)  # it would pass for the result of this start
    with ExitStack() as opened:
        checker = opened.enter_context(closing(AnswerChecker()))
        scorers = {name: rescorer(each, checker) for name, each in settings.items()}
        ask_of = None
        if config.engine is not None:
            config.claim()
            store = opened.enter_context(Store(config.output, [STAGE], write=True))
            replies = Replies(store, tuple(scorers.values()), config.engine.model, config.seed)
            if await replies.owed(_rollouts(files)):  # else no model is loaded
                async with _open(config.engine) as engine:
                    await replies.ask(_rollouts(files), engine, config.window, progress, lambda: report(progress, 0))
            if progress.failed:
                return Result(progress)
            ask_of = replies.of
        summaries = {name: Summary() for name in settings}
        node = trained and without_watching(trained["reward"]["spark"])
        same = [name for name, each in settings.items() if ask_of is None and without_watching(each.to_node()) == node]
        others: list[Scored] = []
        with replacing(config.output / ROLLOUTS_FILE) as file:
            for step in read_steps(files):
                found = {name: await rescore(step, each, by_deviation, ask_of) for name, each in scorers.items()}
                for index, rollout in enumerate(step):
                    scored = {name: each[index].plain() for name, each in found.items()}
                    place = {"place": rollout.place, "step": rollout.step, "uid": str(rollout.uid)}
                    file.write(json.dumps({**place, "designs": scored}) + "\n")
                for name, each in found.items():
                    summaries[name].add(each)
                others += (one for name in same for one in found[name] if one.reward != one.rollout.reward)
                done += len(step)
                report(progress, done)
    if others:
        remarks.append(
            f"{len(others)} rollouts have another reward than in training, the first {others[0].rollout.place}: "
            "another version dumped them, or a design of your own has changed since."
        )
    unverified = {name: summary.missing[NOT_VERIFIED] for name, summary in summaries.items()}
    if any(unverified.values()):
        counts = ", ".join(f"{name} {n}" for name, n in unverified.items() if n)
        remarks.append(
            f"Rollouts that nobody verified, as the run did not ask about them: {counts}. They count as missing, so "
            "their groups' advantages are not those of a training with that design; --ask a verifier about them."
        )
    result = {
        "designs": {name: summary.plain() for name, summary in summaries.items()},
        "settings": {name: each.to_node() for name, each in settings.items()},
        "norm_adv_by_std_in_grpo": by_deviation,
        "asked": config.engine and config.engine.model,
        "files": {str(path): file_hash(path) for path in files},
        "remarks": remarks,
    }
    with replacing(config.output / RESULT_FILE) as file:
        json.dump(result, file, indent=2)
    return Result(progress, summaries, tuple(remarks))


def _rollouts(files: Sequence[Path]) -> Iterator[Rollout]:
    return (rollout for step in read_steps(files) for rollout in step)


def _open(settings: EngineSettings) -> Engine:
    try:
        return open_engine(settings)
    except ValueError as error:
        raise SettingsError([f"engine.{error}"]) from None
