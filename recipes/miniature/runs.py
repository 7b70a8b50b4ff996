"""Carrying the study out: a run at a time, each kept as a small result file, none repeated."""

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from examples import demo, hacking
from examples.stage1 import make_data, write_config
from examples.stage1_models import Stage1Models, stage1_models
from examples.stage2 import SMALL, held_out, judge_model, rows_of, train_prm
from examples.tasks import TASKS
from examples.tiny_models import Recipe, base_model
from examples.verl_run import run_verl
from examples.vllm_server import vllm_server
from recipes.miniature import models
from recipes.miniature.config import SINGLE_AT_COST, Arm, PolicyName, RunId, StudyConfig
from recipes.miniature.results import STUDY_KEY, Labels, Measured, Result, done, labels_of, verdicts_of
from recipes.miniature.truth import with_truth
from verl_spark.data.methods import get_method
from verl_spark.data.records import read_records, records_file
from verl_spark.files import replacing
from verl_spark.platforms.cpu.overrides import environment
from verl_spark.report.result import RunResult, read_run
from verl_spark.verification.kinds import Kind

ROOT = Path(__file__).parents[2]
MODELS_FILE = "models.json"
"""Beside the results: how every tiny model was taught."""
LONGEST = 512
"""Tokens of a verification with its prompt, an appended problem included."""
SERVER = ("--dtype=float32", "--gpu-memory-utilization=0.1")
"""Options of vLLM; the second is a share of the memory, which two studies at once have to share."""
TIME_LIMIT_S = 1200.0
ROLLOUTS = 16
"""Of each training, kept to be looked at."""

Report = Callable[[str], None]


class Runner:
    """Runs of a study. Use it as a context: it may hold a server open for the next run."""

    def __init__(self, config: StudyConfig, folder: Path, results: Path, cache: Path, report: Report) -> None:
        """`folder` takes everything that is made, `results` the small files, `cache` the tiny models."""
        self._config, self._folder, self._results, self._cache = config, folder, results, cache
        self._report, self._task = report, TASKS[config.task]
        self._open = ExitStack()
        self._serves: tuple[int, Kind] | None = None
        self._url = ""

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def owed(self, run: RunId) -> bool:
        """Whether the run has no result yet. Raises `StaleResult` if it was made with other sizes."""
        return not done(self._results, self._config, run)

    def run(self, run: RunId) -> None:
        """Carry a run out and keep its result. Raises `RuntimeError` naming the log of what failed."""
        result: Result | RunResult
        if run.what == "labels":
            result = self._labels(run)
        elif run.what == "prm":
            result = self._measured(run)
        else:
            result = self._arm(run)
        result.write(self._results / run.file)

    # --- Stage I ------------------------------------------------------------------------------------------------------

    def _labels(self, run: RunId) -> Labels:
        start = time.monotonic()
        output = self._data(run.seed)
        kept = {
            method: tuple(labels_of(read_records(records_file(output, method))))
            for method in self._config.labels.methods
        }
        cost = json.loads((output / "cost.json").read_text())["methods"]
        return Labels(
            seed=run.seed,
            sizes=self._config.sizes(run),
            seconds=round(time.monotonic() - start, 1),
            labels=kept,
            cost=cost,
        )

    def _data(self, seed: int, at_cost: bool = False) -> Path:
        """Stage I's folder of this seed, made or gone on with."""
        sizes = self._config.labels
        place = self._seed_folder(seed) / (SINGLE_AT_COST if at_cost else "labels")
        place.mkdir(parents=True, exist_ok=True)
        taught = self._stage1_models()
        if at_cost:
            config = write_config(place, taught, sizes.problems * sizes.verifications, ["single"], 1, seed, self._task)
        else:
            config = write_config(place, taught, sizes.problems, sizes.methods, sizes.verifications, seed, self._task)
        made = place / "done"  # else engines would start to find that nothing is owed
        if not made.exists():
            self._report(f"Stage I, seed {seed}: {make_data(config)}")
            made.touch()
        return config.output

    # --- Stage II -----------------------------------------------------------------------------------------------------

    def _measured(self, run: RunId) -> Measured:
        start = time.monotonic()
        data, kind = run.name.split("-")
        place, rows = self._trained(data, Kind(kind), run.seed)
        trained = time.monotonic()
        judged = judge_model(place / "export", Kind(kind), held_out(task=self._task), place / "measured")
        return Measured(
            seed=run.seed,
            sizes=self._config.sizes(run),
            seconds=round(time.monotonic() - start, 1),
            data=data,
            kind=Kind(kind),
            rows=rows,
            verdicts=tuple(verdicts_of(judged)),
            training_seconds=round(trained - start, 1),
        )

    def _trained(self, data: str, kind: Kind, seed: int) -> tuple[Path, int]:
        """The folder of a reward model, trained unless it is there, and the rows that it learned from."""
        output = self._data(seed)
        others = [(name, kind) for name, kind in self._config.reward_models if name != SINGLE_AT_COST]
        rows = min(rows_of(output / "sft" / name, kind) for name, kind in others)
        source = output / "sft" / data
        if data == SINGLE_AT_COST:
            source = self._data(seed, at_cost=True) / "sft" / "single"
            rows = rows_of(source, kind)
        place = self._seed_folder(seed) / "prm" / f"{data}-{kind.value}"
        train_prm(self._base(), source, kind, place, SMALL, seed, rows)
        return place, rows

    # --- Stage III ----------------------------------------------------------------------------------------------------

    def _arm(self, run: RunId) -> RunResult:
        arm = self._config.arms[run.name]
        folder, steps = self._seed_folder(run.seed), self._config.steps
        out = folder / "rl" / run.name
        shutil.rmtree(out, ignore_errors=True)  # of a run that was stopped
        data = demo.write_data(folder, steps, run.seed, self._config.held_out, self._task)
        overrides = [
            *demo.recipe(self._policy(arm.policy), data, steps, out),
            *arm.overrides,
            *(hacking.LONGER if arm.policy is PolicyName.APPENDING else ()),
            *self._serving(arm, run.seed),
            "trainer.val_before_train=True",
            f"data.seed={run.seed}",
            f"actor_rollout_ref.rollout.seed={run.seed}",
            f"reward.spark.seed={run.seed}",
        ]
        watch = demo.Progress(f"{run.name}, seed {run.seed}", steps)
        env = {"PYTHONPATH": str(ROOT)}  # of the designs beside this file
        ended = run_verl(out, overrides, timeout_s=TIME_LIMIT_S, env=env, watch=watch)
        if ended.returncode != 0:
            raise RuntimeError(f"the run {run.name} ended with status {ended.returncode}: see {ended.log}")
        found = with_truth(read_run(out, run.name, self._config.task, run.seed, ROLLOUTS), demo.rollouts_of(out))
        settings = {**found.settings, STUDY_KEY: self._config.sizes(run)}
        return found.model_copy(update={"settings": settings, "seconds": round(ended.seconds, 1)})

    def _serving(self, arm: Arm, seed: int) -> list[str]:
        """Where the arm's reward model is served: by one server for all arms of a seed that ask it."""
        if arm.verifier is None:
            return []
        place, _ = self._trained("step", arm.verifier, seed)
        model = place / "export"
        if self._serves != (seed, arm.verifier):
            self._open.close()
            self._serves = None
            log = place / "server.log"
            self._url = self._open.enter_context(
                vllm_server(model, LONGEST, log, SERVER, {**os.environ, **environment()})
            )
            self._serves = (seed, arm.verifier)
        return [
            *demo.serving_elsewhere(self._url, model.name),
            f"reward.spark.verifier.max_tokens={demo.LONGEST_REPLY}",
        ]

    # --- models -------------------------------------------------------------------------------------------------------

    def _base(self) -> Path:
        return self._taught("base", base_model(self._cache, Recipe(), self._report, self._task))

    def _stage1_models(self) -> Stage1Models:
        critic = any(get_method(name).refined for name in self._config.labels.methods)
        found = stage1_models(self._cache, report=self._report, critic=critic, task=self._task)
        for name, model in vars(found).items():
            if model is not None:
                self._taught(name, model)
        return found

    def _policy(self, name: PolicyName) -> Path:
        model = models.policy(name, self._cache, self._base(), self._report, self._task)
        return self._taught(f"policy, {name.value}", model)

    def _taught(self, name: str, model: Path) -> Path:
        """Keeps how the model was taught with the results."""
        path = self._results / MODELS_FILE
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        known[name] = {"model": model.name, **json.loads((model / "teaching.json").read_text())}
        with replacing(path) as file:
            file.write(json.dumps(known, indent=1, sort_keys=True) + "\n")
        return model

    def _seed_folder(self, seed: int) -> Path:
        return self._folder / self._config.task / f"seed-{seed}"
