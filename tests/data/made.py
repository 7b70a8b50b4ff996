"""Records for the tests of what is made from records."""

from dataclasses import replace

from verl_spark.data.record import Record
from verl_spark.verification.consensus import vote
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading
from verl_spark.verification.writing import write


def consistent(*marks: int) -> Reading:
    return Reading(all(marks), marks)


def record(marks=(1, 0), problem_id="p0", solution_id=None, method="step", thinking="hm", answer="9", ballots=None):
    """A kept record of a solution with as many steps as marks, whose pick states these marks."""
    steps = "\n".join(f"Step {number}: so {number}" for number in range(1, len(marks) + 1))
    text = write(Kind.PRM_COT, marks, all(marks))
    ballots = tuple(ballots or [consistent(*marks)])
    found = vote(ballots, len(marks))
    return Record(
        method=method,
        problem_id=problem_id,
        problem=f"How many in {problem_id}?",
        solution_id=solution_id or f"{problem_id}-{answer}",
        solution=f"{steps}\n\nAnswer: ${answer}$",
        n_steps=len(marks),
        drop=None,
        verdict=all(marks),
        marks=tuple(marks),
        text=f"<think>\n{thinking}\n</think>\n\n{text}" if thinking else text,
        picked=0,
        usable=found.usable,
        votes=found.step.votes,
        yes_votes=found.yes_votes,
        no_votes=found.no_votes,
        levels_agree=found.levels_agree,
        ballots=ballots,
        seed=0,
        generator="generator",
        verifier="verifier",
        prompts={},
        prompt_tokens=0,
        completion_tokens=0,
    )


def dropped(record: Record, reason: str) -> Record:
    return replace(record, drop=reason, verdict=None, marks=None, text=None, picked=None)
