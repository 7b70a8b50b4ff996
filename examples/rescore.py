"""Where two reward designs part: the stored rollouts of a run, step by step, under both.

    python -m examples.rescore ROLLOUTS [process_aware selective]

ROLLOUTS is the `trainer.rollout_data_dir` of a run. Of every training step the rollout is shown whose advantages the
two designs change most."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from verl_spark.rescoring.config import ScoreConfig
from verl_spark.rescoring.dumps import dump_files, read_steps, stored_run
from verl_spark.rescoring.scoring import Scored, rescore, rescorer
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.verification.policy_format import get_policy_format


def differences(dump: Path, *designs: str) -> Iterator[str]:
    """For each training step the rollout on which two designs differ most, as lines of text."""
    files = dump_files([dump])
    settings = ScoreConfig(designs=designs).settings(stored_run(files))
    with closing(AnswerChecker()) as checker:
        scorers = [rescorer(each, checker) for each in settings.values()]
        for step in read_steps(files):
            one, other = (asyncio.run(rescore(step, each)) for each in scorers)
            yield from _lines(*max(zip(one, other, strict=True), key=_distance))


def _lines(first: Scored, second: Scored) -> Iterator[str]:
    """A rollout under both designs, and its steps."""
    rollout = first.rollout
    yield f"step {rollout.step}, {rollout.uid}: verdict {first.verdict}, reward {first.reward} and {second.reward}"
    bodies = get_policy_format(rollout.policy_format).step_bodies(rollout.response) or ()
    for number, body in enumerate(bodies):
        marks = first.marks or ()
        mark = {1: "right", 0: "wrong"}.get(marks[number], "") if len(marks) == len(bodies) else "?"
        advantages = "  ".join(f"{_of_step(scored, number):+.3f}" for scored in (first, second))
        yield f"  {advantages}  {mark:5}  {body.strip()[:60]}"


def _of_step(scored: Scored, number: int) -> float:
    """Mean advantage of a step's tokens."""
    span = (scored.rollout.spans or ())[number]
    total = sum(a * max(0, min(end, span.end) - max(start, span.start)) for start, end, a in scored.advantages)
    return total / max(1, span.end - span.start)


def _distance(pair: tuple[Scored, Scored]) -> float:
    """Largest difference between a step's advantages."""
    steps = range(len(pair[0].rollout.spans or ()))
    return max((abs(_of_step(pair[0], number) - _of_step(pair[1], number)) for number in steps), default=0.0)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 4):
        sys.exit(__doc__)
    for line in differences(Path(sys.argv[1]), *(sys.argv[2:] or ("process_aware", "selective"))):
        print(line)
