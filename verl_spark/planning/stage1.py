"""What a whole Stage I run asks for, from its first call on; `verl-spark data run --dry-run` says what is owed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, islice

from verl_spark.data.calls import STAGES
from verl_spark.data.config import DataConfig
from verl_spark.data.plan import CHARACTERS_PER_TOKEN, LOOKED_AT, calls_after, longest_replies, request_costs
from verl_spark.planning.earlier import Earlier, models_of
from verl_spark.planning.work import GIVEN, LIMITS, Work, chosen
from verl_spark.runs.problems import Problem, read_problems

PROBLEM = "problem"
LENGTHS = (PROBLEM, *STAGES)
"""Texts whose length in tokens can be given: a problem, and a reply of each stage."""
PROBLEM_TOKENS = 100
"""Of a problem that is not there to be read, unless its length is given; our guess."""
ROLES = ("generator", "verifier", "critic")

_ROLE = dict(zip(STAGES, ("generator", "verifier", "verifier", "critic", "critic"), strict=True))


def plan_stage1(
    config: DataConfig, problems: int | None, lengths: Mapping[str, int], earlier: Earlier | None
) -> list[Work]:
    """The work of each stage that the methods need.

    problems: how many there are, `problems.limit` aside; None reads and counts them.
    lengths: tokens of texts by a name in `LENGTHS`. They go before those of an `earlier` run, and these before the
        longest that are allowed.

    Raises as `read_problems` does."""
    if problems is None:
        found = (one for one in read_problems(config.problems) if isinstance(one, Problem))
        first = list(islice(found, LOOKED_AT))
        count = sum(1 for _ in chain(first, found))
    else:
        count = min(problems, config.problems.limit or problems)
        first = []
    if problems is not None or PROBLEM in lengths:
        first = [Problem("", "x" * (CHARACTERS_PER_TOKEN * lengths.get(PROBLEM, PROBLEM_TOKENS)), "")]
    solutions = count * config.generator.n
    calls = Counter({"generate": solutions}) + calls_after(config, solutions)
    known = earlier.replies if earlier else {}
    replies = {
        stage: chosen(stage, (GIVEN, lengths), ("the earlier run", known), (LIMITS, longest_replies(config)))
        for stage in STAGES
    }
    requests = request_costs(config, first, {stage: tokens for stage, (_, tokens) in replies.items()})
    if earlier:  # the models' own tokens, in place of characters
        requests |= {stage: replace(requests[stage], prompt_tokens=prompt) for stage, prompt in earlier.prompts.items()}
    models = models_of(config)
    return [
        Work(
            name=stage,
            role=_ROLE[stage],
            model=models[_ROLE[stage]],
            calls=calls[stage],
            prompt_tokens=requests[stage].prompt_tokens * calls[stage] // requests[stage].calls,
            reply_tokens=replies[stage][1] * calls[stage],
            source=replies[stage][0],
        )
        for stage in STAGES
        if calls[stage]
    ]
