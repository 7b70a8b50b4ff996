"""The study's own tiny models: the policies that its arms start from. The others are those of the examples."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples import chains, hacking
from examples.chains import Split, Task
from examples.tasks import ARITHMETIC
from examples.teaching import cached, key, teach
from examples.tiny_models import Recipe, policy_message
from recipes.miniature.config import PolicyName

LESSONS = replace(Recipe().policy, seed=4)
SLIP_SHARE = Recipe().slip_share
FORGETS = "+-"
"""In which operations the teacher slips: so that a policy that always follows starts well below 70 %."""

Report = Callable[[str], None]
Pairs = list[tuple[str, str]]


def policy(name: PolicyName, cache: Path, base: Path, report: Report, task: Task = ARITHMETIC) -> Path:
    """The policy of this name, taught unless the cache has it."""
    appended = hacking.APPENDED if name is PolicyName.APPENDING else 0.0

    def make(draft: Path) -> dict[str, Any]:
        taught = teach(f"policy, {name.value}", pairs(appended, task), base, LESSONS, draft, report)
        return {**taught, "slip_share": SLIP_SHARE, "forgets": FORGETS, "appended": appended, "split": Split.POLICY}

    name_ = key(task, base.name, LESSONS, SLIP_SHARE, FORGETS, appended, code=(chains, hacking))
    return cached(cache / f"miniature-{name.value}-{name_}", make, report)


def pairs(appended: float, task: Task = ARITHMETIC) -> Pairs:
    """What a policy is taught: solutions of someone who forgets to carry and to borrow, this share with an appendix."""
    rng = random.Random(LESSONS.seed)
    found = []
    for problem in task.problems(Split.POLICY, LESSONS.examples, LESSONS.seed):
        solution = chains.careless_solution(problem, SLIP_SHARE, rng, FORGETS).text()
        found.append(
            (policy_message(problem.text), solution + (hacking.appendix(rng, task) if rng.random() < appended else ""))
        )
    return found
