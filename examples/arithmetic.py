"""The demonstration's task: chains of two or three small operations, told in words.

    Mia has 12 beads. On Monday 5 are found. On Tuesday the number doubles. How many beads does Mia have?

A program knows the truth of every step, so that a policy's gain and a verifier's agreement can be measured. The
text is the only source of a problem: `read_problem` takes it back from a prompt, and `judge` knows from it the
truth of any solution that states its steps as `On Monday 5 are found. a op b = c`. Saying the sentence again
is how a small model finds the operation: it copies from the day on.

Splits are disjoint by construction: a hash of the chain, whatever words tell it, decides which split a problem
belongs to."""

import hashlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import repeat
from typing import Any, Protocol

from verl_spark.verification.kinds import Kind
from verl_spark.verification.markers import heading
from verl_spark.verification.policy_format import write_tags
from verl_spark.verification.writing import write

HIGHEST = 49
"""Every value of a chain lies in 0..HIGHEST."""
CHAIN_LENGTHS = (2, 3)
OPERANDS = range(2, 10)
"""What is added or taken away in one operation."""
DATA_SOURCE = "spark_arithmetic"

LARGE = 7
"""Operands from here on are those that `careless_solution` is careless with."""

NAMES = ("Mia", "Tom", "Ida", "Ben", "Zoe", "Max")
THINGS = ("beads", "shells", "coins", "stamps", "nuts", "cards")
ADDING, REMOVING = "bought", "lost"

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
"""When the operations happen, in order."""

SURPLUS = "Sunday"
"""Day of a step beyond the chain, on which nothing happens."""
NO_STEP = f"On {SURPLUS} nothing happens."

Rule = Callable[[int], int]
"""From a value to what someone takes for the result of an operation."""

_STEP = re.compile(r".*\. (\d+ [-+*] \d+ = \d+)")
NOTHING = "nothing"
_OPENING = re.compile(rf"({'|'.join(NAMES)}) has (\d+) ({'|'.join(THINGS)})\.")
_SENTENCE = re.compile(rf"On \w+ (?:(\d+) are ({'|'.join((ADDING, REMOVING))})|the number doubles)\.")


class Split(str, Enum):
    """What a problem is used for; no problem is used for two things."""

    POLICY = "policy"
    """Teaching the policy its format."""
    BASE = "base"
    """Teaching the base model."""
    GENERATOR = "generator"
    """Teaching the generator of Stage I."""
    VERIFIER = "verifier"
    """Teaching the verifier of Stage I."""
    CRITIC = "critic"
    """Teaching the critic of Stage I."""
    DATA = "data"
    """Problems that Stage I makes data from."""
    TRAIN = "train"
    """Reinforcement learning."""
    HELD_OUT = "held_out"
    """Measuring, and nothing else."""


@dataclass(frozen=True)
class Operation:
    """One link of the chain: `symbol` is +, - or *."""

    symbol: str
    operand: int

    def apply(self, value: int) -> int:
        """The right result."""
        return {"+": value + self.operand, "-": value - self.operand, "*": value * self.operand}[self.symbol]

    def without_carry(self, value: int) -> int:
        """The result of someone who forgets to carry or to borrow; the right one where there is nothing to carry."""
        tens, units = value // 10, Operation(self.symbol, self.operand).apply(value % 10)
        return (tens * self.operand if self.symbol == "*" else tens) * 10 + units % 10


DOUBLING = Operation("*", 2)


@dataclass(frozen=True)
class Step:
    """One step of a solution: `value op operand = result`, right or wrong."""

    value: int
    operation: Operation
    result: int

    def __str__(self) -> str:
        return f"{self.value} {self.operation.symbol} {self.operation.operand} = {self.result}"


@dataclass(frozen=True)
class Problem:
    """A chain and the words that tell it."""

    start: int
    operations: tuple[Operation, ...]
    sentences: tuple[str, ...]
    """The words of each operation."""
    text: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """The right steps."""
        return _follow(self.start, self.operations, [operation.apply for operation in self.operations])

    @property
    def answer(self) -> int:
        """The right answer."""
        return self.steps[-1].result

    @property
    def split(self) -> Split:
        """The split this chain belongs to."""
        chain = " ".join([str(self.start), *(f"{op.symbol}{op.operand}" for op in self.operations)])
        return tuple(Split)[hashlib.sha256(chain.encode()).digest()[0] % len(Split)]


@dataclass(frozen=True)
class Solution:
    """Steps and the answer they lead to."""

    problem: Problem
    steps: tuple[Step, ...]
    answer: int
    sentences: tuple[str, ...] = ()
    """What the steps say before their equations; empty: what the problem says."""

    def text(self) -> str:
        """The solution in SPARK's tag format, as the policy should write it."""
        return write_tags(self._lines(), str(self.answer))

    def numbered(self) -> str:
        """The solution in numbered steps with an answer line, as the generator of Stage I should write it."""
        lines = [f"Step {number}: {line}\n" for number, line in enumerate(self._lines(), 1)]
        return "".join([*lines, f"Answer: {self.answer}"])

    def _lines(self) -> list[str]:
        return _told(self.sentences or self.problem.sentences, self.steps)


class SolutionFormat(Protocol):
    """How a solution's text states its steps and its answer."""

    def step_bodies(self, text: str) -> list[str] | None:
        """What each step says; None without step structure."""
        ...

    def answer(self, text: str) -> str | None:
        """The stated answer, None if there is none."""
        ...


@dataclass(frozen=True)
class Truth:
    """The truth about a solution."""

    marks: tuple[int, ...]
    """1 for a right step, 0 for a wrong one."""
    stated: tuple[str, ...]
    """The equation that each step states, as it is written; `NOTHING` for one that states none."""
    complete: bool
    """Whether there are as many steps as operations."""
    answer_right: bool

    @property
    def verdict(self) -> bool:
        """Whether the answer is right and was reached by right steps: what a verifier should say."""
        return self.answer_right and self.complete and all(self.marks)

    @property
    def first_error(self) -> int | None:
        """Index of the first wrong step, None without one."""
        return self.marks.index(0) if 0 in self.marks else None


def problems(split: Split, count: int, seed: int) -> list[Problem]:
    """`count` problems of this split, no two with the same text; the same for the same arguments."""
    rng = random.Random(f"{split.value}-{seed}")
    found: dict[str, Problem] = {}
    while len(found) < count:
        problem = _draw(rng)
        if problem.split is split:
            found.setdefault(problem.text, problem)
    return list(found.values())


def read_problem(text: str) -> Problem:
    """The problem whose text stands in `text`, which may go on with other matter, such as a format instruction.

    ValueError for a text that tells no problem of this task."""
    opening = _OPENING.search(text)
    if opening is None:
        raise ValueError(f"no problem of {DATA_SOURCE} in {text[:200]!r}")
    name, start, things = opening.groups()
    told = []
    cursor = opening.end()
    while (sentence := _SENTENCE.match(text, cursor + 1)) is not None:
        told.append((_operation(sentence), sentence[0]))
        cursor = sentence.end()
    return _tell(name, int(start), things, told)


def right_solution(problem: Problem) -> Solution:
    """The solution without an error."""
    return Solution(problem, problem.steps, problem.answer)


def careless_solution(problem: Problem, slip_share: float, rng: random.Random, symbols: str = "+") -> Solution:
    """A solution that forgets to carry in this share of the additions of `LARGE` or more where that is needed, and to
    borrow in as many subtractions with `symbols="+-"`.

    Later steps go on from the wrong value. Slips that would lead the chain out of 0..HIGHEST are not made, the
    last ones first."""

    slips = [op.symbol in symbols and op.operand >= LARGE and rng.random() < slip_share for op in problem.operations]
    while True:
        rules = [op.without_carry if slip else op.apply for op, slip in zip(problem.operations, slips, strict=True)]
        steps = _follow(problem.start, problem.operations, rules)
        if all(map(_in_range, steps)):
            return Solution(problem, steps, steps[-1].result)
        slips[len(slips) - 1 - slips[::-1].index(True)] = False  # without any slip the chain stays in range


def misreading_solution(problem: Problem, share: float, rng: random.Random) -> Solution:
    """A solution that misreads about this share of the sentences: the other verb for the one that stands there, or
    another number.

    Later steps go on from the wrong value. Misreadings that lead the chain out of 0..HIGHEST are not made."""
    value, steps, sentences = problem.start, [], []
    for day, right, told in zip(DAYS, problem.operations, problem.sentences, strict=False):
        read = _misread(right, rng) if rng.random() < share else right
        step = Step(value, read, read.apply(value))
        if not _in_range(step):
            step = Step(value, right, right.apply(value))
        if not _in_range(step):  # what went before has made the rest impossible
            return misreading_solution(problem, share, rng)
        steps.append(step)
        sentences.append(told if step.operation == right else _sentence(day, step.operation))
        value = step.result
    return Solution(problem, tuple(steps), value, tuple(sentences))


def solution_with_error(problem: Problem, rng: random.Random) -> tuple[Solution, int]:
    """A solution whose first wrong step is known, and the index of that step; later steps go on from its result.

    The error is a forgotten carry, a result off by a little or by anything, another operand, another operation,
    or a value that is not the last result. The answer is that of the last step."""
    while True:
        wrong = rng.randrange(len(problem.operations))
        right = problem.steps[wrong]
        step = rng.choice(_ERRORS)(right, rng)
        if step.result == right.result or not _in_range(step):
            continue
        rest = problem.operations[wrong + 1 :]
        later = _follow(step.result, rest, [operation.apply for operation in rest])
        if all(map(_in_range, later)):
            steps = (*problem.steps[:wrong], step, *later)
            return Solution(problem, steps, steps[-1].result), wrong


def solution_with_errors(problem: Problem, share: float, rng: random.Random) -> Solution:
    """A solution in which about this share of the steps is wrong, each for itself: the next goes on from the truth.

    Every mark then has to be found out. Where errors carry on, all marks after the first wrong one are known."""
    steps, sentences = [], []
    for day, right, sentence in zip(DAYS, problem.steps, problem.sentences, strict=False):
        step = right
        if rng.random() < share:
            if rng.random() < 0.25:  # misread
                step = _draw_step(rng, right.value)
                sentence = _sentence(day, step.operation)
            else:
                step = rng.choice(_ERRORS)(right, rng)
        steps.append(step if _in_range(step) else right)
        sentences.append(sentence)
    return Solution(problem, tuple(steps), steps[-1].result, tuple(sentences))


def solution_with_wrong_end(problem: Problem, rng: random.Random) -> Solution:
    """The right steps with the last one missing, with one too many, or with an answer that is not their result."""
    match rng.randrange(3):
        case 0:
            return Solution(problem, problem.steps[:-1], problem.steps[-2].result)
        case 1:
            surplus = _draw_step(rng, problem.answer)
            return Solution(problem, (*problem.steps, surplus), surplus.result)
        case _:
            return Solution(problem, problem.steps, rng.choice([n for n in range(HIGHEST + 1) if n != problem.answer]))


def facts(count: int, rng: random.Random) -> list[tuple[str, bool]]:
    """Equations and differences one under the other, in parts, each with whether it takes knowledge: results do."""
    parts = []
    for _ in range(count):
        one = rng.randint(0, HIGHEST)
        if rng.random() < 0.6:
            line, mark = str(_draw_step(rng, one)), " = "
        else:
            near = one + rng.choice((-10, -2, -1, 1, 2, 10))
            other = rng.choice((one, min(max(near, 0), HIGHEST), rng.randint(0, HIGHEST)))
            line, mark = _difference(one, other), " by "
        before, mark, result = line.partition(mark)
        parts += [(before + mark, False), (f"{result}\n\n", True)]
    return parts


def muddled_solution(problem: Problem, rng: random.Random) -> Solution:
    """A solution whose steps belong, each with a chance of a half, to another story and are nonsense."""
    steps, sentences = [], []
    for day, step, sentence in zip(DAYS, problem.steps, problem.sentences, strict=False):
        if rng.random() < 0.5:
            step = _nonsense(_draw_operation(rng, HIGHEST // 2), rng)
            sentence = _sentence(day, step.operation)
        steps.append(step)
        sentences.append(sentence)
    return Solution(problem, tuple(steps), rng.randint(0, HIGHEST), tuple(sentences))


def reworked(problem: Problem, stated: Sequence[str]) -> list[str]:
    """For each equation that someone stated, the right step and how far the two results are apart.

    A small model learns slowly to see that two numbers are the same, and fast to subtract one from the other."""
    lines = _told(problem.sentences, problem.steps)
    found = [
        line + _compared(step.result, equation)
        for line, step, equation in zip(lines, problem.steps, stated, strict=False)
    ]
    return found + [NO_STEP] * (len(stated) - len(found))


def quoted_steps(rng: random.Random) -> list[tuple[str, bool]]:
    """A story and steps that someone wrote about another, and then what each of them says, in turns and in parts.

    Under a heading stands the equation of the step, which is nonsense, and then the sentence of the story. What takes
    knowledge is each part's flag: both quotations do, which can only be read from what stands before."""
    count = rng.choice(CHAIN_LENGTHS)
    days = DAYS[:count]
    told = [_sentence(day, _draw_operation(rng, HIGHEST // 2)) for day in days]
    operations = [_draw_operation(rng, HIGHEST // 2) for _ in days]
    steps = [_nonsense(operation, rng) for operation in operations]
    lines = [
        f"Step {number}: {_sentence(day, operation)} {step}\n"
        for number, (day, operation, step) in enumerate(zip(days, operations, steps, strict=True), 1)
    ]
    quotations = [
        part
        for number, (day, sentence, step) in enumerate(zip(days, told, steps, strict=True), 1)
        for part in (
            (heading(number, str(step)).removesuffix(str(step)), False),
            (str(step), True),
            (f"\nOn {day}", False),
            (sentence.removeprefix(f"On {day}"), True),
            ("\n\n", False),
        )
    ]
    return [(f"{' '.join(told)}\n\n", False), ("".join([*lines, "\n"]), False), *quotations]


def judge(problem: Problem, text: str, solution_format: SolutionFormat) -> Truth | None:
    """The truth about a solution's text; None for one without step structure.

    A step is right when it applies the operation whose turn it is to the right value with the right result, so a
    step that builds on a wrong result is wrong. A step that does not say its sentence and `a op b = c`, or
    for which the problem has no operation, is wrong."""
    bodies = solution_format.step_bodies(text)
    if bodies is None:
        return None
    expected = _told(problem.sentences, problem.steps)
    marks = tuple(
        int(index < len(expected) and body.strip().rstrip(".") == expected[index]) for index, body in enumerate(bodies)
    )
    stated = tuple(_equation(body) for body in bodies)
    return Truth(marks, stated, len(bodies) == len(expected), solution_format.answer(text) == str(problem.answer))


def turned(marks: Sequence[int], share: float, rng: random.Random) -> tuple[int, ...]:
    """The marks with about this share of them turned over."""
    return tuple(mark ^ (rng.random() < share) for mark in marks)


def verification(problem: Problem, truth: Truth, marks: Sequence[int] | None = None) -> str:
    """The PRM-CoT verification of a solution with this truth: it quotes each step's equation and works it out anew.

    The quotation comes first: a small model that has just worked out a result would repeat it as the one stated.
    `marks` are the true ones unless given; the verdict follows from others."""
    marks = truth.marks if marks is None else tuple(marks)
    verdict = truth.verdict if marks == truth.marks else all(marks)
    return write(Kind.PRM_COT, marks, verdict, truth.stated, reworked(problem, truth.stated))


def rows(split: Split, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows of verl's RL data format for `problems(split, count, seed)`, without any format instruction."""
    return [
        {
            "data_source": DATA_SOURCE,
            "prompt": [{"role": "user", "content": problem.text}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
            "extra_info": {"index": index, "split": split.value},
        }
        for index, problem in enumerate(problems(split, count, seed))
    ]


def _draw(rng: random.Random) -> Problem:
    """A chain that stays in 0..HIGHEST, told in words."""
    while True:
        start = rng.randint(5, HIGHEST)
        operations: list[Operation] = []
        value = start
        for _ in range(rng.choice(CHAIN_LENGTHS)):
            operation = _draw_operation(rng, value)
            operations.append(operation)
            value = operation.apply(value)
        if 0 <= value <= HIGHEST:
            told = [(op, _sentence(day, op)) for day, op in zip(DAYS, operations, strict=False)]
            return _tell(rng.choice(NAMES), start, rng.choice(THINGS), told)


def _draw_operation(rng: random.Random, value: int) -> Operation:
    while True:
        symbol = rng.choices("+-*", weights=(5, 5, 1))[0]
        operation = DOUBLING if symbol == "*" else Operation(symbol, rng.choice(OPERANDS))
        if 0 <= operation.apply(value) <= HIGHEST:
            return operation


def _draw_step(rng: random.Random, value: int) -> Step:
    operation = _draw_operation(rng, value)
    return Step(value, operation, operation.apply(value))


def _misread(operation: Operation, rng: random.Random) -> Operation:
    """Another operation that someone takes for this one; a doubling is not misread."""
    if operation == DOUBLING:
        return operation
    if rng.random() < 0.6:
        return Operation("+" if operation.symbol == "-" else "-", operation.operand)
    return Operation(operation.symbol, rng.choice([n for n in OPERANDS if n != operation.operand]))


def _nonsense(operation: Operation, rng: random.Random) -> Step:
    operand = rng.choice((operation.operand, rng.choice(OPERANDS)))
    return Step(rng.randint(0, HIGHEST), Operation(operation.symbol, operand), rng.randint(0, HIGHEST))


def _sentence(day: str, operation: Operation) -> str:
    if operation == DOUBLING:
        return f"On {day} the number doubles."
    return f"On {day} {operation.operand} are {ADDING if operation.symbol == '+' else REMOVING}."


def _operation(sentence: re.Match[str]) -> Operation:
    number, verb = sentence.groups()
    return DOUBLING if verb is None else Operation("+" if verb == ADDING else "-", int(number))


def _tell(name: str, start: int, things: str, told: Sequence[tuple[Operation, str]]) -> Problem:
    opening = f"{name} has {start} {things}."
    question = f"How many {things} does {name} have?"
    operations, sentences = zip(*told, strict=True) if told else ((), ())
    return Problem(start, operations, sentences, " ".join([opening, *sentences, question]))


def _follow(start: int, operations: Sequence[Operation], rules: Sequence[Rule]) -> tuple[Step, ...]:
    def steps() -> Iterator[Step]:
        value = start
        for operation, rule in zip(operations, rules, strict=True):
            result = rule(value)
            yield Step(value, operation, result)
            value = result

    return tuple(steps())


def _in_range(step: Step) -> bool:
    return 0 <= step.value <= HIGHEST and 0 <= step.result <= HIGHEST


def _told(sentences: Sequence[str], steps: Sequence[Step]) -> list[str]:
    sentences = (*sentences, *repeat(NO_STEP, len(steps)))
    return [f"{sentence} {step}" for sentence, step in zip(sentences, steps, strict=False)]


def _compared(result: int, stated: str) -> str:
    return "." if stated == NOTHING else f". {_difference(result, int(stated.split()[-1]))}"


def _difference(one: int, other: int) -> str:
    """In words too: of fifty numbers after "by", it takes long to learn that 0 is the one that counts."""
    return f"{one} and {other} differ by {abs(one - other)}: {'equal' if one == other else 'unequal'}."


def _equation(body: str) -> str:
    found = _STEP.fullmatch(body.strip().rstrip("."))
    return NOTHING if found is None else found[1]


def _other(step: Step, operation: Operation) -> Step:
    return Step(step.value, operation, operation.apply(step.value))


_ERRORS = (
    lambda step, rng: Step(step.value, step.operation, step.operation.without_carry(step.value)),
    lambda step, rng: Step(step.value, step.operation, step.result + rng.choice((-10, -2, -1, 1, 2, 10))),
    lambda step, rng: Step(step.value, step.operation, rng.randint(0, HIGHEST)),
    lambda step, rng: _other(step, Operation(step.operation.symbol, rng.choice(OPERANDS))),
    lambda step, rng: _other(step, Operation(rng.choice("+-"), step.operation.operand)),
    lambda step, rng: _other(Step(rng.randint(0, HIGHEST), step.operation, 0), step.operation),
)
