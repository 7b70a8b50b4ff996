"""Stage II, a measurement and RL on one GPU, through the public commands, each in a process of its own.

    python -m benchmarks.gpu --model DIR [--processbench DIR] [--parts sft,processbench] [--folder DIR]
    python -m benchmarks.gpu --report [--folder DIR]

`--model` is a small instruct model with a chat template. Each part writes its result into the folder as soon as it is
done, and one that fails leaves the others to run; parts that need the PRM-CoT take the one that `sft` made. At the
end, or with `--report`, `report.md` and `report.json` say what came of all parts there are."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import gpu_task
from benchmarks.gpu_report import spread, write_report
from examples.verl_run import Run, run_child, run_command
from verl_spark.versions import versions

BATCH, STEPS, ROWS = 128, 150, 6900
"""Rows in a training step, training steps, and rows in all."""
WARM_UP = 10
"""Training steps before those that are timed."""
ITEMS_PER_SUBSET = 200
RL_STEPS, RL_PROMPTS, RL_ROLLOUTS = 4, 32, 8

NO_FLASH_ATTENTION = (
    "override_config.attn_implementation=sdpa",
    "use_remove_padding=False",
    # Else verl 0.9.1 takes the log-probabilities token by token, in a Python loop: 13 times the seconds of a step
    # (benchmarks/reports/h100.md). With engine.strategy=fsdp2 the fused kernels fail.
    "use_fused_kernels=True",
)
"""Keys of a model in verl's config where flash-attn is not installed: verl's defaults need it."""


@dataclass
class Bench:
    """Where a run's files are, and the commands that were run."""

    folder: Path
    model: Path
    processbench: Path | None
    commands: list[str] = field(default_factory=list)

    @property
    def prm(self) -> Path:
        """The PRM-CoT that the part `sft` exports. Raises `FileNotFoundError` when it is not there."""
        export = self.folder / "sft" / "run" / "export"
        if not export.is_dir():
            raise FileNotFoundError(f"{export}: the part sft has made no model yet; run it first")
        return export

    def child(self, name: str, command: Sequence[str], timeout_s: float) -> str:
        """Runs a command with its log in `<name>.log`; the log. Raises `RuntimeError` with its end when it fails."""
        self.commands.append(" ".join(command))
        log = self.folder / f"{name}.log"
        code, _ = run_child(command, log, timeout_s=timeout_s)
        return _checked(code, log)

    def trainer(self, name: str, command: Sequence[str], overrides: Sequence[str], **options: Any) -> Run:
        """Runs a trainer of verl; its run. Raises `RuntimeError` with the end of its log when it fails."""
        self.commands.append(" ".join([*command, *overrides]))
        run = run_command(self.folder / name, command, overrides, platform={}, **options)
        _checked(run.returncode, run.log)
        return run


def doctor(bench: Bench) -> dict[str, Any]:
    """What `verl-spark doctor` says of the stack."""
    return {"output": bench.child("doctor", [*_ours(), "doctor"], 120)}


def sft(bench: Bench) -> dict[str, Any]:
    """A PRM-CoT from the base model: throughput, memory, loss."""
    data = bench.folder / "sft" / "data" / "true"
    if not data.is_dir():
        gpu_task.write_sft_files(data, ROWS)
    events = bench.folder / "sft" / "events"
    run = bench.trainer(
        "sft",
        [*_ours(), "train", "prmcot"],
        [
            f"model.path={bench.model}",
            f"spark.data={data}",
            "data.max_length=2048",
            "data.max_token_len_per_gpu=16384",
            f"data.train_batch_size={BATCH}",
            "optim.lr=3e-4",
            "model.enable_gradient_checkpointing=False",
            *_attention("model"),
            f"trainer.total_training_steps={STEPS}",
            f"trainer.total_epochs={STEPS}",
            "trainer.save_freq=-1",
            "trainer.test_freq=-1",
            f"trainer.default_local_dir={bench.folder / 'sft' / 'run'}",
        ],
        timeout_s=420,
        loggers=("console", "file", "tensorboard"),  # the last keeps the time of each step
        env={"TENSORBOARD_DIR": str(events)},
    )
    steps = [row for row in run.metrics if "train/loss" in row]
    return {**sft_figures(steps, _times(events)), "val/loss": run.metrics[-1].get("val/loss"), "seconds": run.seconds}


def sft_figures(steps: Sequence[dict[str, Any]], times: Sequence[float]) -> dict[str, Any]:
    """Figures of a training: of the metrics of its steps, and of the time at which each ended."""
    seconds = [end - start for start, end in zip(times[WARM_UP - 1 :], times[WARM_UP:], strict=False)]
    tokens = [step["train/global_tokens"] for step in steps[WARM_UP:]]
    losses = [step["train/loss"] for step in steps]
    return {
        "steps": len(steps),
        "rows a step": BATCH,
        "tokens a step": spread(tokens),
        "seconds a step": spread(seconds),
        "tokens/s": sum(tokens) / sum(seconds),
        "samples/s": BATCH * len(seconds) / sum(seconds),
        "tokens/s of a step": spread([count / second for count, second in zip(tokens, seconds, strict=True)]),
        "mfu": spread([step["train/mfu"] for step in steps[WARM_UP:] if "train/mfu" in step]),
        "peak GPU memory allocated, GiB": max(step["perf/max_memory_allocated_gb"] for step in steps),
        "peak GPU memory reserved, GiB": max(step["perf/max_memory_reserved_gb"] for step in steps),
        "loss, first step": losses[0],
        "loss, mean of the last 10 steps": sum(losses[-10:]) / len(losses[-10:]),
    }


def held_out(bench: Bench) -> dict[str, Any]:
    """The PRM-CoT on held-out solutions whose first wrong step is known, with vLLM in the process."""
    folder = bench.folder / "held_out"
    command = [sys.executable, "-m", "benchmarks.gpu_task", str(bench.prm), str(folder)]
    bench.child("held_out", command, 240)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def processbench(bench: Bench) -> dict[str, Any]:
    """`verl-spark eval processbench` with the base model and with the PRM-CoT. Plumbing: neither knows mathematics."""
    if bench.processbench is None:
        raise FileNotFoundError("no ProcessBench: name its folder with --processbench")
    return {
        name: _processbench(bench, f"processbench_{name}", kind, model)
        for name, kind, model in (("base", "instruct", bench.model), ("trained", "prm_cot", bench.prm))
    }


def _processbench(bench: Bench, name: str, kind: str, model: Path) -> dict[str, Any]:
    output = bench.folder / name
    engine = [f"verifier.engine.vllm.{key}={value}" for key, value in gpu_task.VLLM.items()]
    keys = [
        f"output={output}",
        f"data.path={bench.processbench}",
        f"data.limit={ITEMS_PER_SUBSET}",
        f"verifier.kind={kind}",
        "verifier.engine.kind=vllm",
        f"verifier.engine.model={model}",
        "verifier.engine.max_concurrency=256",
        f"verifier.max_tokens={gpu_task.REPLY_TOKENS}",
        *engine,
    ]
    bench.child(name, [*_ours(), "eval", "processbench", *keys], 240)
    result = json.loads((output / "result.json").read_text())
    return {key: result[key] for key in ("average_f1", "subsets", "cost")}


def rl(bench: Bench) -> dict[str, Any]:
    """GRPO with the PRM-CoT on the policy's GPU: verl's metrics of every step."""
    train, validation = gpu_task.write_rl_files(bench.folder / "rl" / "data", RL_STEPS * RL_PROMPTS, 64)
    run = bench.trainer(
        "rl",
        [sys.executable, "-m", "verl.trainer.main_ppo"],
        [
            "reward_model=spark_prmcot",
            "reward.spark.serving=colocate",
            "reward.spark.format_gate=False",  # the policy was never taught the format: else no call would be made
            "reward.spark.verifier.max_tokens=512",
            f"reward.reward_model.model_path={bench.prm}",
            *_serving("reward.reward_model.rollout", 2048),
            f"data.train_files={train}",
            f"data.val_files={validation}",
            f"data.train_batch_size={RL_PROMPTS}",
            "data.max_prompt_length=512",
            "data.max_response_length=256",
            "data.dataloader_num_workers=0",
            f"actor_rollout_ref.model.path={bench.model}",
            *_attention("actor_rollout_ref.model"),
            f"actor_rollout_ref.actor.ppo_mini_batch_size={RL_PROMPTS}",
            "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=32",
            "actor_rollout_ref.actor.optim.lr=1e-6",
            "actor_rollout_ref.rollout.name=vllm",
            f"actor_rollout_ref.rollout.n={RL_ROLLOUTS}",
            "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
            *_serving("actor_rollout_ref.rollout", 1024),
            # Fewer helper processes than the defaults, made for a node with many cores; Ray only counts the CPUs.
            "actor_rollout_ref.rollout.agent.num_workers=2",
            "reward.num_workers=2",
            "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
            "ray_kwargs.ray_init.num_cpus=32",
            "+ray_kwargs.ray_init.include_dashboard=False",
            "algorithm.adv_estimator=grpo",
            "trainer.n_gpus_per_node=1",
            f"trainer.total_training_steps={RL_STEPS}",
            "trainer.val_before_train=False",
            "trainer.test_freq=-1",
            "trainer.save_freq=-1",
            "trainer.resume_mode=disable",
            f"trainer.default_local_dir={bench.folder / 'rl' / 'run'}",
        ],
        timeout_s=420,
    )
    kept = ("spark/", "timing_s/", "perf/", "response_length/mean", "actor/grad_norm", "actor/pg_loss")
    steps = [row for row in run.metrics if row["step"] > 0 and "spark/rollouts" in row]
    if len(steps) != RL_STEPS:
        raise RuntimeError(f"{len(steps)} of {RL_STEPS} steps were logged; see {run.log}")
    return {
        "seconds": run.seconds,
        "steps": [{key: value for key, value in row.items() if key == "step" or key.startswith(kept)} for row in steps],
    }


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    part.__name__: part for part in (doctor, sft, held_out, processbench, rl)
}
"""In the order in which they run."""


def run_part(name: str, bench: Bench) -> bool:
    """Runs a part and writes `part_<name>.json`, whatever comes of it; whether it was done."""
    bench.folder.mkdir(parents=True, exist_ok=True)
    file = bench.folder / f"part_{name}.json"
    file.unlink(missing_ok=True)  # of an earlier start: a part that is stopped leaves none
    bench.commands.clear()
    start = time.monotonic()
    result: dict[str, Any] = {"part": name, "error": None, "figures": None}
    try:
        result["figures"] = PARTS[name](bench)
    except Exception as error:  # the other parts are to run all the same
        result["error"] = f"{type(error).__name__}: {error}"
    result |= {"wall_seconds": time.monotonic() - start, "commands": list(bench.commands), "machine": machine()}
    file.write_text(json.dumps(result, indent=2))
    return result["error"] is None


def machine() -> dict[str, Any]:
    """The GPU as nvidia-smi names it, and the versions of the stack."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {"gpu": subprocess.run(query, capture_output=True, text=True).stdout.strip(), "versions": versions()}


def gpu_problem() -> str | None:
    """Why these measurements cannot run here; None if they can."""
    if shutil.which("nvidia-smi") is None:
        return "no GPU: there is no nvidia-smi here; what runs on a CPU is `make demo`"
    run = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    if run.returncode != 0 or not run.stdout.strip():
        return f"no GPU: nvidia-smi says: {(run.stdout + run.stderr).strip()}"
    if os.environ.get("VERL_PLATFORM"):
        return f"VERL_PLATFORM={os.environ['VERL_PLATFORM']} is set, so verl would not use the GPU; unset it"
    return None


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of a small instruct model.", file_okay=False)] = None,
    parts: Annotated[str, typer.Option(help="Which parts, by commas.")] = ",".join(PARTS),
    folder: Annotated[Path, typer.Option(help="Logs, results and report go here.")] = Path("outputs/gpu"),
    data: Annotated[Path | None, typer.Option("--processbench", help="Folder of ProcessBench's files.")] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the report of the parts that are there.")
    ] = False,
) -> None:
    """Run parts on the GPU of this machine, and report."""
    folder = folder.resolve()
    names = [name for name in parts.split(",") if name]
    if unknown := set(names) - PARTS.keys():
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    done = True
    if not report:
        if problem := gpu_problem():
            raise SystemExit(problem)
        if model is None or not (model / "config.json").is_file():
            raise SystemExit(f"--model={model}: no folder of a model; name one with a config.json and a chat template")
        bench = Bench(folder, model.resolve(), data.resolve() if data else None)
        for name in sorted(names, key=list(PARTS).index):
            done &= run_part(name, bench)
            print(f"{name}: {folder / f'part_{name}.json'}", flush=True)
    print(write_report(folder, list(PARTS)))
    raise typer.Exit(0 if done else 1)


def _checked(code: int, log: Path) -> str:
    text = log.read_text(errors="replace")
    if code != 0:
        raise RuntimeError(f"ended with status {code}; the end of {log}:\n{text[-2000:]}")
    return text


def _ours() -> list[str]:
    """The command `verl-spark` of this environment."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return [shutil.which("verl-spark", path=places) or "verl-spark"]


def _attention(model: str) -> list[str]:
    """What the model at this key of verl's config takes on this machine."""
    if find_spec("flash_attn") is not None:
        return []
    return [f"++{model}.{key}" for key in NO_FLASH_ATTENTION]


def _serving(rollout: str, context: int) -> list[str]:
    """A small model that shares the GPU with another one and with the training."""
    return [
        f"{rollout}.tensor_model_parallel_size=1",
        f"{rollout}.gpu_memory_utilization=0.3",
        f"{rollout}.enforce_eager=True",
        f"{rollout}.max_model_len={context}",
        f"{rollout}.max_num_seqs=256",
    ]


def _times(events: Path) -> list[float]:
    """When each training step ended, in seconds, from verl's TensorBoard log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(events), size_guidance={"scalars": 0})
    log.Reload()
    return [event.wall_time for event in log.Scalars("train/loss")]


if __name__ == "__main__":
    typer.run(main)
