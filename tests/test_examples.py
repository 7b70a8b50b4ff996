"""The short examples do what they say."""

import json
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from benchmarks.mock_server import MockServer, serving
from examples import external_server, own_design, swap_reward
from verl_spark.launch import SettingsError
from verl_spark.rewards.designs import get_design
from verl_spark.runs.rows import Row
from verl_spark.settings import SparkSettings
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import write_tags
from verl_spark.verification.reading import Reading

PREFIX = "examples.own_design:PREFIX"
GOOD = write_tags(["2 + 3 = 5", "So 5"], "5")
PROBLEM = "What is two and three?"


def invoke(main, *arguments):
    app = Typer()
    app.command()(main)
    return CliRunner().invoke(app, arguments)


def test_a_swapped_reward_changes_the_reward_and_the_trainers_hook_alone():
    lines = dict(line.split(": ", 1) for line in swap_reward.changes(swap_reward.RECIPE, swap_reward.SWAP))
    assert {key for key in lines if not key.startswith("reward.")} == {"trainer.v1.trainer_mode"}
    assert lines["trainer.v1.trainer_mode"] == "'sync', now 'spark_sync'"
    assert lines["reward.reward_model.model_path"] == "None, now 'outputs/prm_cot'"
    assert lines["reward.reward_manager.name"].endswith("now 'spark_prmcot'")
    assert lines["reward.spark.design"] == "None, now 'process_aware'"
    assert lines["reward.spark.verifier.kind"] == "None, now 'prm_cot'"


def test_a_recipe_from_the_command_line_is_swapped_and_nothing_is_started(monkeypatch):
    monkeypatch.setattr(subprocess, "call", lambda command: pytest.fail(f"started {command}"))
    swap = ("--swap", "reward_model=spark_orm", "--swap", "reward.reward_model.model_path=an/orm")
    result = invoke(swap_reward.main, *swap, "--", "algorithm.adv_estimator=rloo", "+trainer.mine=1")
    assert result.exit_code == 0
    assert "reward.spark.design: None, now 'orm'" in result.output.splitlines()
    assert "mine" not in result.output


def test_a_swap_that_cannot_work_is_refused_with_the_cure():
    swap = [*swap_reward.SWAP, "reward.spark.design=selective"]
    with pytest.raises(SettingsError, match=r"set algorithm\.adv_estimator=grpo"):
        swap_reward.changes(["algorithm.adv_estimator=rloo"], swap)
    result = invoke(swap_reward.main, "--swap", "reward_model=spark_prmkot")
    assert result.exit_code == 1
    assert "spark_prmcot_selective" in result.output  # one of the names that there are


def test_run_starts_verls_own_command_line(monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "call", lambda command: started.append(command) or 7)
    assert invoke(swap_reward.main, "--run", "--", "a=1", "b=2").exit_code == 7
    assert started == [[sys.executable, "-m", "verl.trainer.main_ppo", "a=1", "b=2", *swap_reward.SWAP]]


def test_an_own_design_is_chosen_by_its_name():
    lines = swap_reward.changes(swap_reward.RECIPE, [*swap_reward.SWAP, f"reward.spark.design={PREFIX}"])
    assert f"reward.spark.design: None, now '{PREFIX}'" in lines


def test_the_own_design_beside_step_average_and_process_aware():
    assert own_design.rewards() == {
        "every step right": [1, 1, 1],
        "last step wrong": [0.75, 0.75, 0],
        "second step wrong": [0.25, 0.75, 0],
        "first step wrong": [0, 0.75, 0],
        "verdict No, no step wrong": [1, 1, 0],
        "a mark too few": [None, None, 1],
        "verification cut": [None, None, None],
    }


@given(st.lists(st.integers(0, 1), min_size=1), st.booleans())
def test_the_own_design_pays_at_most_the_share_of_right_steps_and_less_for_each_earlier_error(marks, verdict):
    def reward(marks, gate=True):
        return get_design(PREFIX).score(gate, len(marks), Reading(verdict, tuple(marks))).reward

    assert 0 <= reward(marks) <= sum(marks) / len(marks)
    assert reward([1, *marks]) > reward([0, *marks]) == 0
    assert reward(marks, gate=False) == 0


def test_solutions_are_judged_by_a_server(tmp_path):
    path = tmp_path / "solutions.jsonl"
    texts = (GOOD, GOOD + "\nAnd 1 + 1 = 2.", GOOD.replace("So", "Thus"))
    path.write_text("".join(json.dumps({"problem": PROBLEM, "response": text}) + "\n" for text in texts))
    with serving("--wrong-every=1") as url:  # the last step of every solution is marked wrong
        result = invoke(external_server.main, str(path), "--url", url, "--model", "mock", "--design", "step_average")
    assert result.output.splitlines() == [
        f"{path}:1: reward 0.5, verdict No, marks (1, 0)",
        f"{path}:2: reward 0, gate_text_after_answer",
        f"{path}:3: reward 0.5, verdict No, marks (1, 0)",
    ]


async def test_an_orm_has_a_verdict_alone_and_the_server_gets_its_key(monkeypatch):
    seen = []

    @web.middleware
    async def note(request, handler):
        seen.append(request.headers["Authorization"])
        return await handler(request)

    app = MockServer(kind=Kind.ORM, wrong_every=1).app()
    app.middlewares.append(note)
    monkeypatch.setenv("SPARK_VERIFIER_KEY", "a key")
    async with TestServer(app) as server:
        verifier = {"base_urls": [str(server.make_url("/v1"))], "model": "mock", "kind": "orm"}
        settings = SparkSettings.from_config({"serving": "external", "design": "orm", "verifier": verifier})
        said = await external_server.judged(settings, [Row("here", {"problem": PROBLEM, "response": GOOD})])
    assert said == ["here: reward 0, verdict No"]
    assert seen == ["Bearer a key"]


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("cut", "no reward, cut"),
        ("garbage", "no reward, unreadable, I would rather not say."),
        ("http400", "no reward, failed, HTTP 400"),
    ],
)
async def test_a_missing_reward_has_its_cause(fault, line):
    async with TestServer(MockServer([fault]).app()) as server:
        verifier = {"base_urls": [str(server.make_url("/v1"))], "model": "mock"}
        settings = SparkSettings.from_config({"serving": "external", "verifier": verifier})
        (said,) = await external_server.judged(settings, [Row("here", {"problem": PROBLEM, "response": GOOD})])
    assert said.startswith(f"here: {line}")


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ('{"problem": "?"}', (), "solutions.jsonl:1: give a text for each of: problem, response"),
        ("{", (), "solutions.jsonl:1: broken JSON"),
        ("", ("--kind", Kind.ORM.value), "reward.spark.design=orm"),
        ("", ("--url", "here"), "reward.spark.verifier.base_urls"),
        (json.dumps({"problem": PROBLEM, "response": GOOD}), ("--design", "selective"), "token ids"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_a_call(tmp_path, row, options, message):
    path = tmp_path / "solutions.jsonl"
    path.write_text(row)
    result = invoke(external_server.main, str(path), "--url", "http://127.0.0.1:9/v1", "--model", "mock", *options)
    assert result.exit_code == 1
    assert message in result.output.replace("\n", "")
