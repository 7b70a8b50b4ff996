"""The demonstration: verl trains a tiny policy with a tiny PRM-CoT as its only reward, on a laptop, with one command.

    python -m examples.demo [--steps N] [--folder DIR] [--cache DIR]

The gate, the rendering, the readers, the PRM prompt and verl's command line are those of full scale; only the models
are small. Beside the PRM stands a control that differs in the reward alone: a verifier that says Yes or No by coin toss
(one toss for each distinct solution). Accuracy is measured by the rule-based checker, which training never sees; both
start from the same policy, so it is measured once before training."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.mock_server import serving
from examples import arithmetic
from examples.arithmetic import Split
from examples.tiny_models import DEFAULT_CACHE, DemoModels, demo_models
from examples.verl_run import Run, run_verl
from verl_spark.evaluation.statistics import Estimate, estimate, paired_difference
from verl_spark.platforms.cpu.overrides import CPU_OVERRIDES
from verl_spark.verification.policy_format import TAGS

HELD_OUT = 600
PROMPTS, ROLLOUTS = 24, 8
"""Problems in a step, and responses to each."""
UPDATES = 2
"""Updates in a step, each on its share of the rollouts."""
TIME_LIMIT_S = 900.0
console = Console()


@dataclass(frozen=True)
class Arm:
    """One way of rewarding, trained and measured."""

    name: str
    run: Run
    before: dict[str, float]
    """Held-out problem to accuracy, before training; the same for every arm."""
    after: dict[str, float]
    rollouts: list[dict[str, Any]]


def main(
    steps: Annotated[int, typer.Option(help="Training steps of each arm.")] = 8,
    folder: Annotated[Path, typer.Option(help="Logs, metrics, rollouts and the table go here.")] = Path("outputs/demo"),
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Make the tiny models, train with the PRM and with coin tosses, and say what came of it."""
    folder = folder.resolve()
    start = time.monotonic()
    console.rule("1/3  tiny models")
    models = demo_models(cache.resolve(), report=console.print)
    seconds = {"tiny models": time.monotonic() - start}

    data = write_data(folder, steps)
    console.rule("2/3  GRPO with reward_model=spark_prmcot")
    prm = train("spark_prmcot", folder, models, data, steps, serving_prm(models))
    console.rule("3/3  the same with a coin toss for a verdict")
    with serving("--wrong-every=2") as url:  # its verdicts have nothing to do with the solution
        toss = train("coin_toss", folder, models, data, steps, serving_elsewhere(url), prm.before)
    seconds |= {arm.name: arm.run.seconds for arm in (prm, toss)}

    console.print(table(prm, toss, seconds, models, folder))


def write_data(folder: Path, steps: int) -> tuple[Path, Path]:
    """verl's parquet files of the training and the held-out problems; no problem is in both, or in the teaching."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.parquet", folder / "held_out.parquet"
    for path, split, count in zip(paths, (Split.TRAIN, Split.HELD_OUT), (PROMPTS * steps, HELD_OUT), strict=True):
        pd.DataFrame(arithmetic.rows(split, count, seed=100)).to_parquet(path)
    return paths


def serving_prm(models: DemoModels) -> list[str]:
    """The PRM-CoT in a pool of its own, asked while rollouts are generated."""
    return [
        f"reward.reward_model.model_path={models.prm}",
        "reward.reward_model.n_gpus_per_node=1",
        "reward.reward_model.rollout.max_model_len=384",
        "reward.reward_model.rollout.max_num_batched_tokens=8192",
        "reward.reward_model.rollout.max_num_seqs=256",
        "reward.spark.verifier.max_tokens=176",
    ]


def serving_elsewhere(url: str) -> list[str]:
    """A server that is up already."""
    return [
        "reward.spark.serving=external",
        f"reward.spark.verifier.base_urls=[{url}]",
        "reward.spark.verifier.model=mock",
    ]


def recipe(models: DemoModels, data: tuple[Path, Path], steps: int, out: Path) -> list[str]:
    """A GRPO recipe like any other; nothing in it knows of SPARK."""
    train, held_out = data
    return [
        *CPU_OVERRIDES,
        f"data.train_files={train}",
        f"data.val_files={held_out}",
        f"data.train_batch_size={PROMPTS}",
        "data.max_prompt_length=48",
        "data.max_response_length=80",
        f"actor_rollout_ref.model.path={models.policy}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={PROMPTS // UPDATES}",
        f"actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu={PROMPTS * ROLLOUTS // UPDATES}",
        "actor_rollout_ref.actor.optim.lr=4e-4",
        "actor_rollout_ref.rollout.name=vllm",
        f"actor_rollout_ref.rollout.n={ROLLOUTS}",
        f"actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu={PROMPTS * ROLLOUTS}",
        "actor_rollout_ref.rollout.max_model_len=128",
        "actor_rollout_ref.rollout.max_num_seqs=256",
        "actor_rollout_ref.rollout.max_num_batched_tokens=8192",
        "algorithm.adv_estimator=grpo",
        "algorithm.rollout_correction.bypass_mode=True",  # vLLM's probabilities are the old ones: one pass less a step
        "actor_rollout_ref.rollout.calculate_log_probs=True",
        "trainer.n_gpus_per_node=1",
        f"trainer.total_training_steps={steps}",
        f"trainer.test_freq={steps}",
        "trainer.save_freq=-1",
        "trainer.resume_mode=disable",
        f"trainer.default_local_dir={out}/checkpoints",
        f"trainer.rollout_data_dir={out}/rollouts",
        f"trainer.validation_data_dir={out}/held_out",
    ]


def train(
    name: str,
    folder: Path,
    models: DemoModels,
    data: tuple[Path, Path],
    steps: int,
    serving: list[str],
    before: dict[str, float] | None = None,
) -> Arm:
    """One run of verl's command line, with progress; accuracy before it is measured unless given.

    Raises `RuntimeError` naming the log when it fails."""
    out = folder / name
    overrides = [*recipe(models, data, steps, out), "reward_model=spark_prmcot", *serving]
    overrides.append(f"trainer.val_before_train={before is None}")
    console.print(f"verl's log: {out / 'run.log'}")
    seen: set[int] = set()

    def progress(line: str) -> None:
        if "step:" in line and " - " in line:
            metrics = dict(part.split(":", 1) for part in line.split("step:", 1)[1].split(" - ")[1:] if ":" in part)
            step = int(line.split("step:", 1)[1].split(" ", 1)[0])
            if "spark/reward/mean" in metrics and step not in seen:
                seen.add(step)
                reward = float(metrics["spark/reward/mean"].split("(")[-1].rstrip(")\n"))
                console.print(f"step {step}/{steps}: mean reward {reward:.3f}")
            elif not metrics.keys() & {"spark/reward/mean"} and step == 0:
                console.print("accuracy before training is measured; training starts")

    run = run_verl(out, overrides, timeout_s=TIME_LIMIT_S, watch=progress)
    if run.returncode != 0:
        raise RuntimeError(f"the run {name} ended with status {run.returncode}: see {run.log}")
    measured = out / "held_out"
    before = accuracy_of(measured / "0.jsonl") if before is None else before
    after = accuracy_of(measured / f"{steps}.jsonl")
    rollouts = [json.loads(line) for path in (out / "rollouts").glob("*.jsonl") for line in path.open()]
    return Arm(name, run, before, after, rollouts)


def accuracy_of(dump: Path) -> dict[str, float]:
    """Problem to accuracy by the rule-based checker, from verl's dump of a validation."""
    return {row["input"]: row["acc"] for row in map(json.loads, dump.open())}


def gain(arm: Arm) -> Estimate:
    """Accuracy after less accuracy before, problem by problem."""
    return paired_difference(list(arm.before.values()), [arm.after[problem] for problem in arm.before])


def agreement(arm: Arm, last: bool) -> Estimate:
    """Share of read verdicts that are true, over the rollouts of the first or the last quarter of the steps."""
    steps = sorted({rollout["step"] for rollout in arm.rollouts})
    quarter = set(steps[-max(1, len(steps) // 4) :] if last else steps[: max(1, len(steps) // 4)])
    hits = []
    for rollout in arm.rollouts:
        if rollout["step"] in quarter and rollout["spark_verdict"] is not None:
            truth = arithmetic.judge(arithmetic.read_problem(rollout["input"]), rollout["output"], TAGS)
            hits.append(float(truth is not None and truth.verdict is bool(rollout["spark_verdict"])))
    return estimate(hits)


def table(prm: Arm, toss: Arm, seconds: dict[str, float], models: DemoModels, folder: Path) -> Table:
    """What came of it, and where everything lies; also written to `summary.json`."""
    rows: list[tuple[str, str, str]] = [
        ("accuracy before", *(estimate(list(arm.before.values())).percent() for arm in (prm, toss))),
        ("accuracy after", *(estimate(list(arm.after.values())).percent() for arm in (prm, toss))),
        ("gain, paired", *(gain(arm).percent(signed=True) for arm in (prm, toss))),
        ("verdicts true, first quarter", *(agreement(arm, last=False).percent() for arm in (prm, toss))),
        ("verdicts true, last quarter", *(agreement(arm, last=True).percent() for arm in (prm, toss))),
    ]
    for label, key in (
        ("rollouts", "spark/rollouts"),
        ("calls made", "spark/called"),
        ("calls saved, known", "spark/cached"),
        ("calls saved, gate", "spark/gated"),
        ("missing rewards", "spark/missing"),
    ):
        rows.append((label, *(f"{total(arm, key):.0f}" for arm in (prm, toss))))
    for part in ("gen", "update_actor", "update_weights", "testing"):
        rows.append((f"seconds: {part}", *(f"{total(arm, f'timing_s/{part}'):.0f}" for arm in (prm, toss))))
    rows.append(("seconds: all", *(f"{seconds[arm.name]:.0f}" for arm in (prm, toss))))

    found = Table("", prm.name, toss.name, title=f"{HELD_OUT} held-out problems, 95 % intervals; tiny models")
    for row in rows:
        found.add_row(*row)
    teaching = {name: json.loads((path / "teaching.json").read_text()) for name, path in vars(models).items()}
    summary = {
        "rows": {label: {prm.name: one, toss.name: other} for label, one, other in rows},
        "gain": {arm.name: vars(gain(arm)) for arm in (prm, toss)},
        "seconds": seconds,
        "models": {name: str(path) for name, path in vars(models).items()},
        "teaching": teaching,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    found.caption = (
        f"models {seconds['tiny models']:.0f} s: {models.policy}, {models.prm} (teaching.json beside each)\n"
        f"logs, metrics, rollouts, summary.json: {folder}"
    )
    return found


def total(arm: Arm, key: str) -> float:
    """Sum of a metric over the steps."""
    return sum(metrics.get(key) or 0.0 for metrics in arm.run.metrics if metrics["step"] > 0)


if __name__ == "__main__":
    typer.run(main)
