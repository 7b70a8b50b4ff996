"""The flow: nothing is lost, nothing is asked twice, and the records do not depend on what happened on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.mock_server import serving, stats_of
from tests.data.runs import PLAIN, PROBLEMS, config, finish, lines, records, run
from verl_spark.data.records import KEPT

MOCK = {"disagreement": 0.3}


async def test_every_call_is_made_once_and_another_method_needs_no_new_one(serve, problems, tmp_path):
    async with serve(**MOCK) as (mock, url):
        progress, selection = await finish(config(url, problems, tmp_path / "out"))
        assert (progress.problems, progress.samples) == (6, 6 * 2 + 6 * 2 * 5)
        assert mock.samples == progress.samples
        assert mock.served == {"ok": 6 + 6 * 2}  # all samples of a prompt in one request
        assert selection.counts["step"].total() == 12
        both = config(url, problems, tmp_path / "out", methods=["single", "outcome", "step"])
        again, selection = await finish(both)
        assert again.requests == 0
    assert mock.samples == progress.samples
    assert {method: counts.total() for method, counts in selection.counts.items()} == dict.fromkeys(both.methods, 12)
    assert all(record.picked == 0 and len(record.ballots) == 1 for record in records(both, "single"))
    assert len({record.picked for record in records(both)} - {None}) > 1


async def test_the_stages_one_by_one_give_what_one_run_gives(serve, problems, tmp_path):
    async with serve(**MOCK) as (_, url):
        whole, parts = (config(url, problems, tmp_path / name, methods=PLAIN) for name in ("whole", "parts"))
        await finish(whole)
        _, selection = await finish(parts, ["generate"])
        assert selection.counts["step"].total() == 0
        assert +selection.owed == {"verify": 12}
        _, selection = await finish(parts, ["verify", "reference"])
        assert selection.owed["critique"] > 0
        assert selection.counts["meta_step"][KEPT] == 0
        await finish(parts, ["critique", "merge"])
    for method in PLAIN:
        assert records(parts, method) == records(whole, method)


async def test_failures_that_may_pass_are_owed_and_asked_again(serve, problems, tmp_path):
    async with serve(**MOCK) as (_, url):
        unbroken = config(url, problems, tmp_path / "unbroken")
        await finish(unbroken)
    async with serve("ok", "http503", "drop", "ok", "partial", **MOCK) as (mock, url):
        broken = config(url, problems, tmp_path / "broken")
        starts = 0
        failed = 1
        while failed:
            progress, _ = await finish(broken)
            failed, starts = progress.failed, starts + 1
    assert starts > 1
    assert mock.samples == 6 * 2 + 6 * 2 * 5  # a part of an answer is kept, and only the rest is asked for
    assert records(broken) == records(unbroken)
    assert not (tmp_path / "broken" / "failures.jsonl").exists()


async def test_a_call_that_cannot_succeed_is_set_aside_with_its_cause_and_counts_in_n(serve, problems, tmp_path):
    async with serve(*["ok"] * 6, "http400", *["ok"] * 11) as (mock, url):
        made = config(url, problems, tmp_path / "out", window=1, generator={"n": 1})
        progress, _ = await finish(made, ["generate"])
        progress, selection = await finish(made)
        assert (progress.failed, progress.set_aside) == (0, 1)
        asked = sum(mock.served.values())
        progress, _ = await finish(made)
        assert (progress.requests, sum(mock.served.values())) == (0, asked)
    (failure,) = lines(tmp_path / "out" / "failures.jsonl")
    assert (failure["stage"], failure["problem"]) == ("verify", f"{problems}:1")
    assert "HTTP 400" in failure["cause"]
    assert selection.counts["step"]["quorum"] == 1
    (dropped,) = (record for record in records(made) if record.drop == "quorum")
    assert len(dropped.ballots) == 5


async def test_cut_repeated_and_unnumbered_solutions_are_counted_and_not_verified(serve, problems, tmp_path):
    async with serve("cut", "garbage", "ok") as (mock, url):
        made = config(url, problems, tmp_path / "out", window=1)
        await finish(made, ["generate"])
        _, selection = await finish(made, [])
        assert selection.counts["step"] == {"solution_cut": 2, "solution_no_steps": 2}
        assert selection.owed["verify"] == 8
    same = tmp_path / "same.jsonl"
    same.write_text('{"id": 1, "problem": "One?"}\n{"id": 2, "problem": "One?"}\n')
    async with serve() as (mock, url):
        await finish(config(url, same, tmp_path / "twice"))
        assert mock.served == {"ok": 1 + 2}  # the same texts are the same calls, also while they are under way


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_no_reference_reaches_a_reference_free_method(serve, tmp_path, form):
    """Poisoned, permuted and removed references give the same requests and the same records."""
    answers = [row["answer"] for row in PROBLEMS]
    variants = [answers, ["THE ANSWER IS POISON"] * 6, answers[::-1], None]
    seen = []
    for number, variant in enumerate(variants):
        path = tmp_path / f"{number}" / f"problems.{form}"
        path.parent.mkdir()
        rows = [{"id": row["id"], "problem": row["problem"]} for row in PROBLEMS]
        if variant is not None:
            for row, answer in zip(rows, variant, strict=True):
                row |= {"answer": answer, "reward_model": {"style": "rule", "ground_truth": answer}}
        if form == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
        async with serve(**MOCK) as (mock, url):
            made = config(url, path, tmp_path / f"{number}" / "out", methods=PLAIN)
            await finish(made)
            seen.append((set(mock.prompts), mock.samples, [records(made, method) for method in PLAIN]))
            with_reference = config(url, path, tmp_path / f"{number}" / "out", methods=[*PLAIN, "reference"])
            progress, selection = await finish(with_reference)
            assert progress.samples == (0 if variant is None else 12 * 3)  # this one method does read them
            assert selection.counts["reference"].total() == (0 if variant is None else 12)
    assert all(one == seen[0] for one in seen)


async def test_bad_rows_are_named_in_a_file(serve, problems, tmp_path):
    problems.write_text(problems.read_text() + '{"id": "p0", "problem": "Again?"}\n{"id": "x"\n')
    async with serve() as (_, url):
        progress, _ = await finish(config(url, problems, tmp_path / "out"))
    assert (progress.problems, progress.bad_rows) == (6, 2)
    assert [row["row"] for row in lines(tmp_path / "out" / "bad_rows.jsonl")] == [f"{problems}:7", f"{problems}:8"]


def test_kill_9_anywhere_loses_nothing(tmp_path):
    """Killed twice in the middle and started again: the unbroken run's records, and at most 1 % more calls."""
    rows = [{"id": i, "problem": f"What is {i}?"} for i in range(150)]
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with serving("--disagreement=0.3") as url:
        unbroken = config(url, problems, tmp_path / "unbroken", methods=["step", "meta_step"])
        run(finish(unbroken))
        needed = stats_of(url)["samples"]
    with serving("--disagreement=0.3", "--latency-s=0.002") as url:
        engine = {"model": "mock", "base_urls": [url], "max_concurrency": 2}
        roles = {"generator": {"engine": engine}, "verifier": {"engine": engine}}
        broken = config(url, problems, tmp_path / "broken", methods=["step", "meta_step"], **roles)
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(broken.model_dump(mode="json")))
        calls = tmp_path / "broken" / "calls" / "verify.jsonl"
        for share in (0.3, 0.6):
            _kill_when(_start(file), calls, share * (tmp_path / "unbroken" / "calls" / "verify.jsonl").stat().st_size)
            kept = calls.read_bytes()
            calls.write_bytes(kept + b'{"key": "torn')
        process = _start(file)
        assert process.wait(60) == 0
        assert calls.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
        assert stats_of(url)["samples"] <= 1.01 * needed
    for method in ("step", "meta_step"):
        assert records(broken, method) == records(unbroken, method)


def test_an_interrupt_ends_quietly_and_the_next_start_goes_on(problems, tmp_path):
    with serving("--latency-s=2") as url:
        file = tmp_path / "config.yaml"
        made = config(url, problems, tmp_path / "out")
        file.write_text(yaml.safe_dump(made.model_dump(mode="json")))
        process = _start(file, stderr=subprocess.PIPE)
        calls = tmp_path / "out" / "calls" / "generate.jsonl"
        while not calls.exists() or not calls.stat().st_size:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert re.search(rb"start again", said)
        assert b"Traceback" not in said
        assert _start(file).wait(120) == 0
        assert stats_of(url)["samples"] < 2 * (6 * 2 + 6 * 2 * 5)


def _start(file: Path, **options) -> subprocess.Popen:
    code = "from verl_spark.cli.main import app; app()"
    command = [sys.executable, "-c", code, "data", "run", "--config", str(file)]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored by what a shell runs behind it
        **options,
    )


def _kill_when(process: subprocess.Popen, file: Path, size: float) -> None:
    while not file.exists() or file.stat().st_size < size:
        assert process.poll() is None, "it ended before it was to be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
