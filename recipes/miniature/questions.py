"""The study's questions, answered from the result files: tables, and a word on every claim by the rule of README.md."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recipes.miniature.config import StudyConfig
from recipes.miniature.pictures import draw
from recipes.miniature.results import MODELS_FILE, Label, Labels, Measured, Verdict, done
from verl_spark import markdown
from verl_spark.evaluation.metric import f1
from verl_spark.evaluation.statistics import Estimate, FloatArray, Stratum, estimate_over_seeds
from verl_spark.files import replacing
from verl_spark.report.finding import STUDY_FILE
from verl_spark.report.result import RunResult
from verl_spark.report.study import Study, StudyCell, StudyTable
from verl_spark.verification.kinds import Kind

Values = Mapping[str, Sequence[tuple[int, float]]]
"""Problem to its values, each with the mean to which it belongs."""
Combine = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Results:
    """All results there are, by seed."""

    labels: dict[int, Labels]
    measured: dict[str, dict[int, Measured]]
    """By data and kind, `step-prm_cot`."""
    arms: dict[str, dict[int, RunResult]]

    @classmethod
    def read(cls, config: StudyConfig, folder: Path) -> "Results":
        """Those of the study's runs that are done. Raises `StaleResult` for one that was made with other sizes."""
        found = cls({}, defaultdict(dict), defaultdict(dict))
        for run in config.runs():
            if not done(folder, config, run):
                continue
            path = folder / run.file
            if run.what == "arm":
                found.arms[run.name][run.seed] = RunResult.read(path)
            elif run.what == "prm":
                found.measured[run.name][run.seed] = Measured.read(path)
            else:
                found.labels[run.seed] = Labels.read(path)
        return found


@dataclass(frozen=True)
class Claim:
    """A comparison whose outcome was written down before the runs: `better` less `worse` is above 0."""

    question: str
    better: str
    worse: str
    paper: str
    """What the paper has for it."""


CLAIMS = (
    Claim("a", "outcome", "single", "consistency of N verifications beats a single one; no numbers"),
    Claim("a", "step", "single", "consistency of N verifications beats a single one; no numbers"),
    Claim("a", "step", "outcome", "step-level is the best; no numbers for labels"),
    Claim("a", "meta_single", "single", "a critique improves a verification; no numbers"),
    Claim("a", "meta_step", "step", "not reported"),
    Claim("a", "step", "reference", "no numbers for labels"),
    Claim("b", "outcome-prm_cot", "single-prm_cot", "no numbers"),
    Claim("b", "step-prm_cot", "single-prm_cot", "no numbers"),
    Claim("b", "step-prm_cot", "single_at_cost-prm_cot", "not compared"),
    Claim("b", "step-prm_cot", "outcome-prm_cot", "no numbers"),
    Claim("b", "step-prm_cot", "reference-prm_cot", "F1 65.7 against 66.4, one seed"),
    Claim("b", "step-prm", "step-prm_cot", "F1 67.5 against 65.7, one seed"),
    Claim("c", "prm_cot", "rlvr", "mean of six benchmarks 47.4 against 43.9, one seed"),
    Claim("c", "prm_cot", "random", "a random reward brings no gain"),
    Claim("c", "prm_cot", "format", "not compared"),
    Claim("c", "prm_cot", "majority", "not reported"),
    Claim("c", "prm_cot", "prm", "step 300: 41.1 against 34.0, one seed"),
    Claim("c", "prm_cot", "orm", "step 300: 41.1 against 33.5, one seed"),
    Claim("d", "selective", "prm_cot", "step 300: 44.0 against 41.1, one seed"),
    Claim("d", "selective_half", "prm_cot", "not reported"),
    Claim("d", "global_step", "prm_cot", "not reported"),
    Claim("d", "step_augmented", "prm_cot", "not reported; steps are inflated"),
    Claim("d", "step_average", "prm_cot", "not compared"),
    Claim("e", "gate", "no_gate", "without the gate solutions are appended; no numbers"),
)
"""The metric of each is that of its question's table: balanced accuracy of verdicts, F1, gain in accuracy."""
OTHERS = (
    *(("a", method, "single") for method in ("reference", "meta_step")),
    *(("b", f"{data}-prm_cot", "single-prm_cot") for data in ("meta_single", "meta_step", "reference")),
    *(("c", better, worse) for better in ("prm", "orm") for worse in ("rlvr", "random", "format", "majority")),
    *(("c", better, "format") for better in ("rlvr", "majority", "random")),
)
"""Comparisons of which nothing was claimed before the runs: question, better, worse."""


def outcome(difference: Estimate) -> str:
    """The rule: a claim holds if the 95 % interval of the difference lies above 0, and fails if it lies below."""
    if not difference.excludes_zero:
        return "open"
    return "holds" if difference.low > 0 else "FAILED"


# --- from items to means ----------------------------------------------------------------------------------------------


class Measure(NamedTuple):
    """A number that is made of some of the means."""

    means: tuple[int, ...]
    combine: Combine
    """From these means, of shape (draws, means), to the number."""


PLAIN = tuple(Measure((place,), lambda means: means[:, 0]) for place in range(4))
"""A mean itself."""
BALANCED = Measure((0, 1), lambda means: means.mean(axis=1))
F1 = Measure((0, 1), lambda means: f1(means[:, 0], means[:, 1]))


def stratum(values: Values, means: Sequence[int]) -> Stratum:
    """Sums and counts of each problem; problems without any value count in no mean, but are drawn."""
    sums, counts = np.zeros((len(values), len(means))), np.zeros((len(values), len(means)))
    places = {mean: place for place, mean in enumerate(means)}
    for row, found in enumerate(values.values()):
        for mean, value in found:
            if mean in places:
                sums[row, places[mean]] += value
                counts[row, places[mean]] += 1
    return Stratum(sums, counts)


def label_values(kept: Sequence[Label]) -> dict[str, list[tuple[int, float]]]:
    """True verdicts on right (mean 0) and wrong solutions (1), true marks of right (2) and wrong steps (3)."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for label in kept:
        found[label.problem].append((int(not label.right), label.verdict == label.right))
        for truth, mark in zip(label.steps, label.marks, strict=True):
            found[label.problem].append((2 + (truth == "0"), truth == mark))
    return found


def verdict_values(verdicts: Sequence[Verdict]) -> dict[str, list[tuple[int, float]]]:
    """Hits on erroneous (mean 0) and correct items (1), true verdicts on right (2) and wrong ones (3)."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for one in verdicts:
        found[one.item].append((int(not one.erroneous), one.hit))
        found[one.item].append((2 + (not one.right), one.verdict is one.right))
    return found


def gain_values(arm: RunResult) -> dict[str, list[tuple[int, float]]]:
    """Accuracy after training less accuracy before it, problem by problem (mean 0)."""
    before, after = arm.evaluations[min(arm.evaluations)], arm.evaluations[max(arm.evaluations)]
    assert before.keys() == after.keys()
    return {item: [(0, float(np.mean(after[item]) - np.mean(before[item])))] for item in before}


def over_seeds(values: Sequence[Values], measure: Measure) -> Estimate | None:
    """The mean over these seeds; None without a seed, or where one has no value for some mean."""
    strata = [[stratum(one, measure.means)] for one in values]
    if not strata or any((one.counts.sum(axis=0) == 0).any() for (one,) in strata):
        return None
    return estimate_over_seeds(strata, measure.combine)


def difference(results: Results, question: str, one: str, other: str) -> tuple[Estimate | None, int]:
    """`one` less `other` by the measure of the question, problem by problem, and over how many seeds: those that have
    both. None without such a seed."""
    measures: dict[str, tuple[Callable[[Results, str], dict[int, Values]], Measure]] = {
        "a": (_labels, BALANCED),
        "b": (_verdicts, F1),
    }
    get, measure = measures.get(question, (_gains, PLAIN[0]))
    better, worse = get(results, one), get(results, other)
    both = [_beside(better[seed], worse[seed]) for seed in sorted(better.keys() & worse.keys())]
    count = len(measure.means)
    less = Measure(
        (*measure.means, *(mean + _WORSE for mean in measure.means)),
        lambda means: measure.combine(means[:, :count]) - measure.combine(means[:, count:]),
    )
    return over_seeds(both, less), len(both)


_WORSE = 100
"""What the means of the worse are moved by, beside those of the better."""


def _beside(better: Values, worse: Values) -> Values:
    names = dict.fromkeys([*better, *worse])
    moved = {name: [(mean + _WORSE, value) for mean, value in found] for name, found in worse.items()}
    return {name: [*better.get(name, ()), *moved.get(name, ())] for name in names}


def _labels(results: Results, method: str) -> dict[int, Values]:
    found = {seed: one.labels.get(method, ()) for seed, one in results.labels.items()}
    return {seed: label_values(kept) for seed, kept in found.items() if kept}


def _verdicts(results: Results, name: str) -> dict[int, Values]:
    return {seed: verdict_values(one.verdicts) for seed, one in results.measured.get(name, {}).items()}


def _gains(results: Results, name: str) -> dict[int, Values]:
    return {seed: gain_values(one) for seed, one in results.arms.get(name, {}).items()}


# --- tables -----------------------------------------------------------------------------------------------------------


def labels_table(results: Results) -> StudyTable:
    """Question (a)."""
    rows: list[tuple[StudyCell, ...]] = []
    seeds = list(results.labels.values())
    for method in dict.fromkeys(name for one in seeds for name in one.labels):
        values = list(_labels(results, method).values())
        kept = sum(len(one.labels[method]) for one in seeds)
        costs = [one.cost[method] for one in seeds]
        cells = [over_seeds(values, place) for place in PLAIN]
        both = over_seeds(values, BALANCED)
        each = [sum(cost[key] for cost in costs) / max(1, sum(cost["kept"] for cost in costs)) for key in _COSTS]
        rows.append((method, both, *cells, len(seeds), kept, *each))
    columns = ("method", "verdict, balanced", "verdict, right", "verdict, wrong", "mark, right", "mark, wrong", "seeds")
    return StudyTable(
        id="a",
        title="(a) How right are the labels",
        columns=(*columns, "kept", "calls an example", "generated tokens", "engine seconds"),
        rows=tuple(rows),
        note="Share of true labels on what is in truth right or wrong; balanced is the mean of both. The cost has the "
        "solutions in it.",
    )


_COSTS = ("calls", "completion_tokens", "engine_seconds")


def models_table(results: Results) -> StudyTable:
    """Question (b)."""
    rows: list[tuple[StudyCell, ...]] = []
    for name, seeds in results.measured.items():
        data, kind = name.split("-")
        values = list(_verdicts(results, name).values())
        locates = Kind(kind) is not Kind.ORM
        unread = [one.fault is not None for found in seeds.values() for one in found.verdicts]
        cells = [over_seeds(values, place) for place in PLAIN]
        seconds = [found.training_seconds for found in seeds.values() if found.training_seconds is not None]
        rows.append(
            (
                *(data, kind),
                over_seeds(values, F1) if locates else None,
                *(cells[:2] if locates else (None, None)),
                *cells[2:],
                sum(unread) / len(unread),
                len(seeds),
                round(float(np.mean([found.rows for found in seeds.values()]))),
                float(np.mean(seconds)) if seconds else None,
            )
        )
    columns = ("data", "kind", "F1", "erroneous", "correct", "verdict, right", "verdict, wrong", "unread", "seeds")
    return StudyTable(
        id="b",
        title="(b) Reward models: how well the first error is found",
        columns=(*columns, "rows", "training seconds"),
        rows=tuple(rows),
        note="As ProcessBench measures; an unread verification is wrong there. An ORM names no step, and its prompt is "
        "new to the base model, which has seen those of the others. `single_at_cost` has as many verifications as "
        "`step`, each of another solution, and more solutions to pay for.",
    )


def arms_table(results: Results, names: Sequence[str], id: str, title: str, note: str = "") -> StudyTable:
    """Questions (c) and (d)."""
    rows: list[tuple[StudyCell, ...]] = []
    for name in names:
        if not (seeds := results.arms.get(name)):
            continue
        gains = _gains(results, name)
        accuracy = [
            {item: [(0, float(np.mean(found)))] for item, found in one.evaluations[max(one.evaluations)].items()}
            for one in seeds.values()
        ]
        each = ", ".join(f"{100 * gain:+.1f}" for gain in _each(gains))
        missing, rollouts = (_sum(seeds.values(), key) for key in ("spark/missing", "spark/rollouts"))
        rows.append(
            (
                name,
                over_seeds(list(gains.values()), PLAIN[0]),
                each,
                over_seeds(accuracy, PLAIN[0]),
                _of_steps(seeds.values(), "truth/verdict", 0),
                _of_steps(seeds.values(), "truth/verdict", -1),
                missing / rollouts if rollouts else None,
                len(seeds),
            )
        )
    columns = ("arm", "gain", "of each seed", "accuracy after", "verdicts true, first step", "last step")
    return StudyTable(id=id, title=title, columns=(*columns, "missing", "seeds"), rows=tuple(rows), note=note)


def hacking_table(results: Results) -> StudyTable:
    """Question (e)."""
    rows: list[tuple[StudyCell, ...]] = []
    for name in ("gate", "no_gate"):
        if seeds := results.arms.get(name):
            ends = [
                _of_steps(seeds.values(), key, place)
                for key in ("truth/appended", "truth/reward_appended", "truth/reward_other")
                for place in (0, -1)
            ]
            gains = over_seeds(list(_gains(results, name).values()), PLAIN[0])
            last = [_of_steps([one], "truth/appended", -1) for one in seeds.values()]
            each = ", ".join(f"{100 * share:.1f}" for share in last if share is not None)
            rows.append((name, *ends[:2], each, *ends[2:], gains, len(seeds)))
    columns = ("arm", "appended, first step", "last step", "of each seed, %", "reward of appended, first", "last")
    return StudyTable(
        id="e",
        title="(e) Solution appending, with the format gate and without",
        columns=(*columns, "reward of others, first", "last", "gain", "seeds"),
        rows=tuple(rows),
        text="A policy that has learned to put a second, solved problem behind a share of its answers.",
    )


def cost_table(results: Results) -> StudyTable:
    """Question (f)."""
    rows: list[tuple[StudyCell, ...]] = []
    for name, seeds in results.arms.items():
        runs = list(seeds.values())
        keys = ("spark/called", "spark/cached", "spark/gated", *_TOKENS, "timing_s/gen", "timing_s/update_actor")
        rows.append(
            (name, *(_sum(runs, key) / len(runs) for key in keys), sum(one.seconds or 0.0 for one in runs) / len(runs))
        )
    columns = ("arm", "calls", "saved, known", "saved, gate", "prompt tokens", "generated tokens", "s: generation")
    return StudyTable(
        id="f",
        title="(f) What an arm costs",
        columns=(*columns, "s: update", "s: all"),
        rows=tuple(rows),
        note="Of the verifier, a training; the reward model's own data and training are in (a) and (b). Seconds with "
        "verl's start-up; some arms ran alone and some beside another, so they are no comparison.",
    )


_TOKENS = ("spark/verifier/prompt_tokens", "spark/verifier/completion_tokens")


def claims_table(results: Results, config: StudyConfig) -> StudyTable:
    """Every claim that this study is to decide, and what the rule says of it."""
    rows: list[tuple[StudyCell, ...]] = []
    names = {*config.labels.methods, *(run.name for run in config.runs())}
    for claim in CLAIMS:
        if not {claim.better, claim.worse} <= names:
            continue
        found, seeds = difference(results, claim.question, claim.better, claim.worse)
        said = "not decided" if found is None else outcome(found)
        rows.append((claim.question, f"{claim.better} > {claim.worse}", found, said, seeds, claim.paper))
    return StudyTable(
        id="claims",
        title="Claims",
        columns=("question", "claim", "difference", "in miniature", "seeds", "the paper"),
        rows=tuple(rows) if any(row[2] for row in rows) else (),
        text="Difference of balanced verdict accuracy (a), F1 (b) or gain in accuracy (c to e), problem by problem. It "
        "holds if its 95 % interval lies above 0, FAILED if below, and is open otherwise. The last column is the "
        "paper's, at full scale.",
        note="An interval of 95 % leaves out the truth once in twenty comparisons, and more often over few seeds.",
    )


def others_table(results: Results) -> StudyTable:
    """Comparisons beside the claims, without a word on them."""
    rows: list[tuple[StudyCell, ...]] = []
    for question, better, worse in OTHERS:
        found, seeds = difference(results, question, better, worse)
        if found is not None:
            rows.append((question, f"{better} less {worse}", found, seeds))
    return StudyTable(
        id="others",
        title="Other comparisons",
        columns=("question", "comparison", "difference", "seeds"),
        rows=tuple(rows),
        text="Measured as the claims are. Nothing was said of these before the runs, so none holds or fails.",
    )


def taught_table(models: Mapping[str, Any]) -> StudyTable:
    """How the tiny models that everything starts from were taught, from the content of `models.json`."""
    rows: list[tuple[StudyCell, ...]] = []
    for name, model in models.items():
        parts = {key: one for key, one in model.items() if isinstance(one, dict) and "lessons" in one}  # of the base
        error = ", ".join(f"{key.replace('_', ' ')} {model[key]:g}" for key in _ERRORS if model.get(key))
        for part, one in (parts or {"": model}).items():
            title = f"{name}, {part}" if part else name
            updates = one["lessons"]["updates"]
            rows.append((title, model["split"], one["examples"], updates, one["final_loss"], error, model["model"]))
    return StudyTable(
        id="taught",
        title="How the tiny models were taught",
        columns=("model", "split of the problems", "examples", "updates", "loss of the last updates", "error", "name"),
        rows=tuple(rows),
        text="Each on problems of its own; the splits are disjoint. The error is the share of what it was taught that "
        "is wrong. Reward models are taught by Stage II, from the base model.",
    )


_ERRORS = ("slip_share", "label_error", "critique_error", "appended")


DESIGNS = ("step_augmented", "step_average", "selective", "selective_half", "global_step")
"""Beside `prm_cot`, whose reward is the verdict."""
REWARDS = ("prm_cot", "prm", "orm", "rlvr", "majority", "format", "random")


def tables(results: Results, config: StudyConfig, models: Mapping[str, Any]) -> Iterator[StudyTable]:
    """All tables, those without rows left out; `models` is the content of `models.json`."""
    found = (
        claims_table(results, config),
        labels_table(results),
        models_table(results),
        arms_table(results, REWARDS, "c", "(c) Rewards: gain in accuracy at an equal step budget"),
        arms_table(
            results,
            ("prm_cot", *DESIGNS) if results.arms.keys() & set(DESIGNS) else (),
            "d",
            "(d) Designs, with the same PRM-CoT",
            note="Those that credit steps with a lower limit of two steps, since solutions have two or three.",
        ),
        hacking_table(results),
        cost_table(results),
        others_table(results),
        taught_table(models),
    )
    return (table for table in found if table.rows)


def write_study(config: StudyConfig, folder: Path) -> Path:
    """Writes `study.json`, which `verl-spark report` shows, the tables as Markdown, and pictures; the first's path."""
    models = folder / MODELS_FILE
    known = json.loads(models.read_text()) if models.exists() else {}
    found = list(tables(Results.read(config, folder), config, known))
    runs = list(config.runs())
    text = f"{_TEXT} {sum(done(folder, config, run) for run in runs)} of {len(runs)} runs of this study are done."
    for name, measures in PICTURES.items():
        panels = [
            (f"({table.id}) {measures[table.id]}", list(_lines(table, measures[table.id])))
            for table in found
            if table.id in measures
        ]
        draw([panel for panel in panels if len(panel[1]) > 1], folder / name)
    path = folder / STUDY_FILE
    Study(title=TITLE, text=text, tables=tuple(found)).write(path)
    with replacing(folder / "tables.md") as file:
        file.write(f"# {TITLE}\n\n{text}\n" + "".join(map(_markdown, found)))
    return path


PICTURES = {
    "labels_and_models.svg": {"a": "verdict, balanced", "b": "F1"},
    "gains.svg": {"c": "gain", "d": "gain", "e": "gain"},
}
"""Of each: table to the measure that is drawn."""


def _lines(table: StudyTable, column: str) -> Iterator[tuple[str, Estimate]]:
    place, names = table.columns.index(column), 2 if table.id == "b" else 1
    for row in table.rows:
        if isinstance(found := row[place], Estimate):
            yield ", ".join(str(cell) for cell in row[:names]), found


TITLE = "SPARK in miniature"
_TEXT = (
    "Tiny models on a CPU, the real engine; means over seeds with 95 % intervals (problems within seeds, then seeds)."
)


def _markdown(table: StudyTable) -> str:
    rows = ([_said(*cell) for cell in zip(table.columns, cells, strict=True)] for cells in table.rows)
    parts = (f"## {table.title}", table.text, markdown.table(table.columns, rows), table.note)
    return "".join(f"\n{part}\n" for part in parts if part)


def _said(column: str, cell: StudyCell) -> str:
    if isinstance(cell, Estimate):
        return cell.percent(signed=column in ("gain", "difference"))
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:.0f}"
    return "" if cell is None else str(cell)


def _each(values: Mapping[int, Values]) -> list[float]:
    return [float(np.mean([value for found in one.values() for _, value in found])) for one in values.values()]


def _of_steps(runs: Iterable[RunResult], key: str, place: int) -> float | None:
    """Mean over the runs of a metric in their first (0) or last (-1) step that has it."""
    found = [[step[key] for step in one.steps if key in step] for one in runs]
    values = [one[place] for one in found if one]
    return sum(values) / len(values) if values else None


def _sum(runs: Iterable[RunResult], key: str) -> float:
    return sum(step.get(key, 0.0) for one in runs for step in one.steps if step["step"] > 0)
