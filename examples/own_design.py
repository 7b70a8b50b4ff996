"""A reward design of one's own, beside two that are built in.

    python -m examples.own_design                                            # rewards of made verifications
    python -m verl.trainer.main_ppo … reward_model=spark_prmcot reward.spark.design=examples.own_design:PREFIX

`step_average` pays for right steps wherever they stand, also behind an error. PREFIX pays for the way to the first
error only. A module with a design has to be importable in every process: install it, or set PYTHONPATH."""

from dataclasses import dataclass

from verl_spark.rewards.designs import STEP_KINDS, Design, Scored, State, get_design, step_marks
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading, read
from verl_spark.verification.writing import write


@dataclass(frozen=True)
class Prefix(Design):
    """r = V·j/n, where the first wrong step comes after j right ones; j = n if none is wrong.

    Format gate and missing verdicts are seen to by `Design`. Marks for another number of steps say nothing of these:
    the reward is then missing, never 0."""

    def judged(self, n_steps: int | None, reading: Reading, verdict: float) -> Scored:
        marks = step_marks(n_steps, reading)
        if marks is None:
            return Scored(State.STEP_MISMATCH, None)
        return Scored(State.OK, (*marks, 0).index(0) / len(marks), marks)


PREFIX = Prefix("prefix", STEP_KINDS)

COMPARED = ("examples.own_design:PREFIX", "step_average", "process_aware")
STEPS = 4
"""Of the solution that the verifications below are about."""


def made(*marks: int, finish_reason: str = "stop", verdict: bool | None = None) -> Reading:
    """What is read in a verification with these marks, and with the verdict that follows from them unless given."""
    text = write(Kind.PRM_COT, marks, all(marks) if verdict is None else verdict)
    return read(text, Kind.PRM_COT, finish_reason)


MADE = {
    "every step right": made(1, 1, 1, 1),
    "last step wrong": made(1, 1, 1, 0),
    "second step wrong": made(1, 0, 1, 1),
    "first step wrong": made(0, 1, 1, 1),
    "verdict No, no step wrong": made(1, 1, 1, 1, verdict=False),
    "a mark too few": made(1, 1, 1),
    "verification cut": made(1, 1, 1, 1, finish_reason="length"),
}


def rewards() -> dict[str, list[float | None]]:
    """The rewards of each made verification under the designs of `COMPARED`; None is missing."""
    designs = [get_design(name) for name in COMPARED]
    return {name: [design.score(True, STEPS, reading).reward for design in designs] for name, reading in MADE.items()}


if __name__ == "__main__":
    for name, row in {"": COMPARED, **rewards()}.items():
        print(f"{name:25}", *(f"{'missing' if cell is None else cell!s:26}" for cell in row))
