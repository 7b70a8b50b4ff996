"""The data card, the cost account, the plan, and the commands that print them."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.mock_server import serving
from tests.data.runs import PLAIN, config, finish, lines
from verl_spark.cli.main import app
from verl_spark.data.run import plan

CALLS = {"generate": 6 * 2, "verify": 6 * 2 * 5}


async def test_the_card_counts_every_solution_and_says_whether_references_were_used(serve, problems, tmp_path):
    async with serve("ok", "ok", "cut", disagreement=0.3) as (_, url):
        await finish(config(url, problems, tmp_path, methods=[*PLAIN, "reference"]))
    card = json.loads((tmp_path / "card.json").read_text())
    for name, method in card["methods"].items():
        rows = lines(tmp_path / "records" / f"{name}.jsonl")
        assert method["solutions"] == len(rows) == method["kept"] + sum(method["dropped"].values()) == 12
        assert method["kept"] == sum(method["steps"].values()) == sum(row["drop"] is None for row in rows)
        assert method["references_used"] == (name == "reference")
        assert ("not reference-free" in method["statement"]) == (name == "reference")
        assert set(method["prompts"]) == set(rows[0]["prompts"])
    assert card["methods"]["step"]["dropped"]["solution_cut"] > 0
    assert 0.5 < card["methods"]["step"]["verdict_agreement"] < 1
    assert "## meta_step" in (tmp_path / "card.md").read_text()


async def test_a_method_costs_what_it_would_have_needed_alone(serve, problems, tmp_path):
    prices = {"per_million_completion_tokens": 2.0}
    async with serve() as (_, url):
        for name in PLAIN:
            await finish(config(url, problems, tmp_path / name, methods=[name], prices=prices))
        await finish(config(url, problems, tmp_path / "all", methods=list(PLAIN), prices=prices))
    cost = json.loads((tmp_path / "all" / "cost.json").read_text())
    for name in PLAIN[1:3] + PLAIN[4:]:
        alone = json.loads((tmp_path / name / "cost.json").read_text())["total"]
        shared = cost["methods"][name]
        for key in ("calls", "prompt_tokens", "completion_tokens", "price"):
            assert shared[key] == pytest.approx(alone[key], abs=1e-5), (name, key)
        assert shared["per_kept_example"]["calls"] == pytest.approx(shared["calls"] / shared["kept"], abs=1e-5)
    assert cost["methods"]["single"]["calls"] == 12 + 12
    assert cost["total"]["calls"] == sum(stage["calls"] for stage in cost["stages"].values())
    assert cost["total"]["wall_seconds"] > 0
    assert cost["stages"]["verify"]["price"] == pytest.approx(cost["stages"]["verify"]["completion_tokens"] * 2e-6)


async def test_a_plan_counts_what_is_owed_and_spends_nothing(serve, problems, tmp_path):
    async with serve() as (mock, url):
        made = config(url, problems, tmp_path / "out", methods=["step", "meta_step", "reference"])
        found = await plan(made, 0, lambda _: None)
        assert (sum(mock.served.values()), (tmp_path / "out").exists()) == (0, False)
        calls = {stage: one.calls for stage, one in found.stages.items()}
        assert calls == {**CALLS, "reference": 36, "critique": 12, "merge": 12}
        assert found.stages["generate"].cost.completion_tokens == 12 * 8192
        assert not any(stage.measured for stage in found.stages.values())

        measured = await plan(made, 1, lambda _: None)
        assert {stage: one.calls for stage, one in measured.stages.items()} == {
            stage: n * 5 // 6 for stage, n in calls.items()
        }
        assert all(stage.measured for stage in measured.stages.values())
        paid = made.model_copy(update={"prices": made.prices.model_copy(update={"per_gpu_second": 1.0})})
        assert (await plan(paid, 0, lambda _: None)).price == pytest.approx(measured.hours * 3600, rel=0.01)

        await finish(made)
        assert (await plan(made, 0, lambda _: None)).stages == {}


def test_the_commands(problems, tmp_path):
    with serving("--disagreement=0.3") as url:
        file = tmp_path / "c.yaml"
        file.write_text(yaml.safe_dump(config(url, problems, tmp_path / "out").model_dump(mode="json")))

        def said(command, *arguments, status=0):
            result = CliRunner().invoke(app, ["data", command, "--config", str(file), *arguments])
            assert result.exit_code == status, result.output
            return result.output

        assert "verify" in said("run", "--dry-run")
        for stage in ("generate", "verify", "refine", "select", "export", "card"):
            said(stage)
        assert "6 problems, 0 calls" in said("run", "methods=[outcome]")
        assert "meta_step" in said("run", "methods=[meta_step]")
        assert "outcome" in said("quality", "methods=[outcome]")
        benchmark = tmp_path / "benchmark.jsonl"
        benchmark.write_text(problems.read_text())
        assert " 6 " in said("leakage", "--benchmark", str(benchmark))
        assert "train 6" in said("rl-prompts")
        assert "format_sft" in said("format-sft")
        assert "0.8, now 0.1" in said("run", "verifier.temperature=0.1", status=2)
        assert "no such setting" in said("run", "m=1", status=2)
        missing = said("export", "output=" + str(tmp_path / "none"), "methods=[outcome]", status=2)
        assert "outcome.jsonl" in missing.replace("\n", "")  # a long path is wrapped
    owing = said("run", f"output={tmp_path / 'down'}", "generator.engine.attempts=1", status=1)
    assert "Start again" in owing
