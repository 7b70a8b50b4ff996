"""The commands `eval math` and `eval compare`: nothing is lost or asked twice, the numbers are those of the replies."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from benchmarks.mock_server import MockServer, serving, stats_of
from tests.evaluation.made import engine, lines, math_config, write_benchmarks, write_rows
from verl_spark.cli.main import app
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.evaluation.policy.run import run
from verl_spark.settings import SettingsError
from verl_spark.verification.prompts import policy_instruction

HOSTILE = [
    "",
    "I will not box it: 1",
    "\\boxed{1",
    "\\boxed{}",
    "\\boxed{0} \\boxed{1} \\boxed{2} \\boxed{9}",
    "<answer>\\boxed{\ud800}</answer>",
    "\\boxed{" * 900,
    "\\boxed{" + "(" * 300 + "}",
]


ENDLESS = "\\boxed{9^{9^{9^{9^{9}}}}}"


class Guesser(MockServer):
    """Guesses a number below 3 for every sample; `texts` are replied in turn before that."""

    def __init__(self, *schedule, texts=()):
        super().__init__(schedule or ("ok",))
        self.texts, self.asked = list(texts), []

    async def sample(self, prompt, shown, seed):
        self.asked.append(prompt)
        return self.texts.pop() if self.texts else f"It is {seed}. \\boxed{{{seed % 3}}}"


@asynccontextmanager
async def guessing(*schedule, **more):
    guesser = Guesser(*schedule, **more)
    async with TestServer(guesser.app()) as server:
        yield guesser, str(server.make_url("/v1"))


@pytest.fixture
def folder(tmp_path):
    """Three problems of each benchmark."""
    return write_benchmarks(tmp_path / "data")


def measure(made):
    return run(made, lambda progress, total: None)


def result_of(made):
    return json.loads((made.output / "result.json").read_text())


async def test_every_call_is_made_once_and_the_scores_are_those_of_the_replies(folder, tmp_path):
    async with guessing() as (guesser, url):
        made = math_config(tmp_path / "out", folder, url)
        whole = await measure(made)
        calls = 6 * 3 * 2
        assert guesser.served == {"ok": calls}
        again = await measure(made)
        assert guesser.served == {"ok": calls}
    assert again.score == whole.score
    assert again.progress.requests == 0
    assert set(guesser.asked) == {
        f"What is {i} of {name}?\n\n{policy_instruction('tags')}" for name in BENCHMARKS for i in range(3)
    }
    items, result = lines(made.output / "items.jsonl"), result_of(made)
    assert len(items) == 18
    for name, benchmark in BENCHMARKS.items():
        mine = [item for item in items if item["benchmark"] == name]
        k = 4 if benchmark.contest else 2
        right = [[reply["answer"] == item["id"] for reply in item["sampled"]] for item in mine]
        assert [len(each) for each in right] == [k] * 3
        assert all(reply["correct"] == (reply["answer"] == item["id"]) for item in mine for reply in item["sampled"])
        found = result["benchmarks"][name]
        assert found["greedy"]["value"] == pytest.approx(
            100 * sum(item["greedy"]["answer"] == item["id"] for item in mine) / 3
        )
        assert found["avg_at_k"]["value"] == pytest.approx(100 * sum(map(sum, right)) / (3 * k))
        assert found["pass_at"][str(k)]["value"] == pytest.approx(100 * sum(map(any, right)) / 3)
        votes = [[reply["answer"] for reply in item["sampled"]] for item in mine]
        winners = [{one for one in each if each.count(one) == max(map(each.count, each))} for each in votes]
        assert found["maj_at_k"]["value"] == pytest.approx(
            100 * sum(winner == {item["id"]} for winner, item in zip(winners, mine, strict=True)) / 3
        )
        assert found["ties"] == sum(len(winner) > 1 for winner in winners)
    means = [result["benchmarks"][name]["greedy"]["value"] for name in BENCHMARKS]
    assert result["mean_of_six"]["greedy"]["value"] == pytest.approx(sum(means) / 6)
    assert result["cost"]["calls"] == 3 * (3 * (1 + 4) + 3 * (1 + 2))
    assert result["cost"]["completion_tokens"] > 0
    assert result["policy"]["sampled"]["temperature"] == 0.6
    assert MathConfig.from_mapping(result["config"]) == made


async def test_what_failed_and_may_pass_is_owed_and_gives_no_score_yet(folder, tmp_path):
    async with guessing() as (_, url):
        unbroken = await measure(math_config(tmp_path / "unbroken", folder, url))
    async with guessing("ok", "http503", "ok", "partial", "drop") as (guesser, url):
        made = math_config(tmp_path / "out", folder, url)
        first = await measure(made)
        assert first.score is None
        assert first.progress.failed
        assert not (made.output / "result.json").exists()
        while (found := await measure(made)).score is None:
            pass
        assert guesser.samples == 18 + 9 * 4 + 9 * 2
    assert found.score == unbroken.score


async def test_more_replies_are_drawn_later_and_none_is_drawn_again(folder, tmp_path):
    async with guessing() as (guesser, url):
        made = math_config(tmp_path / "out", folder, url, sampled={"n": 0, "n_contest": 0})
        alone = await measure(made)
        assert guesser.samples == 18
        assert alone.score.avg is None
        assert result_of(made)["benchmarks"]["amc23"]["avg_at_k"] is None
        assert lines(made.output / "items.jsonl")[0]["majority"] is None
        more = math_config(tmp_path / "out", folder, url)
        whole = await measure(more)
        assert guesser.samples == 18 + 9 * 4 + 9 * 2
        assert whole.score.greedy == alone.score.greedy


async def test_hostile_replies_are_wrong_and_hurt_nothing(folder, tmp_path):
    only = {"benchmarks": ["amc23"], "path": str(folder), "limit": 1}
    async with guessing(texts=[*HOSTILE, ENDLESS]) as (_, url):
        made = math_config(tmp_path / "out", folder, url, data=only, sampled={"n_contest": 10})
        found = (await measure(made)).score.benchmarks["amc23"]
    (item,) = lines(made.output / "items.jsonl")
    replies = [item["greedy"], *item["sampled"]]
    hostile = [reply for reply in replies if "It is" not in reply["text"]]
    assert sorted(reply["text"] for reply in hostile) == sorted([*HOSTILE, ENDLESS])
    assert all(reply["correct"] is (None if reply["text"] == ENDLESS else False) for reply in hostile)
    assert found.greedy_faults["undecided"] + found.sampled_faults["undecided"] == 1
    assert found.greedy_faults["no_answer"] + found.sampled_faults["no_answer"] == 4


async def test_what_cannot_be_asked_and_what_was_cut_is_counted(folder, tmp_path):
    async with guessing("http400", "cut", *["ok"] * 10) as (guesser, url):
        only = {"benchmarks": ["aime24"], "path": str(folder)}
        made = math_config(tmp_path / "out", folder, url, data=only, window=1)
        found = (await measure(made)).score.benchmarks["aime24"]
        await measure(made)
        assert sum(guesser.served.values()) == 6
    assert found.greedy_faults["failed"] == 1
    assert found.sampled_faults["cut"] == found.sampled_faults["no_answer"] == 1
    assert (made.output / "failures.jsonl").exists()


@pytest.mark.parametrize("prompt", ["plain", "boxed", "as_is"])
async def test_other_prompts(folder, tmp_path, prompt):
    only = {"benchmarks": ["aime24"], "path": str(folder)}
    async with guessing() as (guesser, url):
        policy = {"prompt": prompt, "engine": engine(url)}
        await measure(math_config(tmp_path / "out", folder, url, data=only, policy=policy))
    behind = "" if prompt == "as_is" else f"\n\n{policy_instruction(prompt)}"
    assert set(guesser.asked) == {f"What is {i} of aime24?{behind}" for i in range(3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": {"engine": {}}}, r"policy\.engine\.model: Field required"),
        ({"policy": {"prompt": "xml"}}, r"policy\.prompt: .*'tags'"),
        ({"sampled": {"temperature": 0}}, r"sampled\.temperature: at 0 .*sampled\.n=0"),
        ({"sampled": {"n": -1}}, r"sampled\.n: "),
        (
            {"policy": {"engine": {"kind": "vllm", "model": "m", "vllm": {"max_model_len": 2048}}}},
            r"policy\.max_tokens: a reply of 2048 tokens .* policy\.engine\.vllm\.max_model_len=2048; lower the first",
        ),
        ({"sampled": {"k": 1}}, r"sampled\.k: there is no such setting; .*n_contest"),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_name(tmp_path, changes, message):
    with pytest.raises(SettingsError, match=message):
        math_config(tmp_path, "d", **changes)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"policy": {"prompt": "boxed"}}, "policy.prompt: 'tags', now 'boxed'"),
        ({"policy": {"max_tokens": 9}}, "policy.max_tokens: 2048, now 9"),
        ({"policy": {"engine": {**engine("http://x"), "model": "b"}}}, "policy.engine.model: 'mock', now 'b'"),
        ({"sampled": {"temperature": 1.0}}, "sampled.temperature: 0.6, now 1.0"),
        ({"data": {"path": "e"}}, "data.path: 'd', now 'e'"),
        ({"seed": 1}, "seed: 0, now 1"),
    ],
)
def test_another_config_in_a_folder_is_refused_with_both_values(tmp_path, change, shown):
    math_config(tmp_path, "d").claim()
    with pytest.raises(SettingsError) as refused:
        math_config(tmp_path, "d", **change).check()
    assert shown in str(refused.value)
    free = {"data": {"limit": 3, "benchmarks": ["aime24"]}, "window": 2, "checkers": 9, "training_data": ["t"]}
    math_config(tmp_path, "d", "http://y", **free, sampled={"n": 8}).claim()


def command(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], env={"COLUMNS": "300"})


def test_the_command_prints_the_scores_and_names_problems_of_the_training_data(folder, tmp_path):
    training = write_rows(tmp_path / "seen.jsonl", [{"problem": "What is 1 of amc23?"}])
    with serving() as url:
        keys = ["policy.engine.model=mock", f"policy.engine.base_urls=[{url}]", f"data.path={folder}", "sampled.n=0"]
        keys += ["sampled.n_contest=2", "checkers=1", f"--training-data={training}"]
        result = command("math", f"output={tmp_path / 'out'}", *keys)
    assert result.exit_code == 0, result.output
    assert "amc23 1, olympiadbench 0" in result.output
    assert "mean of the six" in result.output
    contamination = json.loads((tmp_path / "out" / "result.json").read_text())["contamination"]
    assert contamination["overlapping"]["amc23"] == ["1"]
    assert contamination["without_overlapping"]["benchmarks"]["amc23"]["problems"] == 2
    refused = command("math", f"output={tmp_path / 'other'}", *keys[:2], "data.path=/no/such")
    assert refused.exit_code == 2
    assert "/no/such: no file of the benchmark math500" in refused.stderr


def test_its_settings_are_listed():
    listed = command("settings", "math").output
    assert "sampled.n_contest" in listed
    assert "verifier.kind" in command("settings").output


async def test_runs_side_by_side(folder, tmp_path):
    """Differences over the problems of both, by hand; the others left out and counted."""
    names = ("first", "second")
    for seed, name in enumerate(names):
        async with guessing() as (_, url):
            await measure(math_config(tmp_path / name, folder, url, seed=seed))
    kept = lines(tmp_path / "second" / "items.jsonl")
    changed = [
        {**item, "problem_sha256": "0"} if item["benchmark"] == "aime25" and item["id"] == "2" else item
        for item in kept
    ]
    write_rows(
        tmp_path / "second" / "items.jsonl",
        [item for item in changed if item["benchmark"] != "amc23" or item["id"] != "0"],
    )
    result = command("compare", *(tmp_path / name for name in names))
    assert result.exit_code == 0, result.output
    greedy, sampled = result.output.split("sampled, avg@k")
    assert "SPARK PRM-CoT 7B" in greedy
    assert "one seed, no intervals" in greedy
    assert "SPARK" not in sampled
    (row,) = (line for line in greedy.splitlines() if line.strip().startswith("second - first"))
    assert row.split()[-1] == "3"  # one of aime25 on either side, one of amc23
    first, second = ({(i["benchmark"], i["id"]): i for i in lines(tmp_path / n / "items.jsonl")} for n in names)
    both = [("aime25", "0"), ("aime25", "1")]
    gain = sum(second[key]["greedy"]["correct"] - first[key]["greedy"]["correct"] for key in both) / 2
    assert f"{100 * gain:+.1f} %" == " ".join(row.replace("]", "]|").split("|")[2].split()[:2])


async def test_folders_of_one_name_are_told_apart(folder, tmp_path):
    only = {"benchmarks": ["aime24"], "path": str(folder)}
    for name in ("a", "b"):
        async with guessing() as (_, url):
            await measure(math_config(tmp_path / name / "out", folder, url, data=only))
    output = command("compare", tmp_path / "a" / "out", tmp_path / "b" / "out").output
    assert str(tmp_path / "b" / "out") in "".join(output.split())


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no result.json, so no finished run"), ("{}\n", "not what `verl-spark eval math` writes (KeyError")],
)
def test_a_folder_without_a_finished_run_is_refused(tmp_path, content, message):
    if content:
        (tmp_path / "result.json").write_text("{}")
        (tmp_path / "items.jsonl").write_text(content)
    result = command("compare", tmp_path)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_killed_at_work_it_goes_on_and_asks_nothing_twice(folder, tmp_path, share):
    with serving("--latency-s=0.1") as url:
        file = tmp_path / "config.yaml"
        made = math_config(tmp_path / "out", folder, url, window=2)
        file.write_text(yaml.safe_dump(made.model_dump(mode="json")))
        process = start(file)
        calls = made.output / "calls" / "greedy.jsonl"
        while not calls.exists() or len(calls.read_bytes().splitlines()) < 18 * share:
            assert process.poll() is None, "it ended before it was to be killed"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kept = calls.read_bytes()
        calls.write_bytes(kept + b'{"key": "torn')
        assert start(file).wait(120) == 0
        assert calls.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])
        assert len(calls.read_bytes().splitlines()) == 18
        assert stats_of(url)["samples"] <= 18 + 9 * 4 + 9 * 2 + 2 * 4  # those in flight
    assert len(lines(made.output / "items.jsonl")) == 18


def start(file):
    code = "from verl_spark.cli.main import app; app()"
    line = [sys.executable, "-c", code, "eval", "math", "--config", str(file)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
