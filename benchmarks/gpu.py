"""The three stages on a GPU, measured through the public commands, each in a process of its own.

    python -m benchmarks.gpu --model DIR --demo DIR [--processbench DIR] [--parts stage1,prm,rl] [--folder DIR]
    python -m benchmarks.gpu --report [--folder DIR]

`--model` is a small instruct model with a chat template; `sft` and its measurements take it. `--demo` is the cache of
`make demo`, with its tiny models; Stage I, Stage II (`prm`) and RL take them, and the demonstration's recipe and
measure. That takes two environments: `make demo` makes the cache in one with the extra `cpu`, on any machine, and this
runs in one with the extra `gpu`, which excludes the other; the cache is a folder that can be copied. RL and `reward`
take the PRM-CoT that the part `prm` made in this folder; without one, that of the cache.

A part that lacks a folder, or a GPU (`rl_pool` takes two), is left out, and that is said, unless it is named. Each part
writes its result into the folder as soon as it is done, and one that fails leaves the others to run. At the end, or
with `--report`, `report.md` and `report.json` say what came of all parts there are."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from benchmarks import gpu_task
from benchmarks.gpu_report import spread, write_report
from examples import demo
from examples.stage1 import write_config, write_truth
from examples.stage1_models import Stage1Models
from examples.stage2 import HELD_OUT, LONGEST, LONGEST_REPLY, Training
from examples.verl_run import Run, run_child, run_command
from examples.vllm_server import vllm_server
from verl_spark.evaluation.statistics import estimate
from verl_spark.versions import versions

ROOT = Path(__file__).parents[1]
SFT = Training(updates=150, batch=128, learning_rate=3e-4)
ROWS = 6900
"""What `sft` trains on."""
WARM_UP = 10
"""Training steps before those that are timed."""
ITEMS_PER_SUBSET = 200
RL_STEPS, EXTERNAL_STEPS = 8, 3
"""Training steps with a colocated verifier, and with one on a server."""
SHARE = 0.2
"""Share of the GPU's memory for each engine of RL; the models are tiny."""

STAGE1_METHODS = ("single", "outcome", "step")
STAGE1_VLLM = (f"gpu_memory_utilization={SHARE}", "dtype=bfloat16")

NO_FLASH_ATTENTION = (
    "override_config.attn_implementation=sdpa",
    "use_remove_padding=False",
    # Else verl 0.9.1 takes the log-probabilities token by token, in a Python loop: 13 times the seconds of a step
    # (benchmarks/reports/h100.md). With engine.strategy=fsdp2 the fused kernels fail.
    "use_fused_kernels=True",
)
"""Keys of a model in verl's config where flash-attn is not installed: verl's defaults need it."""

RL_OVERRIDES = (
    # Compiling takes minutes that a tiny model does not earn back.
    "actor_rollout_ref.actor.use_torch_compile=False",
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile=False",
    *(
        override.format(rollout)
        for rollout in ("actor_rollout_ref.rollout", "reward.reward_model.rollout")
        for override in (
            "{}.enforce_eager=True",
            "{}.tensor_model_parallel_size=1",
            f"{{}}.gpu_memory_utilization={SHARE}",
            # vLLM's own choice for one GPU; verl's is a process more, which loads everything once more.
            "+{}.engine_kwargs.vllm.distributed_executor_backend=uni",
        )
    ),
    # Fewer helper processes than the defaults, made for a node with many cores; Ray only counts the CPUs.
    "actor_rollout_ref.rollout.agent.num_workers=2",
    "reward.num_workers=2",
    "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    "data.dataloader_num_workers=0",
    "ray_kwargs.ray_init.num_cpus=32",
    "+ray_kwargs.ray_init.include_dashboard=False",
)
"""What the demonstration's recipe takes on one GPU, beside the keys of the attention."""


@dataclass
class Bench:
    """Where a run's files are, and the commands that were run."""

    folder: Path
    model: Path | None = None
    processbench: Path | None = None
    demo: Path | None = None
    commands: list[str] = field(default_factory=list)

    def exported(self, part: str) -> Path:
        """Where a part that trains a PRM-CoT exports it."""
        return self.folder / part / "run" / "export"

    @property
    def taught(self) -> Path:
        """The PRM-CoT of the part `sft`. Raises `FileNotFoundError` when it is not there."""
        return _made(self.exported("sft"), "sft", "model")

    @property
    def picked(self) -> Path:
        """The SFT files of the part `stage1`. Raises `FileNotFoundError` when they are not there."""
        return _made(self.folder / "stage1" / "data" / "sft" / demo.METHOD, "stage1", "data")

    @property
    def instruct(self) -> Path:
        """The instruct model. Raises `FileNotFoundError` when none was named."""
        if self.model is None:
            raise FileNotFoundError("no model: name its folder with --model")
        return self.model

    @property
    def tiny(self) -> tuple[Path, Path]:
        """Policy and PRM-CoT of the demonstration: the one that the part `prm` made, else the cache's.

        Raises `FileNotFoundError` unless the cache has one of each that is taken from it."""
        if (own := self.exported("prm")).is_dir():
            return self._tiny("policy-*")[0], own
        policy, prm = self._tiny("policy-*", "prm-cot-*/training/export")
        return policy, prm

    @property
    def base(self) -> Path:
        """The base model of the demonstration. Raises `FileNotFoundError` unless the cache has one."""
        return self._tiny("base-*")[0]

    @property
    def stage1_models(self) -> Stage1Models:
        """Generator and verifier of the demonstration. Raises `FileNotFoundError` unless the cache has one of each."""
        return Stage1Models(*self._tiny("generator-*", "verifier-*"), critic=None)

    def _tiny(self, *patterns: str) -> list[Path]:
        if self.demo is None:
            raise FileNotFoundError("no tiny models: name the cache of `make demo` with --demo")
        found = {pattern: sorted(self.demo.glob(pattern)) for pattern in patterns}
        for pattern, folders in found.items():
            if len(folders) != 1:
                raise FileNotFoundError(
                    f"{self.demo}: {len(folders)} of {pattern}, one is needed; `make demo` makes it in an empty cache"
                )
        return [folder for (folder,) in found.values()]

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
    return _trained(bench, "sft", bench.instruct, data, SFT, "data.max_length=2048")


def _trained(bench: Bench, name: str, model: Path, data: Path, how: Training, *more: str) -> dict[str, Any]:
    """Trains a PRM-CoT with verl's SFT trainer: throughput, memory, loss."""
    folder = bench.folder / name
    run = bench.trainer(
        name,
        [*_ours(), "train", "prmcot"],
        [
            f"model.path={model}",
            f"spark.data={data}",
            "data.max_token_len_per_gpu=16384",
            f"data.train_batch_size={how.batch}",
            f"optim.lr={how.learning_rate}",
            "model.enable_gradient_checkpointing=False",
            *_attention("model"),
            f"trainer.total_training_steps={how.updates}",
            f"trainer.total_epochs={how.updates}",
            "trainer.save_freq=-1",
            "trainer.test_freq=-1",
            f"trainer.default_local_dir={folder / 'run'}",
            *more,
        ],
        timeout_s=420,
        loggers=("console", "file", "tensorboard"),  # the last keeps the time of each step
        env={"TENSORBOARD_DIR": str(folder / "events")},
    )
    steps = [row for row in run.metrics if "train/loss" in row]
    figures = sft_figures(steps, _times(folder / "events"), how.batch)
    validated = {key: value for key, value in run.metrics[-1].items() if key == "val/loss"}
    return {**figures, **validated, "seconds": run.seconds}


def sft_figures(steps: Sequence[dict[str, Any]], times: Sequence[float], batch: int) -> dict[str, Any]:
    """Figures of a training: of the metrics of its steps, of the time at which each ended, and of its rows a step."""
    seconds = [end - start for start, end in zip(times[WARM_UP - 1 :], times[WARM_UP:], strict=False)]
    tokens = [step["train/global_tokens"] for step in steps[WARM_UP:]]
    losses = [step["train/loss"] for step in steps]
    return {
        "steps": len(steps),
        "rows a step": batch,
        "tokens a step": spread(tokens),
        "seconds a step": spread(seconds),
        "tokens/s": sum(tokens) / sum(seconds),
        "samples/s": batch * len(seconds) / sum(seconds),
        "tokens/s of a step": spread([count / second for count, second in zip(tokens, seconds, strict=True)]),
        "mfu": spread([step["train/mfu"] for step in steps[WARM_UP:] if "train/mfu" in step]),
        "peak GPU memory allocated, GiB": max(step["perf/max_memory_allocated_gb"] for step in steps),
        "peak GPU memory reserved, GiB": max(step["perf/max_memory_reserved_gb"] for step in steps),
        "loss, first step": losses[0],
        "loss, mean of the last 10 steps": sum(losses[-10:]) / len(losses[-10:]),
    }


def held_out(bench: Bench) -> dict[str, Any]:
    """The PRM-CoT on held-out solutions whose first wrong step is known, with vLLM in the process."""
    return _measured(bench, "held_out", bench.taught)


def _measured(bench: Bench, name: str, model: Path, *options: str) -> dict[str, Any]:
    folder = bench.folder / name
    bench.child(name, [sys.executable, "-m", "benchmarks.gpu_task", str(model), str(folder), *options], 240)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def processbench(bench: Bench) -> dict[str, Any]:
    """`verl-spark eval processbench` with the base model and with the PRM-CoT. Plumbing: neither knows mathematics."""
    if bench.processbench is None:
        raise FileNotFoundError("no ProcessBench: name its folder with --processbench")
    return {
        name: _processbench(bench, f"processbench_{name}", kind, model)
        for name, kind, model in (("base", "instruct", bench.instruct), ("trained", "prm_cot", bench.taught))
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


def stage1(bench: Bench) -> dict[str, Any]:
    """`verl-spark data` with the demonstration's generator and verifier, both in the process on one GPU."""
    folder = bench.folder / "stage1"
    folder.mkdir(parents=True, exist_ok=True)
    config = write_config(folder, bench.stage1_models, demo.PROBLEMS, STAGE1_METHODS, demo.VERIFICATIONS)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    keys = [f"{role}.engine.vllm.{key}" for role in ("generator", "verifier") for key in STAGE1_VLLM]
    bench.child("stage1", [*_ours(), "data", "run", f"--config={file}", *keys], 300)
    truth = f"--step-truth={write_truth(config)}"
    bench.child("stage1_quality", [*_ours(), "data", "quality", f"--config={file}", truth, *keys], 120)
    cost = json.loads((config.output / "cost.json").read_text())
    found = json.loads((config.output / "quality.json").read_text())["accuracy"]
    return {
        "cost": cost["total"],
        "kept": {name: method["kept"] for name, method in cost["methods"].items()},
        "accuracy": {f"{one['method']}, {one['label']}, {one['truth']}": one["accuracy"] for one in found},
    }


def prm(bench: Bench) -> dict[str, Any]:
    """The demonstration's Stage II: a PRM-CoT of what the part `stage1` picked, as `train_prm` trains it on a CPU, and
    its measure on the same held-out solutions."""
    # Of an earlier start: its replies would count for this model, and RL would take its model if this one fails.
    shutil.rmtree(bench.folder / "prm", ignore_errors=True)
    more = (
        f"data.max_length={LONGEST}",
        "data.val_files=null",
        "optim.betas=[0.9,0.98]",
        "optim.lr_warmup_steps=20",
        "optim.lr_scheduler_type=cosine",
        "trainer.seed=0",
    )
    training = _trained(bench, "prm", bench.base, bench.picked, Training(), *more)
    options = (f"--items={HELD_OUT}", f"--context={LONGEST}", f"--reply-tokens={LONGEST_REPLY}")
    return {"training": training, "held out": _measured(bench, "prm/held_out", bench.exported("prm"), *options)}


def rl(bench: Bench) -> dict[str, Any]:
    """The demonstration's GRPO, with its PRM-CoT on the policy's GPU as the only reward."""
    _, prm = bench.tiny
    return _rl(bench, "rl", [*demo.serving_prm(prm), "reward.spark.serving=colocate"], RL_STEPS)


def rl_pool(bench: Bench) -> dict[str, Any]:
    """The same, shorter, with the PRM-CoT on a GPU of its own: takes two."""
    _, prm = bench.tiny
    return _rl(bench, "rl_pool", demo.serving_prm(prm), EXTERNAL_STEPS)


def rl_external(bench: Bench) -> dict[str, Any]:
    """As `rl`, shorter, with the PRM-CoT on a server, which shares the GPU."""
    _, prm = bench.tiny
    with _server(bench, prm) as url:
        settings = [*demo.serving_elsewhere(url, prm.name), f"reward.spark.verifier.max_tokens={LONGEST_REPLY}"]
        return _rl(bench, "rl_external", settings, EXTERNAL_STEPS)


def rl_selective(bench: Bench) -> dict[str, Any]:
    """As `rl`, with step credit: the selective advantage for solutions of two steps or more."""
    _, prm = bench.tiny
    design = "reward.spark.design=recipes.miniature.designs:SELECTIVE"
    settings = [*demo.serving_prm(prm), "reward.spark.serving=colocate", design]
    return _rl(bench, "rl_selective", settings, EXTERNAL_STEPS)


def reward(bench: Bench) -> dict[str, Any]:
    """The reward stage beside its engine, with the demonstration's PRM-CoT."""
    _, prm = bench.tiny
    folder = bench.folder / "reward"
    with _server(bench, prm) as url:
        keys = [str(prm), str(folder), f"--url={url}", f"--share={SHARE}"]
        bench.child("reward", [sys.executable, "-m", "benchmarks.gpu_reward", *keys], 240)
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def _rl(bench: Bench, name: str, serving: Sequence[str], steps: int) -> dict[str, Any]:
    """Trains the tiny policy; accuracy before and after, and verl's metrics of every step."""
    folder = bench.folder / name
    policy, _ = bench.tiny
    data = demo.write_data(folder, steps)
    platform = [*RL_OVERRIDES, *_attention("actor_rollout_ref.model")]
    start = time.monotonic()
    ended: dict[int, float] = {}

    def watch(line: str) -> None:
        if found := re.search(r"\bstep:(\d+) - ", line):
            ended.setdefault(int(found[1]), time.monotonic() - start)

    with _memory(folder / "memory.txt") as memory:
        run = bench.trainer(
            name,
            [sys.executable, "-m", "verl.trainer.main_ppo"],
            [*demo.recipe(policy, data, steps, folder, platform), "reward_model=spark_prmcot", *serving],
            timeout_s=420,
            env={
                "RAY_prestart_worker_first_driver": "0",  # else an idle worker for each CPU that Ray only counts
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),  # of the recipes' designs
            },
            watch=watch,
        )
        used = memory()
    kept = ("spark/", "timing_s/", "perf/", "response_length/mean", "actor/")
    logged = [row for row in run.metrics if row["step"] > 0 and "spark/rollouts" in row]
    if len(logged) != steps:
        raise RuntimeError(f"{len(logged)} of {steps} steps were logged; see {run.log}")
    arm = demo.Arm.read(name, run, demo.accuracy_of(folder / "held_out" / "0.jsonl"), folder, steps)
    return {
        "seconds": run.seconds,
        "seconds until accuracy before was measured, and each step": [ended[step] for step in sorted(ended)],
        "seconds a step": spread([row["timing_s/step"] for row in logged]),
        "GPU memory in use, MiB": spread(used),
        "accuracy before": asdict(estimate(list(arm.before.values()))),
        "accuracy after": asdict(estimate(list(arm.after.values()))),
        "gain, paired": asdict(demo.gain(arm)),
        "verdicts true, first quarter": asdict(demo.agreement(arm, last=False)),
        "verdicts true, last quarter": asdict(demo.agreement(arm, last=True)),
        **{key: demo.total(arm, f"spark/{key}") for key in ("rollouts", "called", "cached", "gated", "missing")},
        "steps": [{key: row[key] for key in row if key == "step" or key.startswith(kept)} for row in logged],
    }


@dataclass(frozen=True)
class Part:
    """A measurement, and what it takes."""

    measure: Callable[[Bench], dict[str, Any]]
    options: tuple[str, ...] = ()
    """That name the folders it needs."""
    gpus: int = 1


PARTS = {
    part.measure.__name__: part
    for part in (
        Part(doctor),
        Part(sft, ("--model",)),
        Part(held_out, ("--model",)),
        Part(processbench, ("--model", "--processbench")),
        Part(stage1, ("--demo",)),
        Part(prm, ("--demo",)),
        Part(rl, ("--demo",)),
        Part(rl_pool, ("--demo",), gpus=2),
        Part(rl_external, ("--demo",)),
        Part(rl_selective, ("--demo",)),
        Part(reward, ("--demo",)),
    )
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
        result["figures"] = PARTS[name].measure(bench)
    except Exception as error:  # the other parts are to run all the same
        result["error"] = f"{type(error).__name__}: {error}"
    result |= {"wall_seconds": time.monotonic() - start, "commands": list(bench.commands), "machine": machine()}
    file.write_text(json.dumps(result, indent=2))
    return result["error"] is None


def machine() -> dict[str, Any]:
    """The GPU as nvidia-smi names it, and the versions of the stack."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    return {"gpu": subprocess.run(query, capture_output=True, text=True).stdout.strip(), "versions": versions()}


def gpus() -> int:
    """GPUs that verl would use here. Raises `SystemExit`, saying why, where these measurements cannot run."""
    if shutil.which("nvidia-smi") is None:
        raise SystemExit("no GPU: there is no nvidia-smi here; what runs on a CPU is `make demo`")
    run = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    if run.returncode != 0 or not run.stdout.strip():
        raise SystemExit(f"no GPU: nvidia-smi says: {(run.stdout + run.stderr).strip()}")
    if os.environ.get("VERL_PLATFORM"):
        raise SystemExit(f"VERL_PLATFORM={os.environ['VERL_PLATFORM']} is set, so verl would not use the GPU; unset it")
    return len(re.findall(r"^GPU \d+:", run.stdout, re.MULTILINE))


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of a small instruct model.", file_okay=False)] = None,
    parts: Annotated[
        str | None, typer.Option(help="Which parts, by commas; else all that have what they take.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Logs, results and report go here.")] = Path("outputs/gpu"),
    data: Annotated[Path | None, typer.Option("--processbench", help="Folder of ProcessBench's files.")] = None,
    tiny: Annotated[Path | None, typer.Option("--demo", help="Cache of `make demo`.", file_okay=False)] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the report of the parts that are there.")
    ] = False,
) -> None:
    """Run parts on the GPU of this machine, and report."""
    folder = folder.resolve()
    names = [name for name in parts.split(",") if name] if parts else []
    if unknown := set(names) - PARTS.keys():
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    done = True
    if not report:
        count = gpus()
        if model and not (model / "config.json").is_file():
            raise SystemExit(f"--model={model}: no folder of a model; name one with a config.json and a chat template")
        model, data, tiny = (path and path.resolve() for path in (model, data, tiny))
        lacking = _lacking({"--model": model, "--processbench": data, "--demo": tiny}, count)
        if not names and lacking:
            print(f"left out: {', '.join(f'{name} (takes {what})' for name, what in lacking.items())}", flush=True)
        names = names or [name for name in PARTS if name not in lacking]
        bench = Bench(folder, model, data, tiny)
        for name in sorted(names, key=list(PARTS).index):
            done &= run_part(name, bench)
            print(f"{name}: {folder / f'part_{name}.json'}", flush=True)
    print(write_report(folder, list(PARTS)))
    raise typer.Exit(0 if done else 1)


def _lacking(given: Mapping[str, Path | None], count: int) -> dict[str, str]:
    """What parts take that is not there: folders that were not named, or more GPUs than there are."""
    wanted = {
        name: [*(one for one in part.options if given[one] is None), *([f"{part.gpus} GPUs"] * (part.gpus > count))]
        for name, part in PARTS.items()
    }
    return {name: " and ".join(each) for name, each in wanted.items() if each}


def _made(folder: Path, part: str, what: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: the part {part} has made no {what} yet; run it first")
    return folder


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


def _server(bench: Bench, model: Path) -> AbstractContextManager[str]:
    """vLLM's own server with this model on the GPU; its base URL."""
    share = f"--gpu-memory-utilization={SHARE}"
    return vllm_server(model, LONGEST, bench.folder / "server.log", [share])


@contextmanager
def _memory(file: Path) -> Iterator[Callable[[], list[float]]]:
    """Reads the memory in use on the whole GPU, in MiB, every second meanwhile; gives the readings so far."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop=1"]
    with file.open("w") as out, subprocess.Popen(command, stdout=out) as process:
        try:
            yield lambda: [float(line) for line in file.read_text().split()]
        finally:
            process.terminate()


def _times(events: Path) -> list[float]:
    """When each training step ended, in seconds, from verl's TensorBoard log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(events), size_guidance={"scalars": 0})
    log.Reload()
    return [event.wall_time for event in log.Scalars("train/loss")]


if __name__ == "__main__":
    typer.run(main)
