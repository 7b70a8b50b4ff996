"""From verifications to records: votes, picks, drops, and the balance of verdicts."""

from collections import Counter

import pytest

from tests.data.made import dropped as with_drop
from tests.data.made import record
from tests.data.runs import config, finish, records
from verl_spark.data.methods import METHODS
from verl_spark.data.record import Record
from verl_spark.data.records import KEPT, balance, read_records
from verl_spark.data.selection import BALANCE, MERGE_UNUSABLE, refined, select
from verl_spark.runs.journal import Sample
from verl_spark.runs.problems import Problem
from verl_spark.verification.kinds import Kind
from verl_spark.verification.writing import write

PROBLEM = Problem("p", "How many?", "p.jsonl:1")
SOLUTION = "Step 1: a\nStep 2: b\nAnswer: 3"


def sample(*marks, index=0, finish_reason="stop", text=None):
    text = text if text is not None else "<think>hm</think>\n" + write(Kind.PRM_COT, marks, all(marks))
    return Sample(index, text, finish_reason, 10, 20, 0.5)


def chosen(tmp_path, name, *samples, n=None, n_steps=2):
    made = config("http://localhost:1/v1", "p", tmp_path)
    return select(made, METHODS[name], PROBLEM, SOLUTION, n_steps, samples, n or len(samples))


VOTES = (sample(1, 0), sample(1, 0), sample(0, 1), sample(1, 1), sample(1, 0))


@pytest.mark.parametrize(
    ("method", "picks", "votes"),
    [
        ("single", {0}, ((0, 1), (1, 0))),
        ("outcome", {0, 1, 2, 4}, ((1, 4), (3, 2))),
        ("step", {0, 1, 4}, ((1, 4), (3, 2))),
    ],
)
def test_the_pick_is_a_real_verification_of_those_the_method_allows(tmp_path, method, picks, votes):
    found = chosen(tmp_path, method, *VOTES)
    assert found.drop is None
    assert found.picked in picks
    assert found.text == VOTES[found.picked].text
    assert (found.verdict, found.votes) == (False, votes)
    assert found.calls == (1 if method == "single" else 5)
    assert Record.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("samples", "n", "drop"),
    [
        (VOTES[:2], 5, "quorum"),  # calls that failed count in N
        ((sample(1, 1), sample(1, 1, finish_reason="length")), 2, "quorum"),
        ((sample(1, 0), sample(0, 1)), 2, "tie"),
        ((sample(1, 0), sample(0, 1), sample(1, 1), sample(0, 0), sample(1, 1)), 5, None),
        ((sample(1, 1, 0), sample(1, 0, 1), sample(0, 1, 1)), 3, "no_match"),
    ],
)
def test_what_has_no_strict_majority_is_dropped_with_its_reason(tmp_path, samples, n, drop):
    found = chosen(tmp_path, "step", *samples, n=n, n_steps=3 if drop == "no_match" else 2)
    assert found.drop == drop
    assert (found.text is None) == (drop is not None)
    assert len(found.ballots) == n


def test_a_meta_record_is_the_merged_verification_or_nothing(tmp_path):
    pick = chosen(tmp_path, "meta_outcome", *VOTES)
    whole = refined(pick, sample(text="fine"), sample(1, 1))
    assert (whole.verdict, whole.marks, whole.drop) == (True, (1, 1), None)
    assert (whole.calls, whole.prompt_tokens) == (7, 70)
    for critique, merged in [
        (None, None),
        (sample(text="cut", finish_reason="length"), None),
        (sample(text="fine"), None),
        (sample(text="fine"), sample(text="I agree.")),
        (sample(text="fine"), sample(1, 1, 1)),
        (sample(text="fine"), sample(1, 1, finish_reason="length")),
    ]:
        lost = refined(pick, critique, merged)
        assert (lost.drop, lost.text, lost.marks) == (MERGE_UNUSABLE, None, None)


async def test_picks_do_not_depend_on_the_order_of_problems(serve, problems, tmp_path):
    async with serve(disagreement=0.3) as (_, url):
        one = config(url, problems, tmp_path / "one")
        await finish(one)
        problems.write_text("".join(sorted(problems.read_text().splitlines(keepends=True), reverse=True)))
        other = config(url, problems, tmp_path / "other", window=1)
        await finish(other)
    assert records(one) == records(other)


def test_balancing_drops_the_more_frequent_verdict_whatever_the_order(tmp_path):
    rows = [record((1, 1) if i % 4 else (1, 0), f"p{i}") for i in range(40)]
    rows.append(with_drop(record((1, 1), "q"), "tie"))
    kept = []
    for order in (rows, rows[::-1]):
        path = tmp_path / "r.jsonl"
        path.write_text("".join(row.to_json() + "\n" for row in order))
        counts = Counter({KEPT: 40, "tie": 1})
        balance(path, 0, counts)
        assert counts == {KEPT: 20, BALANCE: 20, "tie": 1}
        found = list(read_records(path))
        assert [row.problem_id for row in found] == [row.problem_id for row in order]
        kept.append({row.problem_id for row in found if row.drop is None})
        assert Counter(row.verdict for row in found if row.drop is None) == {True: 10, False: 10}
    assert kept[0] == kept[1]
