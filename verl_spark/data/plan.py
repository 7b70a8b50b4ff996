"""What a run would still ask and cost, before anything is spent."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from verl_spark.data.calls import STAGES, Calls
from verl_spark.data.config import DataConfig
from verl_spark.data.cost import by_stage, price
from verl_spark.data.flow import references_of
from verl_spark.data.way import Way
from verl_spark.runs.calls import Call
from verl_spark.runs.cost import Cost, wall_seconds
from verl_spark.runs.problems import Problem, read_problems
from verl_spark.runs.store import Store

_CHARACTERS_PER_TOKEN = 4
_LOOKED_AT = 50  # problems whose prompts are measured where no call has been made


@dataclass(frozen=True)
class StagePlan:
    """What one stage is still to do."""

    calls: int
    """At most: every solution is taken to be verified, every pick of a meta method to be criticised and merged."""
    cost: Cost
    measured: bool
    """Whether the tokens per call are those of calls that were made; if not, replies are taken to be as long as they
    may."""


@dataclass(frozen=True)
class Plan:
    """What a run is still to do."""

    stages: dict[str, StagePlan]
    price: float | None
    """None while GPU time has a price and nobody knows how long it takes."""
    hours: float | None
    """Of wall time at the pace of the runs so far; None before any."""


async def make_plan(config: DataConfig, store: Store) -> Plan:
    """Counts what is owed. Reads problems and journals, asks no model."""
    owed = await _owed(config, store)
    spent = by_stage(store)
    longest = _longest(config)
    plans = {}
    for stage in STAGES:
        if owed[stage]:
            sample = spent[stage] if spent[stage].calls else longest[stage]
            share = owed[stage] / sample.calls
            tokens = (round(sample.prompt_tokens * share), round(sample.completion_tokens * share))
            cost = Cost(owed[stage], *tokens, sample.engine_seconds * share)
            plans[stage] = StagePlan(owed[stage], cost, measured=bool(spent[stage].calls))
    total = sum((plan.cost for plan in plans.values()), Cost())
    written, wall = sum(cost.completion_tokens for cost in spent.values()), wall_seconds(config.output)
    seconds = wall * total.completion_tokens / written if wall and written else None
    if seconds is None:
        return Plan(plans, None if config.prices.per_gpu_second else price(total, 0.0, config.prices), None)
    return Plan(plans, price(total, seconds, config.prices), seconds / 3600)


async def _owed(config: DataConfig, store: Store) -> Counter[str]:
    """Calls by stage that are owed, those included that nobody can know yet."""
    owed: Counter[str] = Counter()
    plain = any(not method.reference for method in config.chosen)
    guided = config.references if any(method.reference for method in config.chosen) else None
    refined = sum(method.refined for method in config.chosen)

    async def count(call: Call, _: Problem) -> bool:
        missing = store.owed(call)
        owed[call.stage] += missing
        solutions = missing if call.stage == "generate" else 0
        picks = refined * (solutions or (call.stage == "verify" and missing > 0))
        owed["verify"] += solutions * plain * config.verifier.n
        owed["reference"] += solutions * guided.n if guided else 0
        owed["critique"] += picks
        owed["merge"] += picks + (missing if call.stage == "critique" else 0)
        return not missing

    way = Way(config, store, count, config.chosen)
    references = references_of(config)
    for problem in read_problems(config.problems):
        if isinstance(problem, Problem):
            await way.walk(problem, references.get(problem.id), all_records=False)
    return owed


def _longest(config: DataConfig) -> dict[str, Cost]:
    """The cost of one request by stage if every text that is still to be written is as long as it may be."""
    calls = Calls(config)
    first = [found for found in islice(read_problems(config.problems), _LOOKED_AT) if isinstance(found, Problem)]
    solution, verification, critique = (role.max_tokens for role in (config.generator, config.verifier, config.critic))
    guided = config.references.n if config.references else 1

    def cost(make: Callable[[Problem], Call], to_come: int, n: int, reply: int) -> Cost:
        characters = sum(len(make(problem).message()) for problem in first) / max(1, len(first))
        return Cost(n, round(characters / _CHARACTERS_PER_TOKEN) + to_come, n * reply)

    def verify(problem: Problem) -> Call:
        return calls.verify(problem, "", 1)

    return {
        "generate": cost(calls.generate, 0, config.generator.n, solution),
        "verify": cost(verify, solution, config.verifier.n, verification),
        "reference": cost(verify, solution, guided, verification),
        "critique": cost(lambda p: calls.critique(p, "", ""), solution + verification, 1, critique),
        "merge": cost(lambda p: calls.merge(p, "", 1, "", "-"), solution + verification + critique, 1, critique),
    }
