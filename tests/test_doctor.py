"""The command `verl-spark doctor`, as a user runs it: what it says, its cures and its exit status."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from typer.testing import CliRunner

from benchmarks.mock_server import MockServer
from verl_spark.cli import main
from verl_spark.doctor import Finding
from verl_spark.versions import install

WIDE = "400"  # columns: no line of the table is wrapped


def doctor(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: the plugin and the platform are loaded once for the life of a process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    return subprocess.run(
        [Path(sys.executable).with_name("verl-spark"), "doctor", *options],
        env={**clean, "VERL_PLATFORM": "cpu", "COLUMNS": WIDE, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def line(output: str, what: str) -> str:
    """The one line of the table about `what`, its columns divided by single spaces."""
    lines = [" ".join(row.split()) for row in output.splitlines()]
    [found] = [row for row in lines if row.split(" ", 1)[1:] and row.split(" ", 1)[1].startswith(what)]
    return found


async def test_all_is_well_and_the_verifier_answers() -> None:
    pytest.importorskip("vllm")
    async with TestServer(MockServer().app()) as server:
        url = str(server.make_url("/v1"))
        run = await asyncio.to_thread(doctor, f"--base-url={url}")
    assert run.returncode == 0, run.stdout + run.stderr
    assert line(run.stdout, "verl ") == "ok verl 0.9.1"
    assert line(run.stdout, "plugin") == "ok plugin loaded by `import verl`"
    assert line(run.stdout, "reward managers").endswith(
        "spark_prmcot, spark_prm, spark_orm, spark_thinkprm, spark_format, spark_rlvr, spark_random, spark_majority"
    )
    assert line(run.stdout, "trainers") == "ok trainers spark_sync, spark_colocate_async"
    assert line(run.stdout, "reward_model=") == "ok reward_model=spark_prmcot reward.reward_manager.name=spark_prmcot"
    assert line(run.stdout, "accelerator").startswith("ok")
    assert line(run.stdout, url) == f"ok {url} serves mock"


def test_a_plugin_shut_out_and_a_server_that_is_down_are_wrong_with_their_cures() -> None:
    pytest.importorskip("verl")
    url = "http://127.0.0.1:9/v1"
    run = doctor(f"--base-url={url}", VERL_USE_EXTERNAL_PLUGINS="none")
    assert run.returncode == 1, run.stdout + run.stderr
    plugin = line(run.stdout, "plugin")
    assert plugin.startswith("wrong plugin VERL_USE_EXTERNAL_PLUGINS=none keeps verl from loading the plugin spark")
    assert plugin.endswith("unset the variable or add spark to it")
    server = line(run.stdout, url)
    assert server.startswith(f"wrong {url} URLError")
    assert server.endswith("is the server up, and does the URL end in /v1?")


@pytest.mark.parametrize(("states", "status"), [((), 0), (("ok", "note"), 0), (("ok", "wrong", "note"), 1)])
def test_the_exit_status_says_whether_anything_is_wrong(
    states: Iterable[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "examine", lambda urls: [Finding(state, "thing", "found") for state in states])
    assert CliRunner().invoke(main.app, ["doctor"]).exit_code == status


def test_a_cure_can_be_copied_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cure = install("gpu", "cpu")
    monkeypatch.setattr(main, "examine", lambda urls: [Finding("wrong", "verl", "[/] not installed", cure)])
    output = CliRunner().invoke(main.app, ["doctor"], env={"COLUMNS": WIDE}).output
    assert line(output, "verl") == f"wrong verl [/] not installed {cure}"


def test_every_server_given_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(main, "examine", lambda urls: asked.extend(urls) or [])
    CliRunner().invoke(main.app, ["doctor", "--base-url", "http://a/v1", "--base-url", "http://b/v1"])
    assert asked == ["http://a/v1", "http://b/v1"]
