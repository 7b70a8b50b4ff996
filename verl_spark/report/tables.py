"""Tables of the page: what stands in a cell, and by what it is sorted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from verl_spark.evaluation.statistics import Estimate
from verl_spark.report.groups import REWARD, Curve, Group
from verl_spark.report.study import StudyCell, StudyTable
from verl_spark.rl.metrics import METRICS


class Column(NamedTuple):
    """A column's head."""

    name: str
    unit: str = ""
    meaning: str = ""
    """In a sentence, where the name does not say it."""


class Cell(NamedTuple):
    """One cell."""

    text: str
    order: float | str = ""
    """What it is sorted by; an empty one comes last."""
    interval: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """A table that can be sorted by any of its columns; the first one names the rows."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    text: str = ""
    note: str = ""


def text(value: object) -> Cell:
    """A cell of words."""
    return Cell(str(value), str(value))


def number(value: float | None, digits: int = 0) -> Cell:
    """A cell with a number of so many decimals; empty for None."""
    return Cell("" if value is None else f"{value:,.{digits}f}", "" if value is None else value, is_number=True)


def share(value: float | None) -> Cell:
    """A share of 1 as percent, without the sign, which stands in the column's head."""
    return number(None if value is None else 100 * value, 1)


def measured(value: Estimate | None, signed: bool = False) -> Cell:
    """A share of 1 with its interval, in percent; sorted by the mean."""
    if value is None:
        return Cell("", is_number=True)
    mean, interval = value.percent(signed).split(" % ", 1)
    return Cell(mean, value.mean, interval, is_number=True)


def of_study(table: StudyTable) -> Table:
    """A table of a study, as it is there; a column with an interval below 0 is of differences and shows signs."""
    signed = {
        place for row in table.rows for place, cell in enumerate(row) if isinstance(cell, Estimate) and cell.low < 0
    }
    return Table(
        f"study-{table.id}",
        table.title,
        [Column(name) for name in table.columns],
        [[_studied(cell, place in signed) for place, cell in enumerate(row)] for row in table.rows],
        table.text,
        table.note,
    )


def summary(groups: Sequence[Group]) -> Table:
    """All groups by what they learned."""
    columns = [
        Column("arm"),
        Column("design"),
        Column("verifier"),
        Column("seeds"),
        Column("steps"),
        Column("first accuracy", "%", "at the first evaluation, with its 95 % interval"),
        Column("last accuracy", "%", "at the last evaluation, with its 95 % interval"),
        Column("difference", "points", "paired, over the items of both evaluations, with its 95 % interval"),
        Column("reward, first step"),
        Column("reward, last step"),
        Column("gated", "%", "of the rollouts, refused by format gate or step limit"),
        Column("missing", "%", "of the rollouts, without a reward"),
        Column("time", "s"),
    ]
    return Table("summary", "All runs", columns, [_summary_row(group) for group in groups])


def cost(groups: Sequence[Group]) -> Table:
    """What the verifier was asked, and what that took."""
    columns = [
        Column("arm"),
        Column("rollouts"),
        Column("calls made"),
        Column("calls saved", "", "the same question was known or under way"),
        Column("refused before a call", "", "by format gate or step limit"),
        Column("prompt tokens", "tokens"),
        Column("generated tokens", "tokens"),
        Column("per call", "tokens", "generated tokens of a call"),
    ]
    names = ("rollouts", "called", "cached", "gated", "verifier/prompt_tokens", "verifier/completion_tokens")
    rows = []
    for group in groups:
        totals = [group.total(f"spark/{name}") for name in names]
        calls, tokens = totals[1], totals[-1]
        each = tokens / calls if calls and tokens is not None else None
        rows.append([text(group.name), *map(number, totals), number(each, 1)])
    return Table("cost", "Verifier", columns, rows, note=_per_seed(groups))


def seconds(groups: Sequence[Group]) -> Table | None:
    """Where the time of training steps went; None where nobody logged it."""
    parts = timed(groups)
    if not parts:
        return None
    columns = [Column("arm"), Column("all", "s"), *(Column(part.replace("_", " "), "s") for part in parts)]
    rows = [
        [text(group.name), *(number(group.total(f"timing_s/{part}"), 1) for part in ("step", *parts))]
        for group in groups
    ]
    return Table("seconds", "Time of training steps", columns, rows, note=_per_seed(groups))


def timed(groups: Sequence[Group]) -> list[str]:
    """verl's names of the parts of a step whose time it logs, the longest first; parts of parts are left out."""
    totals: dict[str, float] = {}
    for group in groups:
        for run in group.results:
            for step in run.steps:
                for name, value in step.items():
                    stage, _, part = name.partition("timing_s/")
                    if not stage and part and "/" not in part and part != "step":
                        totals[part] = totals.get(part, 0.0) + value
    return sorted((part for part, total in totals.items() if total >= 0.05), key=lambda part: (-totals[part], part))


def findings(groups: Sequence[Group]) -> Table:
    """Gate findings, causes of missing rewards and flags, as shares of the rollouts; those that never occurred are left
    out."""
    rows = []
    for kind, what in (("gate", "gate"), ("missing", "missing"), ("flags", "flag")):
        for name in (name for name in METRICS if name.startswith(f"spark/{kind}/")):
            shares = [occurred(group, name) for group in groups]
            if any(shares):
                label = name.rpartition("/")[2].replace("_", " ")
                rows.append([text(label), text(what), *map(share, shares)])
    columns = [Column("finding"), Column("kind"), *(Column(group.name, "%") for group in groups)]
    note = (
        "Shares of all rollouts. A missing reward is no wrong answer: it stays out of its group's statistics. A flag "
        "proves nothing and changes no reward; verl-spark metrics says what raises it."
    )
    return Table("findings", "What was found in the rollouts", columns, rows, note=note)


def occurred(group: Group, metric: str) -> float | None:
    """Share of a group's rollouts for a metric that counts them, or is such a share already, as flags are."""
    rollouts = found = 0.0
    for run in group.results:
        for step in run.steps:
            n = step.get("spark/rollouts", 0.0)
            rollouts += n
            found += step.get(metric, 0.0) * (n if metric.startswith("spark/flags/") else 1.0)
    return found / rollouts if rollouts else None


def asked(group: Group) -> bool:
    """Whether any rollout was for a verifier to judge."""
    return bool((group.total("spark/called") or 0) + (group.total("spark/cached") or 0))


def verifier(group: Group) -> str:
    """Kind and serving of the verifier, in words."""
    if not group.spark:
        return "unknown"
    if not asked(group):
        return "none"
    return f"{group.spark.get('verifier', {}).get('kind', 'unknown')}, {group.spark.get('serving', 'unknown')}"


def _summary_row(group: Group) -> list[Cell]:
    gain, reward = group.gain, group.curve(REWARD)
    if gain is not None:
        single = gain.first[0] == gain.last[0]
        first, last = None if single else gain.first[1], gain.last[1]
        accuracy = [measured(first), measured(last), measured(gain.difference, signed=True)]
    else:
        logged, _ = group.accuracy_curve()
        accuracy = [share(_end(logged, 0) if len(logged) > 1 else None), share(_end(logged, -1)), share(None)]
    return [
        text(group.name),
        text(group.spark.get("design", "unknown")),
        text(verifier(group)),
        number(len(group.results)),
        number(group.n_steps),
        *accuracy,
        number(_end(reward, 0), 3),
        number(_end(reward, -1), 3),
        share(occurred(group, "spark/gated")),
        share(occurred(group, "spark/missing")),
        number(group.seconds),
    ]


def _end(curve: Curve, place: int) -> float | None:
    return curve[place].mean if curve else None


def _per_seed(groups: Sequence[Group]) -> str:
    several = any(len(group.results) > 1 for group in groups)
    return (
        "Sums over all training steps, averaged over the seeds of an arm."
        if several
        else "Sums over all training steps."
    )


def _studied(cell: StudyCell, signed: bool) -> Cell:
    if isinstance(cell, Estimate):
        found = measured(cell, signed)
        return found._replace(text=f"{found.text} %")
    if cell is None:
        return Cell("")
    if isinstance(cell, str):
        return text(cell)
    return number(cell) if isinstance(cell, int) or abs(cell) >= 1000 else Cell(f"{cell:.4g}", cell, is_number=True)


def counted(counts: Mapping[str, float]) -> str:
    """`12 cut, 3 failed`, without what never occurred."""
    return ", ".join(f"{value:,.0f} {name.replace('_', ' ')}" for name, value in counts.items() if value)
