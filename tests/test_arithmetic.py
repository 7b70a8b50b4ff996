"""The demonstration's task: what it says about a solution must be true, or its numbers mean nothing."""

import random

import pytest

from examples import arithmetic
from examples.arithmetic import Operation, Split
from verl_spark.verification import rendering, steps
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.reading import read

PROBLEMS = arithmetic.problems(Split.BASE, 300, seed=7)


def chain(problem):
    return problem.start, problem.operations


def judge(problem, solution):
    return arithmetic.judge(problem, solution.text(), TAGS)


def test_no_chain_is_in_two_splits_whatever_the_seeds():
    chains = [
        {chain(problem) for seed in range(3) for problem in arithmetic.problems(split, 400, seed)} for split in Split
    ]
    assert len(set.union(*chains)) == sum(map(len, chains))


def test_a_split_repeats_no_text_and_the_same_seed_gives_the_same_problems():
    again = arithmetic.problems(Split.BASE, 300, seed=7)
    assert again == PROBLEMS
    assert len({problem.text for problem in PROBLEMS}) == 300
    assert arithmetic.problems(Split.BASE, 300, seed=8) != PROBLEMS


@pytest.mark.parametrize("problem", PROBLEMS[:50], ids=lambda problem: problem.text)
def test_a_problem_is_read_back_from_its_prompt(problem):
    assert arithmetic.read_problem(f"user\n{problem.text}\n\n{TAGS.instruction()}") == problem


def test_a_text_without_a_problem_is_refused():
    with pytest.raises(ValueError, match="spark_arithmetic"):
        arithmetic.read_problem("Mia has no beads.")


def test_chains_are_of_two_or_three_steps_and_stay_in_range():
    assert {len(problem.steps) for problem in PROBLEMS} == {2, 3}
    assert all(0 <= step.result <= 49 for problem in PROBLEMS for step in problem.steps)


def test_the_words_mean_the_chain():
    problem = arithmetic.read_problem(
        "Ida has 12 nuts. On Monday 9 are bought. On Tuesday 3 are lost. On Wednesday the number doubles."
    )
    assert [str(step) for step in problem.steps] == ["12 + 9 = 21", "21 - 3 = 18", "18 * 2 = 36"]
    assert problem.answer == 36


def test_a_right_solution_passes_the_gate_and_is_right_in_every_step():
    for problem in PROBLEMS:
        truth = judge(problem, arithmetic.right_solution(problem))
        assert TAGS.check(arithmetic.right_solution(problem).text()).valid
        assert truth.verdict
        assert truth.marks == (1,) * len(problem.operations)


def test_an_injected_error_is_where_it_says_and_the_rest_follows_from_it():
    rng = random.Random(0)
    for problem in PROBLEMS:
        solution, wrong = arithmetic.solution_with_error(problem, rng)
        truth = judge(problem, solution)
        assert truth.first_error == wrong
        assert not truth.verdict
        later = solution.steps[wrong + 1 :]
        assert [step.result for step in later] == [step.operation.apply(step.value) for step in later]
        assert [step.value for step in later] == [step.result for step in solution.steps[wrong:-1]]


def test_a_wrong_end_is_wrong():
    rng = random.Random(0)
    assert not any(judge(p, arithmetic.solution_with_wrong_end(p, rng)).verdict for p in PROBLEMS)


def test_a_careless_solution_errs_only_where_a_large_number_is_added_with_a_carry():
    rng = random.Random(0)
    wrong = 0
    for problem in PROBLEMS:
        for step in arithmetic.careless_solution(problem, 1.0, rng).steps:
            if step.result != step.operation.apply(step.value):
                wrong += 1
                assert step.operation.symbol == "+"
                assert step.operation.operand >= arithmetic.LARGE
                assert step.result == step.operation.apply(step.value) - 10
    assert wrong > 50
    assert all(arithmetic.careless_solution(p, 0.0, rng) == arithmetic.right_solution(p) for p in PROBLEMS)


def test_a_misread_solution_says_what_it_read_and_works_it_out_rightly():
    rng = random.Random(0)
    misread = 0
    for problem in PROBLEMS:
        solution = arithmetic.misreading_solution(problem, 0.5, rng)
        truth = judge(problem, solution)
        for step, said, told in zip(solution.steps, solution.sentences, problem.sentences, strict=True):
            assert step.result == step.operation.apply(step.value)
            assert arithmetic.read_problem(f"Ida has 1 nuts. {said}").operations == (step.operation,)
            misread += said != told
        first = next(
            (i for i, (a, b) in enumerate(zip(solution.sentences, problem.sentences, strict=True)) if a != b), None
        )
        assert truth.first_error == first
    assert misread > 200
    assert all(arithmetic.misreading_solution(p, 0.0, rng).steps == p.steps for p in PROBLEMS)


def test_a_muddled_solution_has_nonsense_in_half_of_the_steps_and_says_right_what_it_says_elsewhere():
    rng = random.Random(0)
    nonsense = steps = 0
    for problem in PROBLEMS:
        solution = arithmetic.muddled_solution(problem, rng)
        truth = judge(problem, solution)
        for mark, step, right in zip(truth.marks, solution.steps, problem.steps, strict=True):
            assert mark == (step == right)
            nonsense += step != right
            steps += 1
    assert 0.4 < nonsense / steps < 0.55


def test_reworking_says_the_right_step_and_how_far_the_stated_result_is_from_it():
    problem = arithmetic.read_problem("Ida has 12 nuts. On Monday 5 are bought. On Tuesday 3 are lost.")
    assert arithmetic.reworked(problem, ["12 + 5 = 17", "17 + 3 = 20"]) == [
        "On Monday 5 are bought. 12 + 5 = 17. 17 and 17 differ by 0: equal.",
        "On Tuesday 3 are lost. 17 - 3 = 14. 14 and 20 differ by 6: unequal.",
    ]
    assert arithmetic.reworked(problem, ["nothing"]) == ["On Monday 5 are bought. 12 + 5 = 17."]
    assert arithmetic.reworked(problem, ["1 + 1 = 2"] * 3)[2] == arithmetic.NO_STEP


def test_facts_are_right():
    parts = arithmetic.facts(200, random.Random(0))
    assert [learned for _, learned in parts] == [False, True] * 200
    lines = "".join(part for part, _ in parts).split("\n\n")[:-1]
    differences = [line.split() for line in lines if "differ" in line]
    for one, _, other, _, _, result, word in differences:
        assert result == f"{abs(int(one) - int(other))}:"
        assert word == ("equal." if one == other else "unequal.")
    for line in lines:
        if "differ" not in line:
            value, symbol, operand, _, result = line.split()
            assert Operation(symbol, int(operand)).apply(int(value)) == int(result)
    assert 50 < len(differences) < 110
    assert 15 < sum(words[5] == "0:" for words in differences) < 60


@pytest.mark.parametrize(
    ("operation", "value", "result"),
    [("+5", 27, 22), ("+5", 21, 26), ("-5", 21, 26), ("-1", 27, 26), ("*2", 27, 44), ("*2", 24, 48)],
)
def test_forgetting_to_carry(operation, value, result):
    assert Operation(operation[0], int(operation[1])).without_carry(value) == result


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
    problem = arithmetic.read_problem("Ida has 12 nuts. On Monday 9 are bought. On Tuesday 3 are lost.")
    rest = "<step>On Tuesday 3 are lost. 21 - 3 = 18</step></think><answer>\\boxed{18}</answer>"
    text = f"<think><step>{body}</step>{rest}"
    truth = arithmetic.judge(problem, text, TAGS)
    assert truth.marks == (mark, 1)
    assert truth.answer_right
    assert truth.verdict is bool(mark)


def test_missing_and_surplus_steps_are_no_right_solution():
    problem = arithmetic.read_problem("Ida has 12 nuts. On Monday 9 are bought. On Tuesday 3 are lost.")
    answer = "</think><answer>\\boxed{18}</answer>"
    short = arithmetic.judge(problem, f"<think><step>On Monday 9 are bought. 12 + 9 = 21</step>{answer}", TAGS)
    assert (short.marks, short.complete, short.verdict) == ((1,), False, False)
    steps_taken = (
        "On Monday 9 are bought. 12 + 9 = 21",
        "On Tuesday 3 are lost. 21 - 3 = 18",
        "On Wednesday the number doubles. 18 - 0 = 18",
    )
    surplus = "".join(f"<step>{step}</step>" for step in steps_taken)
    long = arithmetic.judge(problem, f"<think>{surplus}{answer}", TAGS)
    assert (long.marks, long.complete, long.verdict) == ((1, 1, 0), False, False)
    assert arithmetic.judge(problem, "no tags: \\boxed{18}", TAGS) is None


def test_a_verification_says_the_truth_about_each_numbered_step():
    rng = random.Random(0)
    for problem in PROBLEMS:
        makers = (
            arithmetic.right_solution(problem),
            arithmetic.solution_with_error(problem, rng)[0],
            arithmetic.solution_with_wrong_end(problem, rng),
        )
        for solution in makers:
            truth = judge(problem, solution)
            reading = read(arithmetic.verification(problem, truth), Kind.PRM_COT)
            assert (reading.outcome, reading.steps) == (truth.verdict, truth.marks)
            shown = rendering.render(solution.text(), TAGS)
            assert len(steps.numbered_steps(shown.text)) == shown.n_steps == len(truth.marks)


def test_label_errors_have_the_stated_rate():
    rng = random.Random(0)
    turned = total = 0
    for problem in PROBLEMS:
        truth = judge(problem, arithmetic.right_solution(problem))
        marks = arithmetic.turned(truth.marks, 0.2, rng)
        given = read(arithmetic.verification(problem, truth, marks), Kind.PRM_COT)
        assert given.steps == marks
        turned += given.steps.count(0)
        total += len(given.steps)
        assert given.outcome is (0 not in given.steps)
    assert 0.15 < turned / total < 0.25


def test_rows_hold_the_problem_alone_and_its_answer():
    row, *_ = arithmetic.rows(Split.HELD_OUT, 3, seed=0)
    problem = arithmetic.problems(Split.HELD_OUT, 3, seed=0)[0]
    assert row["prompt"] == [{"role": "user", "content": problem.text}]
    assert row["reward_model"] == {"style": "rule", "ground_truth": str(problem.answer)}
    assert row["extra_info"] == {"index": 0, "split": "held_out"}
