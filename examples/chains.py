"""Chains of two or three small operations, told in words: what the tasks of the examples have in common.

    Mia has 12 beads. On Monday 5 are bought. On Tuesday the number doubles. How many beads does Mia have?

A program knows the truth of every step, so that a policy's gain and a verifier's agreement can be measured. The
text is the only source of a problem: `Task.read` takes it back from a prompt, and `judge` knows from it the
truth of any solution that states its steps as `On Monday 5 are bought. a op b = c`. Saying the sentence again
is how a small model finds the operation: it copies from the day on.

Splits are disjoint by construction: a hash of the chain, whatever words tell it, decides which split a problem
belongs to."""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat
from typing import Any, Protocol

from verl_spark.verification.kinds import Kind
from verl_spark.verification.markers import heading
from verl_spark.verification.policy_format import write_tags
from verl_spark.verification.writing import write

CHAIN_LENGTHS = (2, 3)
NAMES = ("Mia", "Tom", "Ida", "Ben", "Zoe", "Max")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
"""When the operations happen, in order."""

SURPLUS = "Sunday"
"""Day of a step beyond the chain, on which nothing happens."""
NO_STEP = f"On {SURPLUS} nothing happens."

_STEP = re.compile(r".*\. (\d+ [-+*] \d+ = \d+)")
NOTHING = "nothing"


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
        """What it makes of a number; what it makes of a task's value is for `Task.step`."""
        return {"+": value + self.operand, "-": value - self.operand, "*": value * self.operand}[self.symbol]


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

    task: "Task" = field(repr=False)
    start: int
    operations: tuple[Operation, ...]
    sentences: tuple[str, ...]
    """The words of each operation."""
    text: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """The right steps."""
        return self.task.follow(self.start, self.operations)

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
class Task:
    """A type of chain, its words and its numbers, and what can be made of it without a problem.

    What is made of a problem is the same for all tasks: the functions below."""

    name: str

    opening: str
    """With blanks for `name`, `number` and `thing`."""
    things: tuple[str, ...]
    adding: str
    """What happens on a day, with a blank for the operand."""
    removing: str
    doubling: str
    """Empty where nothing doubles."""
    question: str
    """With blanks for `name` and `thing`."""

    lowest_start: int
    highest: int
    """Every value of a chain lies in 0..highest."""
    operands: tuple[int, ...]
    """What is added or taken away in one operation."""

    period: int
    """What carries: ten units to the next ten, or 24 hours to the next day."""
    dropped: int
    """What a result is less by for each period that an operation carries; it is more for one that it borrows."""
    dropped_carelessly: int
    """The same for someone careless."""
    careless_from: int
    """Operands from here on are those that `careless_solution` is careless with."""
    careless_in: str
    """Symbols of the operations that it is careless in, unless told otherwise."""

    def step(self, value: int, operation: Operation, careless: bool = False) -> Step:
        """The right step, or that of someone careless: the right one too where there is nothing to carry."""
        carried = operation.apply(value % self.period) // self.period
        dropped = carried * (self.dropped_carelessly if careless else self.dropped)
        return Step(value, operation, operation.apply(value) - dropped)

    def follow(self, start: int, operations: Sequence[Operation], slips: Sequence[bool] = ()) -> tuple[Step, ...]:
        """The steps of a chain; right, or careless where `slips` says so."""
        steps: list[Step] = []
        value = start
        for operation, slip in zip(operations, slips or repeat(False), strict=False):
            steps.append(self.step(value, operation, slip))
            value = steps[-1].result
        return tuple(steps)

    def in_range(self, step: Step) -> bool:
        """Whether a step goes from a value of this task to another."""
        return 0 <= step.value <= self.highest and 0 <= step.result <= self.highest

    def problems(self, split: Split, count: int, seed: int) -> list[Problem]:
        """`count` problems of this split, no two with the same text; the same for the same arguments."""
        rng = random.Random(f"{split.value}-{seed}")
        found: dict[str, Problem] = {}
        while len(found) < count:
            problem = self._draw(rng)
            if problem.split is split:
                found.setdefault(problem.text, problem)
        return list(found.values())

    def rows(self, split: Split, count: int, seed: int) -> list[dict[str, Any]]:
        """Rows of verl's RL data format for `problems(split, count, seed)`, without any format instruction."""
        return [
            {
                "data_source": f"spark_{self.name}",
                "prompt": [{"role": "user", "content": problem.text}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
                "extra_info": {"index": index, "split": split.value},
            }
            for index, problem in enumerate(self.problems(split, count, seed))
        ]

    def read(self, text: str) -> Problem | None:
        """The problem whose text stands in `text`, which may go on with other matter, such as a format instruction.

        None for a text that tells no problem of this task."""
        blanks = {"name": "|".join(NAMES), "number": r"\d+", "thing": "|".join(self.things)}
        words = self.opening.replace(".", r"\.").format_map({key: f"(?P<{key}>{any})" for key, any in blanks.items()})
        opening = re.search(words, text)
        if opening is None:
            return None
        happened = "|".join((self.adding, self.removing, self.doubling)).replace("{}", r"(\d+)")
        sentence = re.compile(rf"On \w+ (?:{happened})\.")
        told = []
        cursor = opening.end()
        while (found := sentence.match(text, cursor + 1)) is not None:
            added, removed = found.groups()
            operation = Operation("+", int(added)) if added else Operation("-", int(removed)) if removed else DOUBLING
            told.append((operation, found[0]))
            cursor = found.end()
        return self.tell(opening["name"], int(opening["number"]), opening["thing"], told)

    def tell(self, name: str, start: int, thing: str, told: Sequence[tuple[Operation, str]]) -> Problem:
        """The problem of these operations, each with its sentence."""
        opening = self.opening.format(name=name, number=start, thing=thing)
        operations, sentences = zip(*told, strict=True) if told else ((), ())
        text = " ".join([opening, *sentences, self.question.format(name=name, thing=thing)])
        return Problem(self, start, operations, sentences, text)

    def sentence(self, day: str, operation: Operation) -> str:
        """What tells an operation."""
        if operation == DOUBLING:
            return f"On {day} {self.doubling}."
        return f"On {day} {(self.adding if operation.symbol == '+' else self.removing).format(operation.operand)}."

    def draw_operation(self, rng: random.Random, value: int) -> Operation:
        """One that leads from the value to another of this task."""
        while True:
            symbol = rng.choices("+-*", weights=(5, 5, 1 if self.doubling else 0))[0]
            operation = DOUBLING if symbol == "*" else Operation(symbol, rng.choice(self.operands))
            if self.in_range(self.step(value, operation)):
                return operation

    def draw_step(self, rng: random.Random, value: int) -> Step:
        """A right one."""
        return self.step(value, self.draw_operation(rng, value))

    def nonsense(self, operation: Operation, rng: random.Random) -> Step:
        """A step of this operation, often with another operand, from any value to any other."""
        operand = rng.choice((operation.operand, rng.choice(self.operands)))
        return Step(rng.randint(0, self.highest), Operation(operation.symbol, operand), rng.randint(0, self.highest))

    def facts(self, count: int, rng: random.Random) -> list[tuple[str, bool]]:
        """Equations and differences one under the other, in parts, each with whether it takes knowledge: results do."""
        parts = []
        for _ in range(count):
            one = rng.randint(0, self.highest)
            if rng.random() < 0.6:
                line, mark = str(self.draw_step(rng, one)), " = "
            else:
                near = one + rng.choice((-10, -2, -1, 1, 2, 10))
                other = rng.choice((one, min(max(near, 0), self.highest), rng.randint(0, self.highest)))
                line, mark = _difference(one, other), " by "
            before, mark, result = line.partition(mark)
            parts += [(before + mark, False), (f"{result}\n\n", True)]
        return parts

    def quoted_steps(self, rng: random.Random) -> list[tuple[str, bool]]:
        """A story and steps that someone wrote about another, and then what each of them says, in turns and in parts.

        Under a heading stands the equation of the step, which is nonsense, and then the sentence of the story. What
        takes knowledge is each part's flag: both quotations do, which can only be read from what stands before."""
        count = rng.choice(CHAIN_LENGTHS)
        days = DAYS[:count]
        told = [self.sentence(day, self.draw_operation(rng, self.highest // 2)) for day in days]
        operations = [self.draw_operation(rng, self.highest // 2) for _ in days]
        steps = [self.nonsense(operation, rng) for operation in operations]
        lines = [
            f"Step {number}: {self.sentence(day, operation)} {step}\n"
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

    def _draw(self, rng: random.Random) -> Problem:
        """A chain that stays in range, told in words."""
        start = rng.randint(self.lowest_start, self.highest)
        operations: list[Operation] = []
        value = start
        for _ in range(rng.choice(CHAIN_LENGTHS)):
            operation = self.draw_operation(rng, value)
            operations.append(operation)
            value = self.step(value, operation).result
        told = [(op, self.sentence(day, op)) for day, op in zip(DAYS, operations, strict=False)]
        return self.tell(rng.choice(NAMES), start, rng.choice(self.things), told)


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


def right_solution(problem: Problem) -> Solution:
    """The solution without an error."""
    return Solution(problem, problem.steps, problem.answer)


def careless_solution(problem: Problem, slip_share: float, rng: random.Random, symbols: str = "") -> Solution:
    """A solution that carries carelessly in this share of the operations with a large operand where that makes a
    difference; in those with other `symbols` than the task has for it, if they are given.

    Later steps go on from the wrong value. Slips that would lead the chain out of the task's range are not made, the
    last ones first."""

    task, symbols = problem.task, symbols or problem.task.careless_in
    slips = [
        op.symbol in symbols and op.operand >= task.careless_from and rng.random() < slip_share
        for op in problem.operations
    ]
    while True:
        steps = task.follow(problem.start, problem.operations, slips)
        if all(map(task.in_range, steps)):
            return Solution(problem, steps, steps[-1].result)
        slips[len(slips) - 1 - slips[::-1].index(True)] = False  # without any slip the chain stays in range


def misreading_solution(problem: Problem, share: float, rng: random.Random) -> Solution:
    """A solution that misreads about this share of the sentences: the other verb for the one that stands there, or
    another number.

    Later steps go on from the wrong value. Misreadings that lead the chain out of the task's range are not made."""
    task, value, steps, sentences = problem.task, problem.start, [], []
    for day, right, told in zip(DAYS, problem.operations, problem.sentences, strict=False):
        step = task.step(value, _misread(task, right, rng) if rng.random() < share else right)
        if not task.in_range(step):
            step = task.step(value, right)
        if not task.in_range(step):  # what went before has made the rest impossible
            return misreading_solution(problem, share, rng)
        steps.append(step)
        sentences.append(told if step.operation == right else task.sentence(day, step.operation))
        value = step.result
    return Solution(problem, tuple(steps), value, tuple(sentences))


def solution_with_error(problem: Problem, rng: random.Random) -> tuple[Solution, int]:
    """A solution whose first wrong step is known, and the index of that step; later steps go on from its result.

    The error is a careless result, one off by a little or by anything, another operand, another operation,
    or a value that is not the last result. The answer is that of the last step."""
    task = problem.task
    while True:
        wrong = rng.randrange(len(problem.operations))
        right = problem.steps[wrong]
        step = rng.choice(_ERRORS)(task, right, rng)
        if step.result == right.result or not task.in_range(step):
            continue
        later = task.follow(step.result, problem.operations[wrong + 1 :])
        if all(map(task.in_range, later)):
            steps = (*problem.steps[:wrong], step, *later)
            return Solution(problem, steps, steps[-1].result), wrong


def solution_with_errors(problem: Problem, share: float, rng: random.Random) -> Solution:
    """A solution in which about this share of the steps is wrong, each for itself: the next goes on from the truth.

    Every mark then has to be found out. Where errors carry on, all marks after the first wrong one are known."""
    task, steps, sentences = problem.task, [], []
    for day, right, sentence in zip(DAYS, problem.steps, problem.sentences, strict=False):
        step = right
        if rng.random() < share:
            if rng.random() < 0.25:  # misread
                step = task.draw_step(rng, right.value)
                sentence = task.sentence(day, step.operation)
            else:
                step = rng.choice(_ERRORS)(task, right, rng)
        steps.append(step if task.in_range(step) else right)
        sentences.append(sentence)
    return Solution(problem, tuple(steps), steps[-1].result, tuple(sentences))


def solution_with_wrong_end(problem: Problem, rng: random.Random) -> Solution:
    """The right steps with the last one missing, with one too many, or with an answer that is not their result."""
    match rng.randrange(3):
        case 0:
            return Solution(problem, problem.steps[:-1], problem.steps[-2].result)
        case 1:
            surplus = problem.task.draw_step(rng, problem.answer)
            return Solution(problem, (*problem.steps, surplus), surplus.result)
        case _:
            answers = [n for n in range(problem.task.highest + 1) if n != problem.answer]
            return Solution(problem, problem.steps, rng.choice(answers))


def muddled_solution(problem: Problem, rng: random.Random) -> Solution:
    """A solution whose steps belong, each with a chance of a half, to another story and are nonsense."""
    task, steps, sentences = problem.task, [], []
    for day, step, sentence in zip(DAYS, problem.steps, problem.sentences, strict=False):
        if rng.random() < 0.5:
            step = task.nonsense(task.draw_operation(rng, task.highest // 2), rng)
            sentence = task.sentence(day, step.operation)
        steps.append(step)
        sentences.append(sentence)
    return Solution(problem, tuple(steps), rng.randint(0, task.highest), tuple(sentences))


def reworked(problem: Problem, stated: Sequence[str]) -> list[str]:
    """For each equation that someone stated, the right step and how far the two results are apart.

    A small model learns slowly to see that two numbers are the same, and fast to subtract one from the other."""
    lines = _told(problem.sentences, problem.steps)
    found = [
        line + _compared(step.result, equation)
        for line, step, equation in zip(lines, problem.steps, stated, strict=False)
    ]
    return found + [NO_STEP] * (len(stated) - len(found))


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


def _misread(task: Task, operation: Operation, rng: random.Random) -> Operation:
    """Another operation that someone takes for this one; a doubling is not misread."""
    if operation == DOUBLING:
        return operation
    if rng.random() < 0.6:
        return Operation("+" if operation.symbol == "-" else "-", operation.operand)
    return Operation(operation.symbol, rng.choice([n for n in task.operands if n != operation.operand]))


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


_ERRORS = (
    lambda task, step, rng: task.step(step.value, step.operation, careless=True),
    lambda task, step, rng: Step(step.value, step.operation, step.result + rng.choice((-10, -2, -1, 1, 2, 10))),
    lambda task, step, rng: Step(step.value, step.operation, rng.randint(0, task.highest)),
    lambda task, step, rng: task.step(step.value, Operation(step.operation.symbol, rng.choice(task.operands))),
    lambda task, step, rng: task.step(step.value, Operation(rng.choice("+-"), step.operation.operand)),
    lambda task, step, rng: task.step(rng.randint(0, task.highest), step.operation),
)
