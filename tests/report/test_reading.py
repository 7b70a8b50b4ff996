"""A run's folder becomes its result: the numbers are verl's, texts survive, and what cannot be read is named."""

import json
import math

import pytest

from tests.report.made import HOSTILE, change, hostile_run, logged, more, rows, run, validation
from tests.rescoring.made import CUT, GATED, PROBLEM, ROLLOUTS
from verl_spark.report.reading import HIGH, LOW, kept
from verl_spark.report.result import RunResult, read_run
from verl_spark.runs.rows import SourceError
from verl_spark.verification.policy_format import TAGS

ACCURACIES = {0: {1: [0.0], 2: [1.0, 0.0]}, 2: {1: [1.0], 2: [1.0, 1.0]}}


async def test_the_metrics_are_those_that_verl_logged(tmp_path):
    found = read_run(await run(tmp_path / "arm", accuracies=ACCURACIES))
    assert [step["step"] for step in found.steps] == [1, 2]
    for step in found.steps:
        logged_metrics = kept(more(tmp_path / "arm", int(step["step"])))
        assert {name: step[name] for name in logged_metrics} == logged_metrics
        assert step[LOW] <= step["spark/reward/mean"] <= step[HIGH]
        assert "actor/lr" not in step
    assert found.arm == "arm"
    assert found.settings["reward"]["spark"]["design"] == "process_aware"
    assert found.seconds == 5.0


async def test_without_a_log_the_rows_give_the_same_metrics(tmp_path):
    with_log = read_run(await run(tmp_path / "one"))
    without = read_run(await run(tmp_path / "two", log=False))
    ours = [
        {name: value for name, value in step.items() if not name.startswith("timing_s/")} for step in with_log.steps
    ]
    assert ours == without.steps
    assert without.seconds is None


async def test_missing_rewards_are_in_no_mean_and_padding_is_no_rollout(tmp_path):
    folder = await run(tmp_path / "arm", steps=[1], log=False)
    change(folder / "rollouts" / "1.jsonl", lambda number, line: line.update(spark_padding=number == 0))
    (step,) = read_run(folder).steps
    dumped = enumerate(rows(folder / "rollouts" / "1.jsonl"))
    known = [row["spark_reward"] for number, row in dumped if number not in (0, CUT)]
    assert (step["spark/rollouts"], step["spark/missing"]) == (7, 1)
    assert step["spark/reward/mean"] == pytest.approx(sum(known) / len(known), rel=1e-5)


async def test_evaluations_go_by_the_text_of_their_input(tmp_path):
    found = read_run(await run(tmp_path / "arm", accuracies=ACCURACIES))
    assert list(found.evaluations) == [0, 2]
    assert found.evaluations[0].keys() == found.evaluations[2].keys()
    assert sorted(found.evaluations[0].values()) == [[0.0], [0.0, 1.0]]
    assert all(len(item) == 12 for item in found.evaluations[0])


def test_unknown_accuracies_and_probe_problems_are_left_out(tmp_path):
    validation(tmp_path / "v" / "0.jsonl", 0, {1: [1.0], 2: [math.nan], 3: [None]})
    validation(tmp_path / "v" / "5.jsonl", 5, {1: [1.0]})
    validation(tmp_path / "v" / "probe.jsonl", 5, {8: [0.0]}, spark_probe=1.0)
    both = (tmp_path / "v" / "5.jsonl").read_text() + (tmp_path / "v" / "probe.jsonl").read_text()
    (tmp_path / "v" / "5.jsonl").write_text(both)
    (tmp_path / "v" / "probe.jsonl").unlink()
    found = read_run(tmp_path)
    assert list(found.evaluations[0].values()) == [[1.0]]
    assert list(found.evaluations[5].values()) == [[1.0]]


def test_a_probe_set_alone_is_what_accuracy_is_measured_on(tmp_path):
    validation(tmp_path / "v" / "5.jsonl", 5, {8: [0.0]}, spark_probe=1.0)
    assert list(read_run(tmp_path).evaluations[5].values()) == [[0.0]]


async def test_steps_are_shown_with_their_marks_and_the_reply_beside_them(tmp_path):
    found = read_run(await run(tmp_path / "arm", steps=[1]))
    by_response = {"".join(text for text, _ in one.response): one for one in found.rollouts}
    for number, (response, marks, verdict) in enumerate(ROLLOUTS):
        one = by_response[response]
        assert one.problem == PROBLEM
        told = [mark for text, mark in one.response if "<step>" in text and mark is not None]
        if number == GATED:
            assert (one.gate, one.verdict, one.reward, one.verification) == ("text_after_answer", None, 0.0, None)
        elif number == CUT:
            assert (one.missing, one.verdict, one.reward) == ("cut", None, None)
        else:
            assert one.verdict == verdict
            assert one.verification
            assert told == (marks if len(marks) == len(TAGS.step_spans(response)) else [])


async def test_a_known_verdict_has_the_reply_of_the_rollout_that_was_asked_about(tmp_path):
    folder = await run(tmp_path / "arm", log=False)

    def known(number, line):
        if number == 0:
            line.update(spark_cached=1.0, spark_called=0.0, spark_verification=None)

    change(folder / "rollouts" / "2.jsonl", known)
    asked, cached = (
        next(one for one in read_run(folder).rollouts if one.step == step and one.response == first)
        for first in [read_run(folder).rollouts[0].response]
        for step in (1, 2)
    )
    assert asked.verification
    assert cached.verification == asked.verification


async def test_the_suspicious_ones_come_first_and_equal_ones_once(tmp_path):
    folder = await run(tmp_path / "arm", log=False)
    both = (folder / "rollouts" / "1.jsonl").read_text()
    (folder / "rollouts" / "1.jsonl").write_text(both + both.replace('"uid": "', '"uid": "again'))
    everything = read_run(folder).rollouts
    assert len(everything) == 2 * len(ROLLOUTS)
    few = read_run(folder, rollouts=4).rollouts
    assert len(few) == 4
    reasons = [len(one.flags) + bool(one.gate) + bool(one.missing) for one in everything]
    assert len(few[0].flags) + bool(few[0].gate) + bool(few[0].missing) == max(reasons)
    assert {one.step for one in few} == {1, 2}
    assert read_run(folder, rollouts=0).rollouts == []


async def test_hostile_texts_are_kept_as_texts(tmp_path):
    found = read_run(await hostile_run(tmp_path / "arm", steps=[1]))
    texts = [one.problem for one in found.rollouts]
    for hostile in HOSTILE:
        assert any(hostile.replace("\ud800", "\\ud800") in text for text in texts)
    found.write(tmp_path / "result.json")
    assert RunResult.read(tmp_path / "result.json") == found


async def test_a_result_is_read_as_it_was_written_and_the_same_run_gives_the_same_bytes(tmp_path):
    first = read_run(await run(tmp_path / "one" / "arm", accuracies=ACCURACIES), "arm", "sums", 3)
    again = read_run(await run(tmp_path / "two" / "arm", accuracies=ACCURACIES), "arm", "sums", 3)
    first.write(tmp_path / "first.json")
    again.write(tmp_path / "again.json")
    assert RunResult.read(tmp_path / "first.json") == first
    assert (tmp_path / "first.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    assert (first.arm, first.task, first.seed) == ("arm", "sums", 3)


async def test_a_torn_last_line_is_left_out_and_any_other_is_an_error(tmp_path):
    folder = await run(tmp_path / "arm")
    whole = read_run(folder)
    for file in (folder / "log.jsonl", folder / "rollouts" / "2.jsonl"):
        text = file.read_text()
        file.write_text(text + '{"step": 3, "da')
        assert read_run(folder) == whole
        first, rest = text.split("\n", 1)
        file.write_text(f"{first}\n{first[:-3]}\n{rest}")
        with pytest.raises(SourceError, match=rf"{file.name}:2: not readable"):
            read_run(folder)
        file.write_text(text)


async def test_later_lines_of_a_step_count_and_what_is_no_number_does_not(tmp_path):
    folder = await run(tmp_path / "arm", steps=[1])
    data = {"spark/reward/mean": 0.25, "val-core/x/acc/mean@1": None, "spark/gated": True}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "data": data}) + "\n")
    (step,) = read_run(folder).steps
    assert step["spark/reward/mean"] == 0.25
    assert step["spark/gated"] == 1  # of the rows
    assert "val-core/x/acc/mean@1" not in step


async def test_a_row_of_another_version_is_named(tmp_path):
    folder = await run(tmp_path / "arm", log=False)
    change(folder / "rollouts" / "1.jsonl", lambda number, line: number == 2 and line.pop("spark_steps_marked"))
    with pytest.raises(SourceError, match=r"1\.jsonl:3: no rollout.*spark_steps_marked"):
        read_run(folder)


async def test_one_run_is_wanted(tmp_path):
    await run(tmp_path / "a" / "x")
    (tmp_path / "a" / "x" / "held_out").mkdir()
    await run(tmp_path / "a" / "y")
    with pytest.raises(SourceError, match=r"there are: .*x, .*y"):
        read_run(tmp_path / "a")
    with pytest.raises(SourceError, match="there are: none"):
        read_run(tmp_path / "a" / "x" / "held_out")


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"arm": "a", "seed": "no"}')
    with pytest.raises(SourceError, match=r"x\.json: no result of a run: seed"):
        RunResult.read(tmp_path / "x.json")
    logged(tmp_path / "y.json", {1: {}})
    with pytest.raises(SourceError, match="name a run's folder"):
        RunResult.read(tmp_path / "y.json")


async def test_a_result_with_more_in_its_steps_is_written_without_complaint(tmp_path, recwarn):
    found = read_run(await run(tmp_path / "arm"))
    more_of_it = found.model_copy(update={"steps": [{**step, "own/metric": 1.0} for step in found.steps]})
    more_of_it.write(tmp_path / "result.json")
    assert RunResult.read(tmp_path / "result.json") == more_of_it
    assert not recwarn.list
