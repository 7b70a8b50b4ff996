"""The command: nothing is lost or asked twice, what is recorded scores the same, and what cannot work is refused."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.mock_server import serving, stats_of
from tests.evaluation.made import config, engine, lines, rows, write_rows
from tests.verifier.conftest import serve  # noqa: F401  (a fixture)
from verl_spark.cli.main import app
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.run import run
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind
from verl_spark.verification.writing import write

LABELS = [-1, 0, 2, -1, 1, 2]


@pytest.fixture
def data(tmp_path):
    """Two subsets of six items."""
    for name in ("gsm8k", "math"):
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows(name, LABELS))
    return tmp_path / "data"


@pytest.fixture
def shared_data(pytestconfig):
    """The real items; skipped without the option."""
    folder = pytestconfig.getoption("--data")
    if folder is None:
        pytest.skip("benchmark data: give --data DIR")
    return folder / "processbench"


def measure(made):
    return run(made, lambda progress, total: None)


def result_of(made):
    return json.loads((made.output / "result.json").read_text())


def asked(url, **more):
    return {"kind": "prm_cot", "engine": engine(url), **more}


async def test_every_item_is_asked_once_and_all_of_it_is_kept(serve, data, tmp_path):  # noqa: F811
    async with serve() as (mock, url):
        made = config(tmp_path / "out", data, verifier=asked(url))
        whole = await measure(made)
        assert mock.served == {"ok": 12}
        again = await measure(made)
        assert mock.served == {"ok": 12}
    assert whole.progress.items == again.progress.items == 12
    assert again.progress.requests == 0
    assert whole.score == again.score
    kept, result = lines(tmp_path / "out" / "items.jsonl"), result_of(made)
    assert [(one["subset"], one["label"]) for one in kept] == [(n, at) for n in ("gsm8k", "math") for at in LABELS]
    for one in kept:  # the mock marks the last step wrong, or none
        assert one["prediction"] in (-1, 2)
        assert one["match"] == (one["prediction"] == one["label"])
        assert one["replies"][0]["finish_reason"] == "stop"
    wrong = [one["match"] for one in kept if one["subset"] == "math" and one["label"] >= 0]
    assert result["subsets"]["math"]["error_acc"]["value"] == 100 * sum(wrong) / 4
    assert result["cost"]["calls"] == 12
    assert result["cost"]["prompt_tokens"] == sum(one["replies"][0]["prompt_tokens"] for one in kept) > 0
    assert result["cost"]["completion_tokens"] == sum(one["replies"][0]["completion_tokens"] for one in kept) > 0
    assert set(result["data"]["files"]) == {str(data / "gsm8k.jsonl"), str(data / "math.jsonl")}
    assert EvalConfig.from_mapping(result["config"]) == made


async def test_what_failed_and_may_pass_is_owed_and_gives_no_score_yet(serve, data, tmp_path):  # noqa: F811
    async with serve() as (_, url):
        unbroken = await measure(config(tmp_path / "unbroken", data, verifier=asked(url)))
    async with serve("ok", "http503", "ok", "drop") as (mock, url):
        made = config(tmp_path / "out", data, verifier=asked(url))
        first = await measure(made)
        assert (first.score, first.progress.failed) == (None, 6)
        assert not (made.output / "result.json").exists()
        starts = 1
        while (found := await measure(made)).score is None:
            starts += 1
        assert starts > 1
        assert mock.samples == 12
    assert found.score == unbroken.score


async def test_what_cannot_be_asked_is_no_prediction_and_is_not_asked_again(serve, data, tmp_path):  # noqa: F811
    async with serve("http400", "cut", *["ok"] * 10) as (mock, url):
        made = config(tmp_path / "out", data, verifier=asked(url), window=1)
        found = await measure(made)
        assert found.progress.set_aside == 1
        await measure(made)
        assert sum(mock.served.values()) == 12
    gsm8k = found.score.subsets["gsm8k"]
    assert gsm8k.faults == {"failed": 1 / 6, "cut": 1 / 6, "unreadable": 0, "step_mismatch": 0}
    assert gsm8k.cut_replies == 1 / 5
    (failure,) = lines(made.output / "failures.jsonl")
    assert failure["problem"] == "gsm8k/gsm8k-0"


async def test_recorded_replies_score_as_asked_ones(serve, data, tmp_path):  # noqa: F811
    async with serve("ok", "cut", "garbage") as (_, url):
        live = config(tmp_path / "live", data, verifier=asked(url))
        whole = await measure(live)
    recorded = config(tmp_path / "recorded", data, replies=str(live.output / "items.jsonl"))
    found = await measure(recorded)
    assert found.score == whole.score
    assert lines(recorded.output / "items.jsonl") != []
    result = result_of(recorded)
    assert result["cost"] is None
    assert list(result["data"]["replies"]) == [str(live.output / "items.jsonl")]


async def test_a_critic_votes_over_the_replies_of_one_request(serve, data, tmp_path):  # noqa: F811
    async with serve() as (mock, url):
        critic = asked(url, kind="critic", n=4, temperature=0.7, top_p=0.8)
        await measure(config(tmp_path / "out", data, verifier=critic))
        assert (mock.samples, mock.served) == (48, {"ok": 12})
    assert all(len(one["replies"]) == 4 for one in lines(tmp_path / "out" / "items.jsonl"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"verifier\.engine\.model: no model to ask; name it, or give recorded replies"),
        ({"verifier": {"kind": "token_scores"}}, r"verifier\.scorer\.model: no model to ask"),
        (
            {"verifier": {"kind": "prm", "n": 3, "engine": engine("http://x")}},
            r"verifier\.n: votes are for kind=critic",
        ),
        ({"verifier": {"kind": "critic", "n": 3, "engine": engine("http://x")}}, "raise verifier.temperature"),
        (
            {"verifier": {"kind": "prm", "engine": {"kind": "vllm", "model": "m", "vllm": {"max_model_len": 4096}}}},
            r"verifier\.max_tokens: a reply of 4096 tokens has no room .* verifier\.engine\.vllm\.max_model_len=4096",
        ),
        ({"verifier": {"kind": "prmcot", "engine": engine("http://x")}}, r"verifier\.kind: .*'prm_cot'"),
        ({"verifier": {"scorer": {"model": "m"}}}, r"verifier\.scorer: is read with kind=token_scores only"),
        ({"data": {"subset": ["math"]}}, r"data\.subset: there is no such setting; .*subsets"),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message):
        config(tmp_path, "d", **changes)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"verifier": {"kind": "prm"}}, "verifier.kind: 'prm_cot', now 'prm'"),
        ({"verifier": {"temperature": 0.5}}, "verifier.temperature: 0.0, now 0.5"),
        ({"verifier": {"engine": {**engine("http://x"), "model": "b"}}}, "verifier.engine.model: 'mock', now 'b'"),
        ({"data": {"path": "other"}}, "data.path: 'd', now 'other'"),
        ({"seed": 1}, "seed: 0, now 1"),
    ],
)
def test_another_config_in_a_folder_is_refused_with_both_values(tmp_path, change, shown):
    base = {"verifier": asked("http://x")}
    config(tmp_path, "d", **base).claim()
    changed = {**base, **change}
    if "verifier" in change:
        changed["verifier"] = {**base["verifier"], **change["verifier"]}
    with pytest.raises(SettingsError) as refused:
        config(tmp_path, "d", **changed).check()
    assert shown in str(refused.value)
    free = {"data": {"limit": 3, "subsets": ["math"]}, "window": 2, "training_data": ["t"]}
    elsewhere = {"engine": {**engine("http://y"), "max_concurrency": 1}}
    config(tmp_path, "d", **free, verifier={**base["verifier"], **elsewhere}).claim()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"id": "gsm8k-0", "replies": ["x"]}], "11 of 12 items have no 1 replies there, the first: gsm8k/gsm8k-1 (0)"),
        (
            [{"id": "a", "replies": "x"}],
            "r.jsonl:1: replies: a list of texts, or of objects with text and finish_reason",
        ),
        ([{"id": "a", "replies": [{"reply": "x"}]}], "r.jsonl:1: replies: a list of texts"),
        ([{"replies": ["x"]}], "r.jsonl:1: id: a text or a whole number, not None"),
        ([{"id": "a", "replies": []}, {"id": "a", "replies": []}], "r.jsonl:2: id: 'a' was there before"),
    ],
)
def test_recorded_replies_that_do_not_fit_are_refused(data, tmp_path, content, message):
    path = write_rows(tmp_path / "r.jsonl", content)
    result = command(f"output={tmp_path / 'out'}", f"data.path={data}", "verifier.kind=prm", f"--replies={path}")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out" / "result.json").exists()


def command(*arguments):
    return CliRunner().invoke(app, ["eval", "processbench", *arguments], env={"COLUMNS": "250"})


def test_the_command_prints_the_table_and_names_the_items_of_the_training_data(data, tmp_path):
    replies = [
        {"id": f"{name}-{place}", "replies": [f"\\boxed{{{label if place < 4 else 0}}}"]}
        for name in ("gsm8k", "math")
        for place, label in enumerate(LABELS)
    ]
    path = write_rows(tmp_path / "replies.jsonl", replies)
    seen = [{"problem": "What is 4 of math?"}, {"problem": None}, {"problem": "Quite another one"}]
    training = write_rows(tmp_path / "a, b.jsonl", seen)
    output = tmp_path / "out"
    made = (f"output={output}", f"data.path={data}", "verifier.kind=critic", f"--replies={path}")
    result = command(*made, f"--training-data={training}")
    assert result.exit_code == 0, result.output
    assert "gsm8k 0, math 1; 1 of them word for word" in result.output
    found = json.loads((output / "result.json").read_text())
    assert found["subsets"]["math"]["error_acc"]["value"] == 50.0
    assert found["subsets"]["math"]["correct_acc"]["value"] == 100.0
    assert found["average_f1"]["value"] == pytest.approx(2 * 50 * 100 / 150)
    contamination = found["contamination"]
    assert (contamination["rows"], contamination["rows_without_a_problem"]) == (2, 1)
    assert contamination["overlapping"] == {"gsm8k": [], "math": ["math-4"]}
    rest = contamination["without_overlapping"]
    assert rest["subsets"]["math"]["error_acc"]["value"] == pytest.approx(200 / 3)
    assert rest["subsets"]["gsm8k"] == found["subsets"]["gsm8k"]
    result = command(*made, "--training-data=/no/such.jsonl")
    assert result.exit_code == 2
    assert "/no/such.jsonl: neither a file nor a data set" in result.stderr


def test_settings_are_listed():
    listed = CliRunner().invoke(app, ["eval", "settings"], env={"COLUMNS": "250"}).output
    assert "verifier.scorer.separator" in listed
    assert "verifier.engine.base_urls" in listed


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_killed_at_work_it_goes_on_and_asks_nothing_twice(data, tmp_path, share):
    with serving("--latency-s=0.1") as url:
        file = tmp_path / "config.yaml"
        made = config(tmp_path / "out", data, verifier=asked(url), window=2)
        file.write_text(yaml.safe_dump(made.model_dump(mode="json")))
        process = start(file)
        calls = made.output / "calls" / "judge.jsonl"
        while not calls.exists() or len(calls.read_bytes().splitlines()) < 12 * share:
            assert process.poll() is None, "it ended before it was to be killed"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = calls.read_bytes()
        calls.write_bytes(kept + b'{"key": "torn')
        assert start(file).wait(60) == 0
        assert calls.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
        assert len(calls.read_bytes().splitlines()) == 12
        assert stats_of(url)["samples"] <= 12 + 2  # those in flight
    assert len(lines(made.output / "items.jsonl")) == 12


def start(file):
    code = "from verl_spark.cli.main import app; app()"
    line = [sys.executable, "-c", code, "eval", "processbench", "--config", str(file)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("kind", ["critic", "prm_cot"])
def test_all_items_of_the_benchmark_with_recorded_replies(shared_data, tmp_path, kind):
    """Replies by rule, of which every share is known without our metric; an F1 of them by hand."""
    recorded, hits = [], {}
    for name in ("gsm8k", "math", "olympiadbench", "omnimath"):
        rng = random.Random(name)
        for row in json.loads((shared_data / f"{name}.json").read_text()):
            steps, label = len(row["steps"]), row["label"]
            said = label if rng.random() < 0.6 else rng.randrange(-1, steps)
            marks = [int(place != said) for place in range(steps)]
            text = f"\\boxed{{{said}}}" if kind == "critic" else write(Kind.PRM_COT, marks, said < 0)
            if rng.random() < 0.1:
                said, text = None, "I cannot tell."
            recorded.append({"id": row["id"], "replies": [text]})
            hits.setdefault((name, label < 0), []).append(said == label)
    path = write_rows(tmp_path / "replies.jsonl", recorded)
    made = (f"output={tmp_path / 'out'}", f"data.path={shared_data}", f"verifier.kind={kind}", f"--replies={path}")
    result = command(*made)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (found["data"]["items"], list(found["subsets"])) == (3400, ["gsm8k", "math", "olympiadbench", "omnimath"])
    scores = []
    for name, subset in found["subsets"].items():
        error, correct = (100 * sum(hits[name, right]) / len(hits[name, right]) for right in (False, True))
        scores.append(2 * error * correct / (error + correct))
        assert subset["error_acc"]["value"] == pytest.approx(error)
        assert subset["correct_acc"]["value"] == pytest.approx(correct)
        assert subset["f1"]["value"] == pytest.approx(scores[-1])
        assert subset["f1"]["low"] < scores[-1] < subset["f1"]["high"]
        assert subset["no_prediction"]["unreadable"] == pytest.approx(0.1, abs=0.04)
    assert found["average_f1"]["value"] == pytest.approx(sum(scores) / 4)
    assert len(lines(tmp_path / "out" / "items.jsonl")) == 3400
