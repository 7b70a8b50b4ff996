"""The README's commands run as they are shown, one after the other, in a folder that has what they name."""

import asyncio
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.mock_server import serving
from tests.data import runs
from tests.docs.pages import ROOT, Page
from tests.evaluation import made as measured
from tests.evaluation.test_math_run import guessing
from tests.planning.test_memory import model
from tests.report import made as reported
from tests.rescoring.made import dump, settings
from verl_spark.cli.main import app
from verl_spark.evaluation import run as processbench
from verl_spark.evaluation.policy import run as policy

SHOWN = [
    " ".join(words[1:])
    for words in dict.fromkeys(Page(ROOT / "README.md").commands())
    if words[0] == "verl-spark" and len(words) > 1
]
SAYS = {
    "score outputs/rollouts": "global_step",
    "data run --config data.yaml --dry-run": "verify",
    "data run --config data.yaml verifier.n=8": "step",
    "eval compare outputs/base outputs/math": "math - base",
    "report outputs/my_run": "report.html",
    "report results outputs/data outputs/pb": "study.html",
    "plan data": "1,340 tokens/s and GPU",
    "plan sft": "984 steps",
    "plan train": "16 steps, without validation and probe",
    "plan memory": "2 at 0.9",
    "settings": "verifier",
    "metrics": "spark/rollouts",
}
"""Beginnings of the commands that run here, and what each says."""
ELSEWHERE = ("train prmcot model.path=", "eval processbench output=", "eval math output=", "doctor")
"""Beginnings of those that need an engine or the hub, which `test_commands.py` composes, and of one that needs its own
process, which `test_doctor.py` runs."""
RECIPE = [
    "actor_rollout_ref.model.path=Qwen/Qwen3-32B",
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.rollout.n=8",
    "data.max_response_length=2048",
    "trainer.total_epochs=1",
    "reward_model=spark_prmcot",
    "reward.reward_model.model_path=Qwen/Qwen3-32B",
    "reward.reward_model.n_gpus_per_node=8",
]
PLACEHOLDERS = {
    "<the overrides of verl-spark train>": "model.path=Qwen/Qwen3-32B trainer.total_epochs=1",
    "<the overrides of a training>": " ".join(RECIPE),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Everything that the commands name, small."""
    folder = tmp_path_factory.mktemp("readme")
    outputs = folder / "outputs"
    (outputs / "rollouts").mkdir(parents=True)
    (folder / "Qwen").mkdir()
    model(folder / "Qwen" / "Qwen3-32B", model_type="qwen3", max_position_embeddings=40_960)
    problems = measured.write_rows(folder / "problems.jsonl", runs.PROBLEMS)
    reported.result("prmcot", 0, [{"spark/reward/mean": 0.5}] * 2).write(folder / "results" / "prmcot-0.json")
    with serving() as url:
        asyncio.run(fill(outputs, url))
        data = runs.config(url, problems, outputs / "data").model_dump(mode="json")
        (folder / "data.yaml").write_text(yaml.safe_dump(data))
        yield folder


async def fill(outputs: Path, url: str) -> None:
    await reported.run(outputs / "my_run")
    await dump(outputs / "rollouts", settings("process_aware"))
    for name in ("gsm8k", "math"):
        measured.write_rows(outputs / "items" / f"{name}.jsonl", measured.rows(name, [-1, 0, 2, -1]))
    judge = {"kind": "prm_cot", "engine": measured.engine(url)}
    await processbench.run(measured.config(outputs / "pb", outputs / "items", verifier=judge), lambda *_: None)
    benchmarks = measured.write_benchmarks(outputs / "benchmarks")
    async with guessing() as (_, policy_url):
        for name in ("base", "math"):
            await policy.run(measured.math_config(outputs / name, benchmarks, policy_url), lambda *_: None)


def test_the_commands_run_as_they_are_shown(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ran = []
    for line in SHOWN:
        beginning = next((one for one in SAYS if line.startswith(one)), None)
        if beginning is None:
            # What is left is a name in running text.
            assert line.startswith(ELSEWHERE) or all(word.isalpha() for word in line.split()), line
            continue
        for placeholder, overrides in PLACEHOLDERS.items():
            line = line.replace(placeholder, overrides)
        run = CliRunner(env={"COLUMNS": "300"}).invoke(app, line.split())
        assert run.exit_code == 0, f"{line}: {run.output}"
        assert SAYS[beginning] in run.output, line
        ran.append(beginning)
    assert sorted(ran) == sorted(SAYS)
    assert (folder / "report.html").is_file()
    assert "methods-data" in (folder / "study.html").read_text()
    assert json.loads((folder / "outputs" / "data" / "card.json").read_text())["methods"]["step"]["kept"] > 0
