"""The tasks of the examples: ARITHMETIC, which all of them use, and CLOCK, so that nothing is tuned to one alone."""

from examples.chains import Problem, Task

ARITHMETIC = Task(
    name="arithmetic",
    opening="{name} has {number} {thing}.",
    things=("beads", "shells", "coins", "stamps", "nuts", "cards"),
    adding="{} are bought",
    removing="{} are lost",
    doubling="the number doubles",
    question="How many {thing} does {name} have?",
    lowest_start=5,
    highest=49,
    operands=tuple(range(2, 10)),
    period=10,
    dropped=0,
    dropped_carelessly=10,  # the carry is forgotten
    careless_from=7,
    careless_in="+",
)
"""Numbers of things that are bought and lost."""

CLOCK = Task(
    name="clock",
    opening="The clock in {name}'s {thing} shows {number}.",
    things=("kitchen", "hall", "office", "attic", "shop", "cellar"),
    adding="it is put forward {} hours",
    removing="it is put back {} hours",
    doubling="",
    question="What does it show?",
    lowest_start=0,
    highest=23,
    operands=tuple(range(2, 12)),
    period=24,
    dropped=24,
    dropped_carelessly=20,  # 26 becomes 6: the units as with any number
    careless_from=2,
    careless_in="+-",
)
"""Hours of a clock that begins anew after 23."""

TASKS = {task.name: task for task in (ARITHMETIC, CLOCK)}


def read_problem(text: str) -> Problem:
    """The problem whose text stands in `text`, whichever its task. ValueError for a text that tells none."""
    found = next(filter(None, (task.read(text) for task in TASKS.values())), None)
    if found is None:
        raise ValueError(f"no problem of a task ({', '.join(TASKS)}) in {text[:200]!r}")
    return found
