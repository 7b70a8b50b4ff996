"""What a run would still ask and cost, before anything is spent."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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

CHARACTERS_PER_TOKEN = 4
"""By which texts are turned into tokens before any model has counted them."""
LOOKED_AT = 50
"""Problems whose prompts are measured where no call has been made."""


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
    first = [found for found in islice(read_problems(config.problems), LOOKED_AT) if isinstance(found, Problem)]
    longest = request_costs(config, first, longest_replies(config))
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


def calls_after(config: DataConfig, solutions: int) -> Counter[str]:
    """Calls by stage to which so many solutions lead at most: each is verified, each pick criticised and merged."""
    plain = any(not method.reference for method in config.chosen)
    guided = any(method.reference for method in config.chosen) and config.references
    picks = solutions * _picks(config)
    verifications = {
        "verify": solutions * config.verifier.n if plain else 0,
        "reference": solutions * guided.n if guided else 0,
    }
    return Counter(verifications | {"critique": picks, "merge": picks})


def _picks(config: DataConfig) -> int:
    """Picks of a solution that are criticised and merged."""
    return sum(method.refined for method in config.chosen)


async def _owed(config: DataConfig, store: Store) -> Counter[str]:
    """Calls by stage that are owed, those included that nobody can know yet."""
    owed: Counter[str] = Counter()

    async def count(call: Call, _: Problem) -> bool:
        missing = store.owed(call)
        owed[call.stage] += missing
        if call.stage == "generate":
            owed.update(calls_after(config, missing))
        elif call.stage == "verify" and missing:
            owed.update(dict.fromkeys(("critique", "merge"), _picks(config)))
        elif call.stage == "critique":
            owed["merge"] += missing
        return not missing

    way = Way(config, store, count, config.chosen)
    references = references_of(config)
    for problem in read_problems(config.problems):
        if isinstance(problem, Problem):
            await way.walk(problem, references.get(problem.id), all_records=False)
    return owed


def longest_replies(config: DataConfig) -> dict[str, int]:
    """Tokens that a reply may have, by stage."""
    verification, critique = config.verifier.max_tokens, config.critic.max_tokens
    longest = {"generate": config.generator.max_tokens, "verify": verification, "reference": verification}
    return longest | {"critique": critique, "merge": critique}


def request_costs(config: DataConfig, problems: Sequence[Problem], replies: Mapping[str, int]) -> dict[str, Cost]:
    """The cost of one request by stage, for problems such as these and if every reply has as many tokens as `replies`
    says by stage; a prompt holds the replies that it shows."""
    calls = Calls(config)
    solution, critique = replies["generate"], replies["critique"]
    shown = solution + replies["verify"]
    guided = config.references.n if config.references else 1

    def cost(stage: str, make: Callable[[Problem], Call], to_come: int, n: int) -> Cost:
        characters = sum(len(make(problem).message()) for problem in problems) / max(1, len(problems))
        return Cost(n, round(characters / CHARACTERS_PER_TOKEN) + to_come, n * replies[stage])

    def verify(problem: Problem) -> Call:
        return calls.verify(problem, "", 1)

    return {
        "generate": cost("generate", calls.generate, 0, config.generator.n),
        "verify": cost("verify", verify, solution, config.verifier.n),
        "reference": cost("reference", verify, solution, guided),
        "critique": cost("critique", lambda p: calls.critique(p, "", ""), shown, 1),
        "merge": cost("merge", lambda p: calls.merge(p, "", 1, "", "-"), shown + critique, 1),
    }
