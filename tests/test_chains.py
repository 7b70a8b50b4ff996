"""The tasks of the examples: what they say about a solution must be true, or its numbers mean nothing."""

import random

import pytest

from examples import chains
from examples.chains import Operation, Split
from examples.tasks import ARITHMETIC, CLOCK, TASKS, read_problem
from verl_spark.verification import rendering, steps
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.reading import read

PROBLEMS = {name: task.problems(Split.BASE, 300, seed=7) for name, task in TASKS.items()}


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


@pytest.fixture
def problems(task):
    return PROBLEMS[task.name]


def chain(problem):
    return problem.start, problem.operations


def judge(problem, solution):
    return chains.judge(problem, solution.text(), TAGS)


def test_no_chain_is_in_two_splits_whatever_the_seeds(task):
    found = [{chain(problem) for seed in range(3) for problem in task.problems(split, 400, seed)} for split in Split]
    assert len(set.union(*found)) == sum(map(len, found))


def test_a_split_repeats_no_text_and_the_same_seed_gives_the_same_problems(task, problems):
    assert task.problems(Split.BASE, 300, seed=7) == problems
    assert len({problem.text for problem in problems}) == 300
    assert task.problems(Split.BASE, 300, seed=8) != problems


@pytest.mark.parametrize(
    "problem", [one for found in PROBLEMS.values() for one in found[:50]], ids=lambda one: one.text
)
def test_a_problem_is_read_back_from_its_prompt(problem):
    assert read_problem(f"user\n{problem.text}\n\n{TAGS.instruction()}") == problem


def test_a_text_without_a_problem_is_refused():
    with pytest.raises(ValueError, match="arithmetic, clock"):
        read_problem("Mia has no beads.")


@pytest.mark.parametrize(("task", "highest"), [(ARITHMETIC, 49), (CLOCK, 23)])
def test_chains_are_of_two_or_three_steps_and_stay_in_range(task, highest):
    problems = PROBLEMS[task.name]
    assert {len(problem.steps) for problem in problems} == {2, 3}
    values = {value for problem in problems for step in problem.steps for value in (step.value, step.result)}
    assert (min(values), max(values)) == (0, highest)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (
            "Ida has 12 nuts. On Monday 9 are bought. On Tuesday 3 are lost. On Wednesday the number doubles.",
            ["12 + 9 = 21", "21 - 3 = 18", "18 * 2 = 36"],
        ),
        (
            "The clock in Mia's hall shows 17. On Monday it is put forward 9 hours. On Tuesday it is put back 4 hours.",
            ["17 + 9 = 2", "2 - 4 = 22"],
        ),
    ],
)
def test_the_words_mean_the_chain(text, steps):
    problem = read_problem(text)
    assert [str(step) for step in problem.steps] == steps
    assert steps[-1].endswith(f"= {problem.answer}")


def test_a_right_solution_passes_the_gate_and_is_right_in_every_step(problems):
    for problem in problems:
        truth = judge(problem, chains.right_solution(problem))
        assert TAGS.check(chains.right_solution(problem).text()).valid
        assert truth.verdict
        assert truth.marks == (1,) * len(problem.operations)


def test_an_injected_error_is_where_it_says_and_the_rest_follows_from_it(task, problems):
    rng = random.Random(0)
    for problem in problems:
        solution, wrong = chains.solution_with_error(problem, rng)
        truth = judge(problem, solution)
        assert truth.first_error == wrong
        assert not truth.verdict
        later = solution.steps[wrong + 1 :]
        assert list(later) == [task.step(step.value, step.operation) for step in later]
        assert [step.value for step in later] == [step.result for step in solution.steps[wrong:-1]]


def test_a_wrong_end_is_wrong(problems):
    rng = random.Random(0)
    assert not any(judge(p, chains.solution_with_wrong_end(p, rng)).verdict for p in problems)


@pytest.mark.parametrize(
    ("task", "symbols", "operands"), [(ARITHMETIC, "+", range(7, 10)), (CLOCK, "+-", range(2, 12))]
)
def test_a_careless_solution_errs_only_in_a_carry_of_the_operations_of_which_the_task_says_so(task, symbols, operands):
    problems, rng, wrong = PROBLEMS[task.name], random.Random(0), []
    for problem in problems:
        for step in chains.careless_solution(problem, 1.0, rng).steps:
            if step != task.step(step.value, step.operation):
                wrong.append(step.operation)
                assert step == task.step(step.value, step.operation, careless=True)
                assert task.in_range(step)
    assert len(wrong) > 50
    assert {operation.symbol for operation in wrong} == set(symbols)
    assert {operation.operand for operation in wrong} <= set(operands)
    assert all(chains.careless_solution(p, 0.0, rng) == chains.right_solution(p) for p in problems)


def test_a_misread_solution_says_what_it_read_and_works_it_out_rightly(task, problems):
    rng = random.Random(0)
    misread = 0
    for problem in problems:
        solution = chains.misreading_solution(problem, 0.5, rng)
        truth = judge(problem, solution)
        for step, said, told in zip(solution.steps, solution.sentences, problem.sentences, strict=True):
            assert step == task.step(step.value, step.operation)
            assert read_problem(f"{problem.text.partition('. ')[0]}. {said}").operations == (step.operation,)
            misread += said != told
        first = next(
            (i for i, (a, b) in enumerate(zip(solution.sentences, problem.sentences, strict=True)) if a != b), None
        )
        assert truth.first_error == first
    assert misread > 200
    assert all(chains.misreading_solution(p, 0.0, rng).steps == p.steps for p in problems)


def test_a_muddled_solution_has_nonsense_in_half_of_the_steps_and_says_right_what_it_says_elsewhere(problems):
    rng = random.Random(0)
    nonsense = steps = 0
    for problem in problems:
        solution = chains.muddled_solution(problem, rng)
        truth = judge(problem, solution)
        for mark, step, right in zip(truth.marks, solution.steps, problem.steps, strict=True):
            assert mark == (step == right)
            nonsense += step != right
            steps += 1
    assert 0.4 < nonsense / steps < 0.55


def test_reworking_says_the_right_step_and_how_far_the_stated_result_is_from_it():
    problem = read_problem("Ida has 12 nuts. On Monday 5 are bought. On Tuesday 3 are lost.")
    assert chains.reworked(problem, ["12 + 5 = 17", "17 + 3 = 20"]) == [
        "On Monday 5 are bought. 12 + 5 = 17. 17 and 17 differ by 0: equal.",
        "On Tuesday 3 are lost. 17 - 3 = 14. 14 and 20 differ by 6: unequal.",
    ]
    assert chains.reworked(problem, ["nothing"]) == ["On Monday 5 are bought. 12 + 5 = 17."]
    assert chains.reworked(problem, ["1 + 1 = 2"] * 3)[2] == chains.NO_STEP


def test_facts_are_right(task):
    parts = task.facts(200, random.Random(0))
    assert [learned for _, learned in parts] == [False, True] * 200
    lines = "".join(part for part, _ in parts).split("\n\n")[:-1]
    differences = [line.split() for line in lines if "differ" in line]
    for one, _, other, _, _, result, word in differences:
        assert result == f"{abs(int(one) - int(other))}:"
        assert word == ("equal." if one == other else "unequal.")
    for line in lines:
        if "differ" not in line:
            value, symbol, operand, *_ = line.split()
            assert str(task.step(int(value), Operation(symbol, int(operand)))) == line
    assert 50 < len(differences) < 110
    assert 15 < sum(words[5] == "0:" for words in differences) < 60


@pytest.mark.parametrize(
    ("task", "operation", "value", "result"),
    [
        (ARITHMETIC, "+5", 27, 22),
        (ARITHMETIC, "+5", 21, 26),
        (ARITHMETIC, "-5", 21, 26),
        (ARITHMETIC, "-1", 27, 26),
        (ARITHMETIC, "*2", 27, 44),
        (ARITHMETIC, "*2", 24, 48),
        (CLOCK, "+9", 17, 6),
        (CLOCK, "+6", 17, 23),
        (CLOCK, "-9", 3, 14),
        (CLOCK, "-3", 3, 0),
    ],
)
def test_carrying_carelessly(task, operation, value, result):
    assert task.step(value, Operation(operation[0], int(operation[1])), careless=True).result == result


@pytest.mark.parametrize(
    ("body", "mark"),
    [
        ("On Monday 9 are bought. 12 + 9 = 21", 1),
        (" On Monday 9 are bought. 12 + 9 = 21. ", 1),
        ("On Monday 9 are bought. 12 + 9 = 31", 0),
        ("On Tuesday 3 are lost. 12 + 9 = 21", 0),
        ("12 + 9 = 21", 0),
        ("On Monday 9 are bought. 9 + 12 = 21", 0),
        ("On Monday 9 are bought. 10 + 11 = 21", 0),
        ("21", 0),
        ("On Monday 9 are bought. 12 + 9 = 21 or On Monday 9 are bought. 12 + 9 = 22", 0),
        ("", 0),
    ],
)
def test_truth_of_any_first_step(body, mark):
    problem = read_problem("Ida has 12 nuts. On Monday 9 are bought. On Tuesday 3 are lost.")
    rest = "<step>On Tuesday 3 are lost. 21 - 3 = 18</step></think><answer>\\boxed{18}</answer>"
    text = f"<think><step>{body}</step>{rest}"
    truth = chains.judge(problem, text, TAGS)
    assert truth.marks == (mark, 1)
    assert truth.answer_right
    assert truth.verdict is bool(mark)


def test_missing_and_surplus_steps_are_no_right_solution():
    problem = read_problem("Ida has 12 nuts. On Monday 9 are bought. On Tuesday 3 are lost.")
    answer = "</think><answer>\\boxed{18}</answer>"
    short = chains.judge(problem, f"<think><step>On Monday 9 are bought. 12 + 9 = 21</step>{answer}", TAGS)
    assert (short.marks, short.complete, short.verdict) == ((1,), False, False)
    steps_taken = (
        "On Monday 9 are bought. 12 + 9 = 21",
        "On Tuesday 3 are lost. 21 - 3 = 18",
        "On Wednesday the number doubles. 18 - 0 = 18",
    )
    surplus = "".join(f"<step>{step}</step>" for step in steps_taken)
    long = chains.judge(problem, f"<think>{surplus}{answer}", TAGS)
    assert (long.marks, long.complete, long.verdict) == ((1, 1, 0), False, False)
    assert chains.judge(problem, "no tags: \\boxed{18}", TAGS) is None


def test_a_verification_says_the_truth_about_each_numbered_step(problems):
    rng = random.Random(0)
    for problem in problems:
        makers = (
            chains.right_solution(problem),
            chains.solution_with_error(problem, rng)[0],
            chains.solution_with_wrong_end(problem, rng),
        )
        for solution in makers:
            truth = judge(problem, solution)
            reading = read(chains.verification(problem, truth), Kind.PRM_COT)
            assert (reading.outcome, reading.steps) == (truth.verdict, truth.marks)
            shown = rendering.render(solution.text(), TAGS)
            assert len(steps.numbered_steps(shown.text)) == shown.n_steps == len(truth.marks)


def test_label_errors_have_the_stated_rate(problems):
    rng = random.Random(0)
    turned = total = 0
    for problem in problems:
        truth = judge(problem, chains.right_solution(problem))
        marks = chains.turned(truth.marks, 0.2, rng)
        given = read(chains.verification(problem, truth, marks), Kind.PRM_COT)
        assert given.steps == marks
        turned += given.steps.count(0)
        total += len(given.steps)
        assert given.outcome is (0 not in given.steps)
    assert 0.15 < turned / total < 0.25


def test_rows_hold_the_problem_alone_and_its_answer(task):
    row, *_ = task.rows(Split.HELD_OUT, 3, seed=0)
    problem = task.problems(Split.HELD_OUT, 3, seed=0)[0]
    assert row["data_source"] == f"spark_{task.name}"
    assert row["prompt"] == [{"role": "user", "content": problem.text}]
    assert row["reward_model"] == {"style": "rule", "ground_truth": str(problem.answer)}
    assert row["extra_info"] == {"index": 0, "split": "held_out"}
