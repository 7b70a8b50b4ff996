"""The miniature study without its runs: config, result files, and the tables that are made of them."""

import json
import random
import threading
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby
from typing import get_args

import pytest
import typer

from examples import chains
from examples.chains import Split
from examples.stage1_models import Stage1Models
from examples.tasks import TASKS, read_problem
from examples.verl_run import Run
from recipes.miniature import __main__ as command
from recipes.miniature import designs, models, questions, runs
from recipes.miniature.config import PolicyName, RunId, StudyConfig, TaskName
from recipes.miniature.questions import Results
from recipes.miniature.results import MODELS_FILE, STUDY_KEY, Label, Labels, Measured, StaleResult, Verdict, labels_of
from recipes.miniature.runs import Runner
from recipes.miniature.truth import METRICS, truths
from tests.data.made import record
from verl_spark.report.finding import STUDY_FILE
from verl_spark.report.result import RunResult
from verl_spark.report.study import Study
from verl_spark.rewards.designs import DESIGNS, State, get_design
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS

CONFIG, QUICK = StudyConfig.load(), StudyConfig.load(quick=True)


def arm(name, seed, before, after, config=CONFIG, **step):
    """A result in which these held-out problems were right before and after."""
    settings = {STUDY_KEY: config.sizes(RunId("arm", name, seed))}
    steps = tuple({"step": float(number), "truth/verdict": 0.9, **step} for number in (1, 2))
    evaluations = {
        0: {str(item): [float(right)] for item, right in enumerate(before)},
        config.steps: {str(item): [float(right)] for item, right in enumerate(after)},
    }
    return RunResult(
        arm=name, seed=seed, settings=settings, steps=steps, evaluations=evaluations, rollouts=(), seconds=10.0
    )


def labels(seed, config=CONFIG, **kept):
    cost = {"calls": 40, "completion_tokens": 400, "engine_seconds": 4.0}
    return Labels(
        seed=seed,
        sizes=config.sizes(RunId("labels", "all", seed)),
        seconds=1.0,
        labels=kept,
        cost={name: {**cost, "kept": len(found)} for name, found in kept.items()},
    )


def test_the_whole_study_has_the_seeds_that_it_promises_and_no_run_twice():
    runs = list(CONFIG.runs())
    assert len({run.file for run in runs}) == len(runs)
    seeds = {name: {run.seed for run in runs if (run.what, run.name) == ("arm", name)} for name in CONFIG.arms}
    assert all(len(seeds[name]) >= 5 for name in ("prm_cot", "rlvr", "random", "format"))
    assert all(len(found) >= 3 for found in seeds.values())
    assert len({run.seed for run in runs if run.what == "labels"}) >= 5
    assert len({run.seed for run in runs if run.name == "step-prm_cot"}) >= 5


def test_the_quick_form_has_one_seed_and_the_core_arms():
    runs = list(QUICK.runs())
    assert {run.name for run in runs if run.what == "arm"} == {"prm_cot", "rlvr", "random", "format"}
    assert {run.seed for run in runs} == {0}


def test_the_second_task_repeats_prm_cot_against_rlvr():
    assert set(get_args(TaskName)) == set(TASKS)
    clock = StudyConfig.load(task="clock")
    assert clock.task == "clock"
    owed = [("labels", "all"), ("prm", "step-prm_cot"), ("arm", "prm_cot"), ("arm", "rlvr")]
    assert list(clock.runs()) == [RunId(*run, seed) for seed in range(3) for run in owed]
    assert clock.labels == CONFIG.labels.model_copy(update={"methods": ("single", "step")})
    arms = {run.name for run in StudyConfig.load(quick=True, task="clock").runs() if run.what == "arm"}
    assert arms == {"prm_cot", "rlvr"}


def test_no_study_takes_another_one_s_results_for_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "HERE", tmp_path)
    for task in TASKS:
        for quick in (False, True):
            command.main(task=task, quick=quick, tables=True)
    assert {path.parent.name for path in tmp_path.glob(f"results/*/{questions.STUDY_FILE}")} == {
        *("arithmetic", "quick", "clock", "clock-quick")
    }


def test_every_verifier_that_an_arm_asks_is_one_that_is_measured():
    taught = {kind for data, kind in CONFIG.reward_models if data == "step"}
    assert {arm.verifier for arm in CONFIG.arms.values() if arm.verifier} <= taught
    assert {claim.better for claim in questions.CLAIMS if claim.question in "cde"} <= set(CONFIG.arms)
    assert {claim.worse for claim in questions.CLAIMS if claim.question in "cde"} <= set(CONFIG.arms)
    names = {f"{data}-{kind.value}" for data, kind in CONFIG.reward_models}
    assert {one for claim in questions.CLAIMS if claim.question == "b" for one in (claim.better, claim.worse)} <= names


@pytest.mark.parametrize("name", ["SELECTIVE", "SELECTIVE_HALF", "GLOBAL_STEP"])
def test_the_short_designs_differ_from_the_paper_s_in_their_lower_limit_alone(name):
    short, paper = get_design(f"recipes.miniature.designs:{name}"), DESIGNS[name.lower()]
    assert short.limits.fewest == 2
    assert replace(short, limits=paper.limits) == paper
    assert short == getattr(designs, name)
    refused = short.before_call(True, 1)
    assert refused is None if name == "GLOBAL_STEP" else refused.state is State.STEP_LIMIT


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_policies_start_below_70_percent_and_one_of_them_appends(task):
    pairs = models.pairs(0.0, task)
    right = [TAGS.answer(reply) == str(read_problem(message).answer) for message, reply in pairs]
    assert 0.45 < sum(right) / len(right) < 0.75  # greedily it slips wherever the teacher mostly does
    assert not any(TAGS.goes_on(reply) for _, reply in pairs)
    appended = [TAGS.goes_on(reply) for _, reply in models.pairs(0.3, task)]
    assert 0.25 < sum(appended) / len(appended) < 0.35


def made_record(problem, solution, marks, verdict):
    return replace(
        record(marks),
        problem=problem.text,
        solution=solution.numbered(),
        n_steps=len(marks),
        marks=tuple(marks),
        verdict=verdict,
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_labels_are_kept_beside_the_truth_and_dropped_records_are_not(task):
    problem = task.problems(Split.DATA, 1, seed=5)[0]
    wrong, first = chains.solution_with_error(problem, random.Random(0))
    marks = [1] * len(problem.steps)
    kept = made_record(problem, wrong, marks, True)
    (found,) = labels_of([kept, replace(kept, drop="tie"), replace(kept, marks=(1,))])
    assert (found.right, found.verdict, found.marks) == (wrong.answer == problem.answer, True, "1" * len(marks))
    assert found.steps.index("0") == first


def test_balanced_accuracy_and_its_difference_are_taken_problem_by_problem():
    always_yes = [Label(f"p{index}", index % 2 == 0, True, "1", "1") for index in range(40)]
    truthful = [one._replace(verdict=one.right) for one in always_yes]
    results = Results({seed: labels(seed, single=always_yes, step=truthful) for seed in (0, 1)}, {}, {})
    rows = {row[0]: row for row in questions.labels_table(results).rows}
    assert (rows["single"][1].mean, rows["single"][2].mean, rows["single"][3].mean) == (0.5, 1, 0)
    assert rows["step"][1].mean == 1
    found = questions.difference(results, "a", "step", "single")[0]
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    assert questions.outcome(found) == "holds"
    assert questions.outcome(questions.difference(results, "a", "single", "step")[0]) == "FAILED"
    assert questions.outcome(questions.difference(results, "a", "step", "step")[0]) == "open"
    assert questions.difference(results, "a", "step", "reference") == (None, 0), "nothing to compare with"


def measured(seed, data, verdicts):
    sizes = CONFIG.sizes(RunId("prm", f"{data}-prm_cot", seed))
    fields = {"data": data, "kind": Kind.PRM_COT, "rows": 9, "training_seconds": 1.0, "seconds": 2.0}
    return Measured(seed=seed, sizes=sizes, verdicts=verdicts, **fields)


def test_f1_is_that_of_the_stored_items_and_no_prediction_is_wrong():
    items = [
        *(Verdict(f"e{n}", True, False, n < 5, False, None) for n in range(10)),
        *(Verdict(f"c{n}", False, True, n > 0, n > 0 or None, None if n else "cut") for n in range(10)),
    ]
    results = Results({}, {"step-prm_cot": {0: measured(0, "step", items)}}, {})
    (row,) = questions.models_table(results).rows
    assert row[2].mean == pytest.approx(2 * 0.5 * 0.9 / 1.4)
    assert (row[3].mean, row[4].mean, row[5].mean, row[6].mean, row[7]) == (0.5, 0.9, 0.9, 1.0, 0.05)


def test_gains_are_paired_over_the_seeds_that_both_arms_have():
    right, wrong = [1] * 50, [0] * 50
    results = Results(
        {},
        {},
        {
            "prm_cot": {seed: arm("prm_cot", seed, right + wrong, right + right) for seed in (0, 1, 2)},
            "random": {seed: arm("random", seed, right + wrong, right + wrong) for seed in (0, 1)},
        },
    )
    found, seeds = questions.difference(results, "c", "prm_cot", "random")
    assert (found.mean, found.n, seeds) == (0.5, 200, 2)
    assert questions.outcome(found) == "holds"
    rows = {row[0]: row for row in questions.arms_table(results, ("random", "prm_cot", "orm"), "c", "").rows}
    assert rows.keys() == {"random", "prm_cot"}
    assert (rows["random"][1].mean, rows["prm_cot"][1].mean, rows["prm_cot"][2]) == (0, 0.5, "+50.0, +50.0, +50.0")


def test_a_study_that_is_half_done_gives_the_tables_of_what_there_is(tmp_path):
    assert questions.write_study(CONFIG, tmp_path).read_text().count('"id"') == 0
    arm("rlvr", 0, [0, 1], [1, 1]).write(tmp_path / RunId("arm", "rlvr", 0).file)
    labels(0, single=[Label("p", True, True, "11", "10")]).write(tmp_path / RunId("labels", "all", 0).file)
    first = questions.write_study(CONFIG, tmp_path).read_text()
    assert first.count('"id"') == 3  # labels, rewards, cost; no claim can be decided
    assert "rlvr" in (tmp_path / "tables.md").read_text()
    assert questions.write_study(CONFIG, tmp_path).read_text() == first


def test_a_run_with_a_result_is_not_repeated_and_one_of_another_size_is_refused(tmp_path):
    run = RunId("arm", "rlvr", 0)
    runner = Runner(CONFIG, tmp_path / "work", tmp_path, tmp_path / "cache", print)
    assert runner.owed(run)
    arm("rlvr", 0, [0], [1]).write(tmp_path / run.file)
    assert not runner.owed(run)
    arm("rlvr", 0, [0], [1], QUICK).write(tmp_path / run.file)
    with pytest.raises(StaleResult, match=f"{run.file} was made with"):
        runner.owed(run)
    with pytest.raises(StaleResult, match="--results"):
        questions.write_study(CONFIG, tmp_path)


def test_the_trainings_of_a_seed_run_side_by_side_and_one_that_fails_names_its_log(tmp_path, monkeypatch):
    owed = [RunId("arm", name, 1) for name in ("rlvr", "random")]
    (tmp_path / "teaching.json").write_text("{}")
    both = threading.Barrier(2, timeout=60)

    def run_verl(out, overrides, **_):
        both.wait()
        return Run(code, 7.0, out / "run.log", [])

    monkeypatch.setattr(runs, "base_model", lambda *_: tmp_path)
    monkeypatch.setattr(runs.models, "policy", lambda *_: tmp_path)
    monkeypatch.setattr(runs, "run_verl", run_verl)
    monkeypatch.setattr(runs, "read_run", lambda out, name, task, seed, rollouts: arm(name, seed, [0], [1]))
    with Runner(CONFIG, tmp_path / "work", tmp_path / "results", tmp_path / "cache", print) as runner:
        code = 0
        runner.run(owed)
        assert not any(map(runner.owed, owed))
        code = 3
        with pytest.raises(RuntimeError, match=r"ended with status 3: see .*run\.log"):
            runner.run([RunId("arm", name, 2) for name in ("rlvr", "random")])
    assert {path.name for path in (tmp_path / "results").iterdir()} == {run.file for run in owed} | {MODELS_FILE}


class Killed(BaseException):
    """What ends a study from outside."""


class Doors:
    """Stages that cost nothing in the place of the real ones; `fuel` doors open before the study is killed."""

    def __init__(self, monkeypatch, folder, fuel=None):
        self.opened, self._fuel = [], fuel
        (folder / "teaching.json").write_text("{}")
        fakes = {
            "base_model": lambda *_: folder,
            "stage1_models": lambda *_, **__: Stage1Models(folder, folder, folder),
            "make_data": lambda config: self.open("data", config.output / "sft", config.output / "cost.json"),
            "rows_of": lambda data, kind: 9,
            "held_out": lambda **_: (),
            "read_records": lambda path: (),
            "labels_of": lambda _: [Label("p", True, True, "11", "10")],
            "train_prm": lambda base, data, kind, place, *_: self.open(f"train {place.name}", place / "export"),
            "judge_model": lambda *_: self.open("judge"),
            "verdicts_of": lambda _: [Verdict("i", True, False, True, False, None)],
            "vllm_server": lambda *_: nullcontext("http://localhost:1"),
            "run_verl": lambda out, *_, **__: self.open(f"verl {out.name}") or Run(0, 7.0, out / "run.log", []),
            "read_run": lambda out, name, task, seed, rollouts: arm(name, seed, [0], [1], SMALL),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(runs, name, fake)
        monkeypatch.setattr(runs.models, "policy", lambda *_: folder)

    def open(self, door, *made):
        if len(self.opened) == self._fuel:
            raise Killed
        self.opened.append(door)
        for path in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"methods": {}}') if path.suffix else path.mkdir(exist_ok=True)


SMALL = QUICK.model_copy(
    update={
        "at_once": 1,
        "steps": 2,
        "held_out": 4,
        "labels": QUICK.labels.model_copy(update={"problems": 4}),
        "arms": {name: QUICK.arms[name] for name in ("prm_cot", "rlvr")},
    }
)


def carry_out(folder, config=SMALL):
    with Runner(config, folder / "work", folder / "results", folder / "cache", print) as runner:
        for _, owed in groupby(filter(runner.owed, config.runs()), lambda run: run.what):
            runner.run(list(owed))


def kept(folder):
    """What the result files say, but for the time that it took."""
    files = {path.name: json.loads(path.read_text()) for path in (folder / "results").iterdir()}
    return {name: {key: found[key] for key in found if "seconds" not in key} for name, found in files.items()}


def test_a_study_that_is_killed_anywhere_and_started_again_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    made = tmp_path / "model"
    made.mkdir()
    unbroken = Doors(monkeypatch, made)
    carry_out(tmp_path / "unbroken")
    assert len(kept(tmp_path / "unbroken")) == len(list(SMALL.runs())) + 1
    for fuel in range(len(unbroken.opened)):
        first = Doors(monkeypatch, made, fuel)
        with pytest.raises(Killed):
            carry_out(tmp_path / str(fuel))
        second = Doors(monkeypatch, made)
        carry_out(tmp_path / str(fuel))
        assert kept(tmp_path / str(fuel)) == kept(tmp_path / "unbroken")
        assert sorted(first.opened + second.opened) == sorted(unbroken.opened), "nothing was done twice"


def test_data_of_other_sizes_in_the_folder_is_not_taken_for_this_study_s(tmp_path, monkeypatch):
    doors = Doors(monkeypatch, tmp_path)
    labels = [RunId("labels", "all", 0)]
    for verifications in (5, 5, 3):
        sizes = SMALL.labels.model_copy(update={"verifications": verifications})
        with Runner(
            SMALL.model_copy(update={"labels": sizes}), tmp_path / "work", tmp_path / "results", tmp_path, print
        ) as runner:
            runner.run(labels)
    assert doors.opened == ["data", "data"]


def test_results_of_other_tiny_models_are_refused(tmp_path, monkeypatch):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    Doors(monkeypatch, tmp_path / "one")
    carry_out(tmp_path)
    (tmp_path / "results" / RunId("arm", "rlvr", 0).file).unlink()
    Doors(monkeypatch, tmp_path / "other")
    with pytest.raises(StaleResult, match=r"made with one as base, which is other now.*--results"):
        carry_out(tmp_path)


def test_a_run_that_does_not_exist_is_refused_with_those_that_do(tmp_path):
    with pytest.raises(typer.BadParameter, match=r"no run is arm-rvlr; there are: .*arm-rlvr"):
        command.main(only=["arm-rvlr"], results=tmp_path, folder=tmp_path)


def test_the_kept_tables_are_those_of_the_kept_results():
    folder = command.HERE / "results" / "quick"
    models = json.loads((folder / MODELS_FILE).read_text())
    assert tuple(questions.tables(Results.read(QUICK, folder), QUICK, models)) == Study.read(folder / STUDY_FILE).tables


def rollout(problem, solution, verdict, more="", **fields):
    output = solution.text() + more
    known = {"spark_after_answer": float(TAGS.goes_on(output)), "spark_missing": 0.0, "score": float(verdict)}
    return {"step": 1, "input": problem.text, "output": output, "spark_verdict": float(verdict), **known, **fields}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_what_training_did_not_see_is_told_from_its_rollouts(task):
    problem = task.problems(Split.TRAIN, 1, seed=5)[0]
    right, wrong = chains.right_solution(problem), chains.solution_with_error(problem, random.Random(0))[0]
    rows = [rollout(problem, right, True), rollout(problem, wrong, True), rollout(problem, right, True, " And more.")]
    rows.append(rollout(problem, right, False, spark_verdict=None, spark_missing=1.0))
    found = truths(1, rows)
    assert found.keys() == METRICS.keys()
    assert found["truth/verdict"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["truth/appended"] == 0.25
    assert (found["truth/reward_appended"], found["truth/reward_other"]) == (1, 1)
    assert found["truth/accuracy"] == (3 + (wrong.answer == problem.answer)) / 4


def test_appending_and_careless_policies_are_taught_the_same_solutions():
    plain, appended = models.pairs(0.0), models.pairs(1.0)
    assert {name.value for name in PolicyName} == {"careless", "appending"}
    assert plain[0][0] == appended[0][0]
    assert appended[0][1].startswith(plain[0][1])
