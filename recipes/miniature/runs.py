"""Carrying the study out: the runs of a seed side by side, each kept as a small result file, none repeated."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from examples import demo, hacking
from examples.stage1 import make_data, write_config
from examples.stage1_models import Stage1Models, stage1_models
from examples.stage2 import SMALL, held_out, judge_model, rows_of, train_prm
from examples.tasks import TASKS
from examples.tiny_models import Recipe, base_model
from examples.verl_run import run_verl, side_by_side
from examples.vllm_server import vllm_server
from recipes.miniature import models
from recipes.miniature.config import SINGLE_AT_COST, PolicyName, RunId, StudyConfig
from recipes.miniature.results import (
    MODELS_FILE,
    STUDY_KEY,
    Labels,
    Measured,
    Result,
    StaleResult,
    done,
    labels_of,
    verdicts_of,
)
from recipes.miniature.truth import with_truth
from verl_spark.data.methods import get_method
from verl_spark.data.records import read_records, records_file
from verl_spark.files import replacing
from verl_spark.platforms.cpu.overrides import environment
from verl_spark.report.result import RunResult, read_run
from verl_spark.verification.kinds import Kind

ROOT = Path(__file__).parents[2]
SECONDS_FILE = "training_seconds.json"
"""Beside a reward model: what its training took."""
LONGEST = 512
"""Tokens of a verification with its prompt, an appended problem included."""
SERVER = ("--dtype=float32", "--gpu-memory-utilization=0.1")
"""Options of vLLM; the second is a share of the memory, which servers and trainings have to share."""
TIME_LIMIT_S = 1200.0
ROLLOUTS = 16
"""Of each training, kept to be looked at."""

Report = Callable[[str], None]
Job = Callable[[], Result | RunResult]


class Lesson(NamedTuple):
    """A reward model to be taught."""

    base: Path
    data: Path
    """SFT files of a method."""
    kind: Kind
    place: Path
    rows: int
    """Rows that it learns from, each as often as the updates take it."""

    @property
    def export(self) -> Path:
        """The finished model."""
        return self.place / "export"


class Runner:
    """Runs of a study. Use it as a context: it may hold a server open for the next run."""

    def __init__(self, config: StudyConfig, folder: Path, results: Path, cache: Path, report: Report) -> None:
        """`folder` takes everything that is made, `results` the small files, `cache` the tiny models."""
        self._config, self._folder, self._results, self._cache = config, folder, results, cache
        self._report, self._task = report, TASKS[config.task]
        self._threads = str(max(1, (os.cpu_count() or 1) // config.at_once))
        self._open = ExitStack()
        self._urls: dict[tuple[int, Kind], str] = {}

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def owed(self, run: RunId) -> bool:
        """Whether the run has no result yet. Raises `StaleResult` if it was made with other sizes."""
        return not done(self._results, self._config, run)

    def run(self, runs: Sequence[RunId]) -> None:
        """Carry out runs of one kind and seed, and keep the result of each as soon as it is there.

        What they share is made first; their trainings run side by side. Raises `RuntimeError` naming the log of what
        failed."""
        jobs = {run: self._job(run) for run in runs}
        with side_by_side(self._config.at_once) as pool:
            for ended in as_completed([pool.submit(self._keep, run, job) for run, job in jobs.items()]):
                ended.result()

    def _keep(self, run: RunId, job: Job) -> None:
        result = job()
        result.write(self._results / run.file)
        self._report(f"{run.file}: {result.seconds:.0f} s")

    def _job(self, run: RunId) -> Job:
        """What is left of a run when all that it takes is there: models, data, servers. It may run beside others."""
        if run.what == "labels":
            labels = self._labels(run)  # at once: its engines are started by the main thread
            return lambda: labels
        if run.what == "prm":
            data, kind = run.name.split("-")
            lesson = self._lesson(data, Kind(kind), run.seed)
            return lambda: self._measured(run, lesson)
        overrides = self._overrides(run)
        return lambda: self._arm(run, overrides)

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
        made, said = place / "done", config.model_dump_json()
        if not made.exists() or made.read_text() != said:  # else engines would start to find that nothing is owed
            self._report(f"Stage I, seed {seed}: {make_data(config)}")
            made.write_text(said)
        return config.output

    # --- Stage II -----------------------------------------------------------------------------------------------------

    def _lesson(self, data: str, kind: Kind, seed: int) -> Lesson:
        """What a reward model is taught; the data is made unless it is there."""
        output = self._data(seed)
        others = [one for one in self._config.reward_models if one[0] != SINGLE_AT_COST]
        rows = min(rows_of(output / "sft" / name, kind_) for name, kind_ in others)
        source = output / "sft" / data
        if data == SINGLE_AT_COST:
            source = self._data(seed, at_cost=True) / "sft" / "single"
            rows = rows_of(source, kind)
        place = self._seed_folder(seed) / "prm" / f"{data}-{kind.value}-{rows}"
        return Lesson(self._base(), source, kind, place, rows)

    def _measured(self, run: RunId, lesson: Lesson) -> Measured:
        start = time.monotonic()
        self._train(lesson, run.seed)
        judged = judge_model(lesson.export, lesson.kind, held_out(task=self._task), lesson.place / "measured")
        return Measured(
            seed=run.seed,
            sizes=self._config.sizes(run),
            seconds=round(time.monotonic() - start, 1),
            data=run.name.partition("-")[0],
            kind=lesson.kind,
            rows=lesson.rows,
            verdicts=tuple(verdicts_of(judged)),
            training_seconds=json.loads((lesson.place / SECONDS_FILE).read_text()),
        )

    def _train(self, lesson: Lesson, seed: int) -> None:
        """Nothing is done if the model is there. An arm may train it before the run that measures it."""
        kept = lesson.place / SECONDS_FILE
        if lesson.export.is_dir() and kept.exists():
            return
        shutil.rmtree(lesson.export, ignore_errors=True)  # of a study that was stopped between the two
        start = time.monotonic()
        train_prm(lesson.base, lesson.data, lesson.kind, lesson.place, SMALL, seed, lesson.rows, int(self._threads))
        kept.write_text(json.dumps(round(time.monotonic() - start, 1)))

    # --- Stage III ----------------------------------------------------------------------------------------------------

    def _overrides(self, run: RunId) -> list[str]:
        arm = self._config.arms[run.name]
        folder, steps = self._seed_folder(run.seed), self._config.steps
        data = demo.write_data(folder, steps, run.seed, self._config.held_out, self._task)
        return [
            *demo.recipe(self._policy(arm.policy), data, steps, self._place(run)),
            *arm.overrides,
            *(hacking.LONGER if arm.policy is PolicyName.APPENDING else ()),
            *(self._serving(run.seed, arm.verifier) if arm.verifier else ()),
            "trainer.val_before_train=True",
            f"data.seed={run.seed}",
            f"actor_rollout_ref.rollout.seed={run.seed}",
            f"reward.spark.seed={run.seed}",
        ]

    def _place(self, run: RunId) -> Path:
        return self._seed_folder(run.seed) / "rl" / run.name

    def _arm(self, run: RunId, overrides: Sequence[str]) -> RunResult:
        out = self._place(run)
        shutil.rmtree(out, ignore_errors=True)  # of a run that was stopped
        watch = demo.Progress(f"{run.name}, seed {run.seed}", self._config.steps)
        env = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": self._threads}  # the first for the designs beside this file
        ended = run_verl(out, overrides, timeout_s=TIME_LIMIT_S, env=env, watch=watch)
        if ended.returncode != 0:
            raise RuntimeError(f"the run {run.name} ended with status {ended.returncode}: see {ended.log}")
        found = with_truth(read_run(out, run.name, self._config.task, run.seed, ROLLOUTS), demo.rollouts_of(out))
        if found.evaluations.keys() != {0, self._config.steps}:
            raise RuntimeError(f"the run {run.name} was evaluated at {sorted(found.evaluations)}: see {ended.log}")
        settings = {**found.settings, STUDY_KEY: self._config.sizes(run)}
        return found.model_copy(update={"settings": settings, "seconds": round(ended.seconds, 1)})

    def _serving(self, seed: int, kind: Kind) -> list[str]:
        """Where the reward model of a kind is served: by one server for all arms of the seed that ask it."""
        lesson = self._lesson("step", kind, seed)
        if (seed, kind) not in self._urls:
            if any(other != seed for other, _ in self._urls):  # the seeds come one after the other
                self._open.close()
                self._urls.clear()
            self._train(lesson, seed)
            env = {**os.environ, **environment(), "OMP_NUM_THREADS": self._threads}
            server = vllm_server(lesson.export, LONGEST, lesson.place / "server.log", SERVER, env)
            self._urls[seed, kind] = self._open.enter_context(server)
        return [
            *demo.serving_elsewhere(self._urls[seed, kind], lesson.export.name),
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
        """Keeps how the model was taught with the results. Raises `StaleResult` where they were made with another."""
        path = self._results / MODELS_FILE
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        if name not in known:
            known[name] = {"model": model.name, **json.loads((model / "teaching.json").read_text())}
            with replacing(path) as file:
                file.write(json.dumps(known, indent=1, sort_keys=True) + "\n")
        elif known[name]["model"] != model.name:
            raise StaleResult(
                f"{path}: the results were made with {known[name]['model']} as {name}, which is {model.name} now; take "
                "the code that made it, or name another folder with --results"
            )
        return model

    def _seed_folder(self, seed: int) -> Path:
        return self._folder / self._config.task / f"seed-{seed}"
