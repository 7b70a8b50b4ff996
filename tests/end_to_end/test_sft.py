"""A tiny PRM-CoT trained by verl's SFT trainer: killed and resumed, exported, loaded, and asked as what it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from examples.verl_run import run_command
from tests.end_to_end import tiny
from tests.prm import made
from verl_spark.platforms.cpu.overrides import SFT_CPU_OVERRIDES, environment
from verl_spark.prm.dataset import VerificationDataset
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.identity import Identity

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

OURS = [str(Path(sys.executable).with_name("verl-spark")), "train", "prmcot"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
VERLS = ["-m", "verl.trainer.sft_trainer", "+sft=spark_prmcot", *SFT_CPU_OVERRIDES]
BATCH, STEPS = 8, 12


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """Folders of a base model and of SFT files: three batches to train on, one to validate on."""
    folder = tmp_path_factory.mktemp("sft")
    data = made.sft_files(folder / "sft" / "step", problems=16)
    rows = [row for split in ("train", "validation") for row in made.rows_of(data, split=split)]
    late = [row for row in rows if row["problem_id"] in ("p12", "p13", "p14", "p15")]
    made.rewrite(data, [row for row in rows if row not in late])
    made.rewrite(data, late, split="validation")
    return tiny.make(folder / "tiny").model, data


def train(command, files, folder, *overrides, **options):
    model, data = files
    given = (
        f"model.path={model}",
        f"spark.data={data}",
        "data.max_length=1024",
        f"data.train_batch_size={BATCH}",
        f"data.micro_batch_size_per_gpu={BATCH}",
        "optim.lr=3e-3",
        f"trainer.total_training_steps={STEPS}",
        f"trainer.total_epochs={STEPS}",
        "trainer.save_freq=2",
        "trainer.test_freq=-1",
        f"trainer.default_local_dir={folder}/run",
    )
    # The checkout that is tested, wherever the script was installed from; and lines to watch as they are written.
    env = {"PYTHONPATH": str(Path(made.__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    return run_command(folder, command, [*given, *overrides], timeout_s=400, env=env, **options)


def losses(*runs) -> dict[int, float]:
    return {row["step"]: row["train/loss"] for run in runs for row in run.metrics if "train/loss" in row}


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """A run that nobody disturbs, by verl's own command line, in two processes; and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    run = train([*TORCHRUN, "--nproc-per-node=2", *VERLS], files, folder, "trainer.n_gpus_per_node=2")
    assert run.returncode == 0, run.text()[-4000:]
    return run, folder / "run"


@pytest.fixture(scope="module")
def resumed(files, tmp_path_factory):
    """The same by our command, killed as soon as the first checkpoint is whole, and started again."""
    folder = tmp_path_factory.mktemp("resumed")
    killed = train(OURS, files, folder, name="killed", watch=lambda line: "Updated checkpoint tracker" in line)
    assert killed.returncode < 0, killed.text()[-4000:]
    assert not (folder / "run" / "export").exists()
    reached = int((folder / "run" / "latest_checkpointed_iteration.txt").read_text())
    run = train(OURS, files, folder, name="resumed")
    assert run.returncode == 0, run.text()[-4000:]
    assert sorted(losses(run)) == list(range(reached + 1, STEPS + 1))
    return killed, run, folder / "run"


def test_a_killed_run_goes_on_where_it_was_and_ends_where_it_would_have(whole, resumed):
    run, folder = whole
    killed, again, resumed_folder = resumed
    assert losses(again)
    expected, found = losses(run), losses(killed, again)
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected[STEPS] < expected[1]
    assert "tokens are trained, from '#' to '<|im_end|>'" in run.text()
    one, other = (load_file(path / "export" / "model.safetensors") for path in (folder, resumed_folder))
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0.02, atol=1e-3)


def test_the_loss_is_that_of_the_reply_and_the_end_of_its_turn(files, whole):
    run, folder = whole
    _, data = files
    tokenizer = AutoTokenizer.from_pretrained(folder / "export")
    model = AutoModelForCausalLM.from_pretrained(folder / "export", dtype=torch.float32)
    dataset = VerificationDataset(str(data / "prm_cot" / "validation.parquet"), tokenizer, {"max_length": 1024})
    total, count = 0.0, 0
    for index in range(len(dataset)):
        ids, mask = dataset[index]["input_ids"], dataset[index]["loss_mask"].bool()
        labels = ids.where(mask, -100)
        with torch.no_grad():
            total += model(input_ids=ids[None], labels=labels[None]).loss.item() * int(mask.sum())
        count += int(mask.sum())
    (reported,) = [row["val/loss"] for row in run.metrics if "val/loss" in row]
    assert total / count == pytest.approx(reported, rel=0.01)  # the exported weights are rounded to bfloat16


def test_the_export_is_a_model_of_its_own(files, resumed):
    model, _ = files
    *_, folder = resumed
    export = folder / "export"
    assert not list(folder.glob("*.new"))
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert tokenizer.chat_template == tiny.CHAT_TEMPLATE
    end = tokenizer.convert_tokens_to_ids(tiny.END_OF_TURN)
    assert GenerationConfig.from_pretrained(export).eos_token_id == end
    identity = Identity.of(export)
    assert identity is not None
    assert (identity.kind, identity.training["steps"]) == (Kind.PRM_COT, STEPS)
    assert "reward_model=spark_prmcot" in (export / "README.md").read_text()
    before = load_file(model / "model.safetensors")
    assert any(
        not torch.equal(weight, before[name]) for name, weight in load_file(export / "model.safetensors").items()
    )


def test_vllm_serves_the_export(resumed, tmp_path):
    *_, folder = resumed
    engine = {
        "kind": "vllm",
        "model": str(folder / "export"),
        "vllm": {"dtype": "float32", "max_model_len": 256, "max_num_seqs": 8, "enforce_eager": True},
    }
    request = {"message": "Is it?", "max_tokens": 8, "temperature": 0.0, "n": 1}
    task, replies = tmp_path / "task.json", tmp_path / "replies.json"
    task.write_text(json.dumps({"engine": engine, "requests": [request]}))
    command = [sys.executable, "-m", "tests.end_to_end.asking", str(task), str(replies)]
    run = subprocess.run(
        command, env={**os.environ, **environment(threads=1)}, timeout=400, capture_output=True, text=True
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-4000:]
    (((reply,),),) = [json.loads(replies.read_text())]
    assert reply["completion_tokens"] > 0


def test_the_finished_training_is_not_started_again(files, resumed):
    *_, folder = resumed
    run = train(OURS, files, folder.parent, name="again")
    assert run.returncode == 2
    assert "this training is finished" in " ".join(run.text().split())


def test_the_reward_stage_refuses_it_in_another_format(resumed, tmp_path):
    *_, folder = resumed
    overrides = [
        "reward_model=spark_orm",
        f"reward.reward_model.model_path={folder}/export",
        "algorithm.adv_estimator=grpo",
        "actor_rollout_ref.rollout.name=vllm",
        "reward.reward_model.n_gpus_per_node=2",
    ]
    run = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode != 0
    assert "trained as prm_cot, and it would be asked as orm; set reward_model=spark_prmcot" in run.stderr
    assert list(tmp_path.iterdir()) == []
