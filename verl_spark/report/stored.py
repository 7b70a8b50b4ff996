"""Tables of what Stage I and the measurements have written: read, not computed again."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verl_spark.data.card import CARD_FILE, COST_FILE
from verl_spark.data.quality import QUALITY_FILE
from verl_spark.evaluation.policy.metric import FAULTS as REPLY_FAULTS
from verl_spark.evaluation.prediction import FAULTS
from verl_spark.evaluation.results import RESULT_FILE
from verl_spark.evaluation.statistics import Estimate
from verl_spark.report.tables import Cell, Column, Table, measured, number, share, text
from verl_spark.runs.rows import SourceError


def data_tables(folder: Path, name: str) -> list[Table]:
    """Methods, drops, label quality where it was measured, and cost of a data folder of Stage I."""
    with _stored(folder):
        card, costs = _content(folder / CARD_FILE), _content(folder / COST_FILE)
        tables = [_methods(card, costs, name), _drops(card, name), _stages(costs, name)]
        if (folder / QUALITY_FILE).is_file():
            tables.insert(2, _quality(_content(folder / QUALITY_FILE), name))
    return tables


def evaluation_table(folder: Path, name: str) -> Table:
    """The score of a ProcessBench folder by subset."""
    columns = [
        Column("subset"),
        Column("items"),
        Column("erroneous items", "%", "of the erroneous items, those whose first wrong step was named"),
        Column("correct items", "%", "of the correct items, those that were passed"),
        Column("F1", "%"),
        Column("verdict on right answers", "%", "of the right answers, those called right"),
        Column("verdict on wrong answers", "%", "of the wrong answers, those called wrong"),
        *(Column(f"no prediction: {fault.replace('_', ' ')}", "%") for fault in FAULTS),
    ]
    estimates = ("error_acc", "correct_acc", "f1", "verdict_acc_right", "verdict_acc_wrong")
    with _stored(folder):
        result = _content(folder / RESULT_FILE)
        rows = [
            [
                text(subset),
                number(found["items"]),
                *(_percent(found[each], found["items"]) for each in estimates),
                *(share(found["no_prediction"][fault]) for fault in FAULTS),
            ]
            for subset, found in result["subsets"].items()
        ]
        items = sum(found["items"] for found in result["subsets"].values())
        rows.append([text("mean"), number(items), text(""), text(""), _percent(result["average_f1"], items)])
        rows[-1] += [text("")] * (len(columns) - len(rows[-1]))
        judge = result["verifier"]
        source = f"Verifier {judge['model'] or 'of recorded replies'}, asked as {judge['kind']}."
        note = f"{source} Items without a prediction count as wrong."
    return Table(f"eval-{name}", f"ProcessBench: {name}", columns, rows, note=note)


def benchmarks_table(folder: Path, name: str) -> Table:
    """The scores of a folder of `eval math` by benchmark."""
    columns = [
        Column("benchmark"),
        Column("problems"),
        Column("greedy", "%", "pass@1 of the greedy reply"),
        Column("k", "", "sampled replies to each problem"),
        Column("avg@k", "%", "of the sampled replies, those that are right, by problem"),
        Column("pass@k", "%", "of the problems, those with a right reply among the sampled ones"),
        Column("maj@k", "%", "of the problems, those whose most frequent answer is right; a tie counts as wrong"),
        *(Column(f"greedy: {fault.replace('_', ' ')}", "", "greedy replies") for fault in REPLY_FAULTS),
    ]
    with _stored(folder):
        result = _content(folder / RESULT_FILE)
        rows = []
        for benchmark, found in result["benchmarks"].items():
            n, k = found["problems"], found["k"]
            shares = (found["greedy"], found["avg_at_k"], found["pass_at"].get(str(k)), found["maj_at_k"])
            greedy, *sampled = (_percent(one, n) for one in shares)
            faults = (number(found["greedy_faults"][fault]) for fault in REPLY_FAULTS)
            rows.append([text(benchmark), number(n), greedy, number(k), *sampled, *faults])
        if (means := result["mean_of_six"])["greedy"]:
            n = sum(found["problems"] for found in result["benchmarks"].values())
            greedy, avg, majority = (_percent(means[key], n) for key in ("greedy", "avg", "majority"))
            rows.append([text("mean of six"), number(n), greedy, text(""), avg, text(""), majority])
            rows[-1] += [text("")] * len(REPLY_FAULTS)
        policy = result["policy"]
    note = f"Policy {policy['model']}, prompt {policy['prompt']}. Replies without an answer count as wrong."
    return Table(f"math-{name}", f"Benchmarks: {name}", columns, rows, note=note)


def _methods(card: Mapping[str, Any], costs: Mapping[str, Any], name: str) -> Table:
    columns = [
        Column("method"),
        Column("solutions"),
        Column("kept"),
        Column("kept", "%"),
        Column("verdict Yes", "%", "of those kept"),
        Column("usable verifications", "%"),
        Column("with the majority", "%", "of the usable verifications, those that state the verdict of most"),
        Column("levels agree", "%", "of the solutions where both levels decided"),
        Column("references"),
        Column("calls per kept example"),
        Column("generated tokens per kept example"),
    ]
    rows = []
    for method, found in card["methods"].items():
        each = costs["methods"][method]["per_kept_example"] or {}
        shares = ("share_yes", "usable_share", "verdict_agreement", "levels_agree_share")
        rows.append(
            [
                text(method),
                number(found["solutions"]),
                number(found["kept"]),
                share(found["kept"] / found["solutions"] if found["solutions"] else None),
                *(share(found[key]) for key in shares),
                text("read" if found["references_used"] else "none"),
                number(each.get("calls"), 1),
                number(each.get("completion_tokens")),
            ]
        )
    models = ", ".join(f"{role} {model}" for role, model in card["models"].items() if model)
    return Table(f"methods-{name}", f"Methods: {name}", columns, rows, note=f"Models: {models}.")


def _drops(card: Mapping[str, Any], name: str) -> Table:
    reasons = sorted({reason for found in card["methods"].values() for reason in found["dropped"]})
    columns = [Column("method"), *(Column(reason.replace("_", " ")) for reason in reasons)]
    rows = [
        [text(method), *(number(found["dropped"].get(reason, 0)) for reason in reasons)]
        for method, found in card["methods"].items()
    ]
    return Table(f"drops-{name}", f"Solutions dropped, by cause: {name}", columns, rows)


def _quality(quality: Mapping[str, Any], name: str) -> Table:
    columns = [
        Column("method"),
        Column("label"),
        Column("of what is in truth"),
        Column("labels"),
        Column("not comparable", "", "kept records for which the truth, or the step count, was not known"),
        Column("right", "%"),
    ]
    rows = []
    for line in quality["accuracy"]:
        found = None if line["accuracy"] is None else Estimate(**line["accuracy"])
        words = (line["method"], line["label"].replace("_", " "), line["truth"])
        rows.append([*map(text, words), number(line["labels"]), number(line["unknown"]), measured(found)])
    return Table(f"quality-{name}", f"How right the labels are: {name}", columns, rows)


def _stages(costs: Mapping[str, Any], name: str) -> Table:
    columns = [
        Column("stage"),
        Column("calls"),
        Column("prompt tokens", "tokens"),
        Column("generated tokens", "tokens"),
        Column("load", "s", "engine seconds summed over requests, which overlap"),
        Column("time on the clock", "s"),
        Column("price"),
    ]
    keys = ("calls", "prompt_tokens", "completion_tokens", "engine_seconds", "wall_seconds")
    stages = {**costs["stages"], "all": costs["total"]}
    rows = [
        [text(stage), *(number(found[key]) for key in keys), number(found["price"], 2)]
        for stage, found in stages.items()
        if found["calls"]
    ]
    return Table(f"stages-{name}", f"Cost: {name}", columns, rows)


def _percent(found: Mapping[str, float] | None, n: int) -> Cell:
    """An estimate in percent, as a result file has it."""
    if found is None:
        return measured(None)
    return measured(Estimate(found["value"] / 100, found["low"] / 100, found["high"] / 100, n))


def _content(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


@contextmanager
def _stored(folder: Path) -> Iterator[None]:
    """What does not fit the files of a folder is an error that names it."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{folder}: not as this version writes it: {error!r}; make it again, or take it away"
        ) from error
