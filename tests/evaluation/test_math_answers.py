"""Answers: right ones in another spelling, wrong ones that look right, hostile ones, and every official one."""

import pytest
from math_verify import parse

from verl_spark.evaluation.policy.answers import Marker, readable
from verl_spark.evaluation.policy.benchmarks import BenchmarkSettings, read_tasks
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.verification.boxes import last_box

RIGHT = [
    ("25", "025"),
    ("27", "27.0"),
    (r"\frac{14}{3}", r"\dfrac{14}{3}"),
    ("84, 69", "$69$,$84$"),
    (r"x=1 \text{ or } x=2", "1,2"),
    ("8", r"$8 \%$"),
    (r"62.5\%", "62.5%"),
    (r"8.7 \times 10^8", "8.7e8"),
    ("1.325e-27", r"1.325 \times 10^{-27}"),
    (r"\frac{5}{1000}", "5e-3"),
    ("0.333333", r"\frac13"),
    ("n^2-n-1", r"$m_{\max }=n^{2}-n-1$"),
    ("E_2, E_1", "E_{1},E_{2}"),
    (r"\frac{E_1+2E_2}{3}", r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}"),
    (r"c^2 (\gamma^2-1)", r"c^{2}\left(\gamma^{2}-1\right)"),
    ("y'+ry=rx(t)", r"y^{\prime}+r y-r x(t)=0"),
    (r"\frac{t}{m}", r"\frac{1}{m} t"),
    (r"1950^\circ \mathrm{C}", "1950"),
    (r"\arcsin(\frac{10}{13})", "np.arcsin(10/13)"),
    ("-1.5", "-3./2"),
    ("Evelyn", r"\text{Evelyn}"),
    ("864", r"864 \mbox{ inches}^2"),
    (r"\$18.9", r"\$18.90"),
]
WRONG = [
    ("4.23", "4.2"),
    ("2 \\times 10^{-27}", "1.325e-27"),  # small numbers are not all the same
    ("5e-30", "1.325e-27"),
    ("0", "1e-8"),
    ("8e-3", "8"),
    (r"\frac{1}{m}", r"\frac{1}{m} t"),  # its variable is no unit
    (r"\frac{2}{3}", r"\frac{1}{3} E_{1}+\frac{2}{3} E_{2}"),
    (r"c^2 (\gamma^2-2)", r"c^{2}\left(\gamma^{2}-1\right)"),
    ("2, 3", "3"),
    (r"3 \text{ or } 4", "3"),
    ("", "3"),
    ("\x00", "3"),
    ("\ud800", "3"),
    ("1/0", "3"),
    (r"\text{" + "a" * 50_000 + "}", "3"),
]
ENDLESS = "9^{9^{9^{9^{9}}}}"


def test_answers_are_marked_by_their_value():
    marker = Marker([*RIGHT, *WRONG, (ENDLESS, "3"), (None, "3")], processes=2)
    assert [pair for pair in RIGHT if marker.verdict(*pair).correct is not True] == []
    assert [pair for pair in WRONG if marker.verdict(*pair).correct is not False] == []
    assert marker.verdict(ENDLESS, "3") == (ENDLESS, None)  # killed, and neither right nor wrong
    assert marker.verdict(None, "3") == (None, False)


def test_the_last_box_is_the_answer_whatever_stands_before():
    assert last_box(r"\boxed{1}? No: \boxed{\frac{1}{2}}. I stop.") == r"\frac{1}{2}"
    assert last_box(r"\boxed{1} and then \boxed{2") is None
    assert last_box("The answer is 3.") is None


_LETTERS = "letters of a name are read as a product; in another order they count as right"
MISREAD = {
    ("olympiadbench", "2045"): "misprint of (0,4]; nothing is read, so only the same text counts",
    ("olympiadbench", "1965"): "a sentence, of which only its last equation is read",
    ("olympiadbench", "2498"): "misprint of half of the root of x; read as a set of two",
    ("olympiadbench", "1760"): "two named angles; the bare numbers do not count",
    ("minerva_math", "245"): _LETTERS,
    ("minerva_math", "250"): _LETTERS,
    ("minerva_math", "251"): _LETTERS,
}
"""Official answers that are not read as they are meant, though they count against themselves; and besides, the base of
MATH-500's six answers in another base than ten is not compared."""
UNREAD = {("olympiadbench", "2045")}


@pytest.mark.timeout(1800)
def test_every_official_answer_counts_against_itself(data, remark):
    """In a box through the path of a policy's answers, and read by math-verify as well, not by its text alone."""
    tasks = read_tasks(BenchmarkSettings(path=str(data))).items
    pairs = [(last_box(f"It is \\boxed{{{task.reference}}}."), task.reference) for task in tasks]
    marker = Marker(pairs)
    right = sum(marker.verdict(*pair).correct is True for pair in pairs)
    spellings = sorted({readable(task.reference) for task in tasks})
    checker = AnswerChecker(2)
    equal = dict(zip(spellings, checker.compare_all([(one, one) for one in spellings]), strict=True))
    checker.close()
    read_right = sum(equal[readable(task.reference)] is True for task in tasks)
    assert (len(tasks), right, read_right) == (1547, 1547, 1547)
    by_text = {one for one in spellings if len(parse(f"\\boxed{{{one}}}", parsing_timeout=None)) < 2}
    assert {(task.subset, task.id) for task in tasks if readable(task.reference) in by_text} == UNREAD
    assert MISREAD.keys() <= {(task.subset, task.id) for task in tasks}
    remark(f"official answers against themselves: {right} of {len(tasks)}, {read_right} by math-verify as well")
