"""The demonstration: SPARK's three stages with tiny models on a laptop, with one command.

    python -m examples.demo [--steps N] [--folder DIR] [--cache DIR]

A tiny generator and a tiny verifier make verification data without any reference answer; verl's SFT trainer makes a
PRM-CoT of it; verl trains a tiny policy with that PRM-CoT as its only reward. Gate, rendering, readers, prompts and
command lines are those of full scale; only the models are small, and the task is one whose truth a program knows, so
that the PRM and the policy can be measured. Beside the PRM stands a control that differs in the reward alone: a
verifier that says Yes or No by coin toss (one toss for each distinct solution). Accuracy is measured by the rule-based
checker, which training never sees; both start from the same policy, so it is measured once before training."""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.mock_server import serving
from examples import chains, stage1, stage2
from examples.chains import Split, Task
from examples.stage1 import make_data, write_config
from examples.stage1_models import Stage1Models, stage1_models
from examples.stage2 import LONGEST, LONGEST_REPLY, Training, held_out, judge_model, quality, train_prm
from examples.tasks import ARITHMETIC, read_problem
from examples.teaching import key
from examples.tiny_models import DEFAULT_CACHE, Recipe, base_model, policy_model
from examples.verl_run import Run, run_verl, settle
from verl_spark.data.card import CARD_TEXT_FILE
from verl_spark.evaluation.metric import SubsetScore
from verl_spark.evaluation.statistics import Estimate, estimate, paired_difference
from verl_spark.platforms.cpu.overrides import CPU_OVERRIDES
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS

PROBLEMS, VERIFICATIONS = 300, 3
"""Of Stage I: problems, and verifications of each solution."""
METHOD = "step"
"""How verifications are picked."""
HELD_OUT = 500
"""Problems on which the policy is measured."""
PROMPTS, ROLLOUTS = 16, 8
"""Problems in a step, and responses to each."""
UPDATES = 2
"""Updates in a step, each on its share of the rollouts."""
TIME_LIMIT_S = 900.0
console = Console()


@dataclass(frozen=True)
class Prm:
    """The reward model that came of Stage I and II."""

    model: Path
    data: str
    """What Stage I did."""
    quality: SubsetScore
    """How well it finds the first wrong step of held-out solutions."""


@dataclass(frozen=True)
class Arm:
    """One way of rewarding, trained and measured."""

    name: str
    run: Run
    before: dict[str, float]
    """Held-out problem to accuracy, before training; the same for every arm."""
    after: dict[str, float]
    rollouts: list[dict[str, Any]]

    @classmethod
    def read(cls, name: str, run: Run, before: dict[str, float], folder: Path, steps: int) -> "Arm":
        """What verl wrote into the run's folder."""
        return cls(name, run, before, accuracy_of(folder / "held_out" / f"{steps}.jsonl"), rollouts_of(folder))


def main(
    steps: Annotated[int, typer.Option(help="Training steps of each arm.")] = 6,
    folder: Annotated[Path, typer.Option(help="Logs, metrics, rollouts and the table go here.")] = Path("outputs/demo"),
    cache: Annotated[Path, typer.Option(help="Where the tiny models are kept.")] = DEFAULT_CACHE,
) -> None:
    """Make the tiny models, the data, the PRM-CoT, train with it and with coin tosses, and say what came of it."""
    folder, cache = folder.resolve(), cache.resolve()
    settle()
    seconds: dict[str, float] = {}
    console.rule("tiny models")
    with timed(seconds, "tiny models"):
        base = base_model(cache, Recipe(), console.print)
        models = stage1_models(cache, report=console.print, critic=False)
        policy = policy_model(cache, base, Recipe(), console.print)
    prm = make_prm(cache, base, models, seconds)

    data = write_data(folder, steps)
    console.rule("Stage III  GRPO with reward_model=spark_prmcot, and beside it with a coin toss for a verdict")
    with timed(seconds, "stage III"), serving("--wrong-every=2") as url:  # verdicts that ignore the solution
        settings = {"spark_prmcot": serving_prm(prm.model), "coin_toss": serving_elsewhere(url)}
        arms = train(settings, folder, policy, data, steps)
    console.print(table(prm, *arms.values(), policy, seconds, folder))


def make_prm(cache: Path, base: Path, models: Stage1Models, seconds: dict[str, float]) -> Prm:
    """The PRM-CoT, unless the cache has it, with its data and its measurement beside it; adds to `seconds`."""
    name = key(models.generator.name, models.verifier.name, Training(), code=(stage1, stage2, sys.modules[__name__]))
    folder = cache / f"prm-cot-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    console.rule("Stage I  verification data, without references")
    with timed(seconds, "stage I"):
        config = write_config(folder, models, PROBLEMS, [METHOD], VERIFICATIONS)
        made = make_data(config)
        console.print(f"{made}; data card: {config.output / CARD_TEXT_FILE}")
    console.rule("Stage II  verl-spark train prmcot")
    with timed(seconds, "stage II"):
        train_prm(base, config.output / "sft" / METHOD, Kind.PRM_COT, folder / "training")
    with timed(seconds, "measuring the PRM"):
        judged = judge_model(folder / "training" / "export", Kind.PRM_COT, held_out(), folder / "measured")
        found = quality(judged, Kind.PRM_COT)
        console.print(f"F1 {found.f1 and found.f1.percent()} on {found.items} held-out solutions")
    return Prm(folder / "training" / "export", made, found)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Keeps how long something took."""
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


def write_data(
    folder: Path, steps: int, seed: int = 0, held_out: int = HELD_OUT, task: Task = ARITHMETIC
) -> tuple[Path, Path]:
    """verl's parquet files of the training and the held-out problems; no problem is in both, or in the teaching.

    `seed` decides the first; the second are the same for every seed."""
    folder.mkdir(parents=True, exist_ok=True)
    train, measured = folder / "train.parquet", folder / "held_out.parquet"
    pd.DataFrame(task.rows(Split.TRAIN, PROMPTS * steps, 100 + seed)).to_parquet(train)
    pd.DataFrame(task.rows(Split.HELD_OUT, held_out, 100)).to_parquet(measured)
    return train, measured


def serving_prm(model: Path) -> list[str]:
    """The PRM-CoT in a pool of its own, asked while rollouts are generated."""
    return [
        f"reward.reward_model.model_path={model}",
        "reward.reward_model.n_gpus_per_node=1",
        f"reward.reward_model.rollout.max_model_len={LONGEST}",
        "reward.reward_model.rollout.max_num_batched_tokens=8192",
        "reward.reward_model.rollout.max_num_seqs=256",
        f"reward.spark.verifier.max_tokens={LONGEST_REPLY}",
    ]


def serving_elsewhere(url: str, model: str = "mock") -> list[str]:
    """A server that is up already, and the name by which it knows its model."""
    return [
        "reward.spark.serving=external",
        f"reward.spark.verifier.base_urls=[{url}]",
        f"reward.spark.verifier.model={model}",
    ]


def recipe(
    policy: Path, data: tuple[Path, Path], steps: int, out: Path, platform: Sequence[str] = CPU_OVERRIDES
) -> list[str]:
    """A GRPO recipe like any other, with what it takes on a platform; nothing in it knows of SPARK."""
    train, held_out = data
    return [
        *platform,
        f"data.train_files={train}",
        f"data.val_files={held_out}",
        f"data.train_batch_size={PROMPTS}",
        "data.max_prompt_length=48",
        "data.max_response_length=80",
        f"actor_rollout_ref.model.path={policy}",
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
    settings: Mapping[str, Sequence[str]], folder: Path, policy: Path, data: tuple[Path, Path], steps: int
) -> dict[str, Arm]:
    """Runs of verl's command line that differ in these settings, one after the other, each in its folder.

    All start from the same policy, so the first alone measures it. Raises `RuntimeError` naming the log when one
    fails."""
    first = next(iter(settings))
    runs = {}
    for name in settings:
        out = folder / name
        overrides = [
            *recipe(policy, data, steps, out),
            "reward_model=spark_prmcot",
            *settings[name],
            f"trainer.val_before_train={name == first}",
        ]
        console.print(f"{name}: verl's log: {out / 'run.log'}")
        runs[name] = run_verl(out, overrides, timeout_s=TIME_LIMIT_S, watch=Progress(name, steps))
        if runs[name].returncode != 0:
            raise RuntimeError(f"the run {name} ended with status {runs[name].returncode}: see {runs[name].log}")
    before = accuracy_of(folder / first / "held_out" / "0.jsonl")
    return {name: Arm.read(name, runs[name], before, folder / name, steps) for name in settings}


@dataclass
class Progress:
    """Prints the mean reward of each step that verl logs."""

    name: str
    steps: int
    seen: int = 0

    def __call__(self, line: str) -> None:
        found = re.search(r"\bstep:(\d+) - .*\bspark/reward/mean:([^ ]+)", line)
        if found and int(found[1]) > self.seen:
            self.seen = int(found[1])
            reward = float(found[2].split("(")[-1].rstrip(")"))  # may be printed as np.float64(0.5)
            console.print(f"{self.name}: step {self.seen}/{self.steps}, mean reward {reward:.3f}")


def rollouts_of(folder: Path) -> list[dict[str, Any]]:
    """Those that verl dumped in a run's folder."""
    return [json.loads(line) for path in (folder / "rollouts").glob("*.jsonl") for line in path.open()]


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
            truth = chains.judge(read_problem(rollout["input"]), rollout["output"], TAGS)
            hits.append(float(truth is not None and truth.verdict is bool(rollout["spark_verdict"])))
    return estimate(hits)


def table(prm: Prm, arm: Arm, toss: Arm, policy: Path, seconds: dict[str, float], folder: Path) -> Table:
    """What came of it, and where everything lies; also written to `summary.json`."""
    arms = (arm, toss)
    rows: list[tuple[str, str, str]] = [
        ("accuracy before", *(estimate(list(one.before.values())).percent() for one in arms)),
        ("accuracy after", *(estimate(list(one.after.values())).percent() for one in arms)),
        ("gain, paired", *(gain(one).percent(signed=True) for one in arms)),
        ("verdicts true, first quarter", *(agreement(one, last=False).percent() for one in arms)),
        ("verdicts true, last quarter", *(agreement(one, last=True).percent() for one in arms)),
    ]
    for label, key_ in (
        ("rollouts", "spark/rollouts"),
        ("calls made", "spark/called"),
        ("calls saved, known", "spark/cached"),
        ("calls saved, gate", "spark/gated"),
        ("missing rewards", "spark/missing"),
    ):
        rows.append((label, *(f"{total(one, key_):.0f}" for one in arms)))
    for part in ("gen", "update_actor", "update_weights", "testing"):
        rows.append((f"seconds: {part}", *(f"{total(one, f'timing_s/{part}'):.0f}" for one in arms)))
    rows.append(("seconds: all", *(f"{one.run.seconds:.0f}" for one in arms)))

    found = Table("", arm.name, toss.name, title=f"{HELD_OUT} held-out problems, 95 % intervals; tiny models")
    for row in rows:
        found.add_row(*row)
    summary = {
        "rows": {label: {arm.name: one, toss.name: other} for label, one, other in rows},
        "gain": {one.name: asdict(gain(one)) for one in arms},
        "prm": {"model": str(prm.model), "data": prm.data, "quality": asdict(prm.quality)},
        "policy": {"model": str(policy), "teaching": json.loads((policy / "teaching.json").read_text())},
        "seconds": seconds | {one.name: one.run.seconds for one in arms},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    before = ", ".join(f"{name} {taken:.0f} s" for name, taken in seconds.items())
    found.caption = (
        f"{before}\nPRM and its data: {prm.model.parents[1]}\nlogs, metrics, rollouts, summary.json: {folder}"
    )
    return found


def total(arm: Arm, key: str) -> float:
    """Sum of a metric over the steps."""
    return sum(metrics.get(key) or 0.0 for metrics in arm.run.metrics if metrics["step"] > 0)


if __name__ == "__main__":
    typer.run(main)
