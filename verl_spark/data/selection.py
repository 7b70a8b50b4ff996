"""From verifications to one record per solution and method; nothing here asks a model.

Which verifications are usable, what they vote and which may be picked is `verification.consensus`."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from verl_spark.data.calls import PROMPTS, solution_id, stage_hash
from verl_spark.data.config import DataConfig
from verl_spark.data.methods import Method
from verl_spark.data.record import Record
from verl_spark.runs.cost import cost_of
from verl_spark.runs.journal import Sample
from verl_spark.runs.problems import Problem
from verl_spark.verification.consensus import pick, vote
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import NOTHING, is_cut, read
from verl_spark.verification.steps import numbered_steps

CUT, NO_STEPS, DUPLICATE = "solution_cut", "solution_no_steps", "solution_duplicate"
"""Reasons not to verify a solution: there is nothing to align marks with, or it is verified already."""
MERGE_UNUSABLE, BALANCE = "merge_unusable", "balance"
"""Reasons to drop a verified one, beside those of its vote (`verification.consensus.Drop`)."""


def steps_of(solution: Sample, seen: Collection[str]) -> int | str:
    """Step count of a generated solution, or the reason not to verify it. `seen` are the texts before it."""
    if is_cut(solution.finish_reason):
        return CUT
    steps = numbered_steps(solution.text)
    if steps is None:
        return NO_STEPS
    return DUPLICATE if solution.text in seen else len(steps)


def dropped(config: DataConfig, method: Method, problem: Problem, solution: str, drop: str) -> Record:
    """The record of a solution that was not verified."""
    return Record(
        method=method.name,
        problem_id=problem.id,
        problem=problem.text,
        solution_id=solution_id(problem.text, solution),
        solution=solution,
        n_steps=None,
        drop=drop,
        verdict=None,
        marks=None,
        text=None,
        picked=None,
        usable=(),
        votes=None,
        yes_votes=0,
        no_votes=0,
        levels_agree=None,
        ballots=(),
        seed=config.seed,
        generator=config.generator.engine.model,
        verifier=config.verifier.engine.model,
        prompts={PROMPTS[stage]: stage_hash(config, stage) for stage in stages(method)},
        prompt_tokens=0,
        completion_tokens=0,
        critic=config.critic_engine.model if method.refined else None,
    )


def select(
    config: DataConfig, method: Method, problem: Problem, solution: str, n_steps: int, samples: Sequence[Sample], n: int
) -> Record:
    """The record of a solution whose verifications are `samples`, for a meta method as far as its pick.

    `n` were asked for; those that are not there failed and still count."""
    if method.level == "single":
        samples, n = samples[:1], 1
    ballots = [read(sample.text, Kind.PRM_COT, sample.finish_reason) for sample in samples]
    ballots += [NOTHING] * (n - len(ballots))
    consensus = vote(ballots, n_steps)
    level = consensus.step if method.level == "step" else consensus.outcome
    record = replace(
        dropped(config, method, problem, solution, ""),
        n_steps=n_steps,
        drop=level.drop.value if level.drop else None,
        usable=consensus.usable,
        votes=consensus.step.votes,
        yes_votes=consensus.yes_votes,
        no_votes=consensus.no_votes,
        levels_agree=consensus.levels_agree,
        ballots=tuple(ballots),
    )
    record = _paid(record, samples)
    if record.drop is not None:
        return record
    picked = pick(level.picks, config.seed, problem.id, record.solution_id)
    verdict, marks = ballots[picked].outcome, ballots[picked].steps
    return replace(record, picked=picked, verdict=verdict, marks=marks, text=samples[picked].text)


def refined(record: Record, critique: Sample | None, merged: Sample | None) -> Record:
    """A meta method's record: its target is the merged verification, or there is none.

    It never falls back to the pick, which would mix two methods in one data set."""
    record = _paid(record, [sample for sample in (critique, merged) if sample is not None])
    reading = NOTHING if merged is None else read(merged.text, Kind.PRM_COT, merged.finish_reason)
    if merged is None or not vote([reading], record.n_steps).usable:
        return replace(record, drop=MERGE_UNUSABLE, verdict=None, marks=None, text=None)
    return replace(record, verdict=reading.outcome, marks=reading.steps, text=merged.text)


def _paid(record: Record, samples: Sequence[Sample]) -> Record:
    cost = cost_of(samples)
    return replace(
        record,
        calls=record.calls + cost.calls,
        prompt_tokens=record.prompt_tokens + cost.prompt_tokens,
        completion_tokens=record.completion_tokens + cost.completion_tokens,
        engine_seconds=round(record.engine_seconds + cost.engine_seconds, 3),
    )


def stages(method: Method) -> tuple[str, ...]:
    """Stages whose calls a method rests on."""
    verifying = "reference" if method.reference else "verify"
    return ("generate", verifying, *(("critique", "merge") if method.refined else ()))
