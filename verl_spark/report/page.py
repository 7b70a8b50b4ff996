"""The page: one HTML file that needs nothing else.

Every text of a run is foreign: it goes through the template's escaping or, in the browser of rollouts, as JSON that a
script puts into text nodes. A content security policy lets no other script run and nothing be loaded."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from verl_spark.files import replacing
from verl_spark.report.charts import Chart, check_matplotlib, look
from verl_spark.report.finding import find
from verl_spark.report.groups import REWARD, Gain, Group, group
from verl_spark.report.pictures import compared, detailed, training
from verl_spark.report.reading import read_log
from verl_spark.report.result import ROLLOUTS, RunResult, result_of
from verl_spark.report.rollouts import Shown
from verl_spark.report.stored import benchmarks_table, data_tables, evaluation_table
from verl_spark.report.study import Study
from verl_spark.report.tables import Table, asked, cost, counted, findings, of_study, seconds, summary, verifier
from verl_spark.rl.metrics import METRICS
from verl_spark.versions import versions

_OPEN = 2
"""Up to so many arms are shown in detail from the start."""
_CARDS = 6
"""With more arms than these their cards are folded away; the table has the same."""


@dataclass(frozen=True)
class Card:
    """An arm in a few numbers."""

    name: str
    what: str
    gain: Gain | None
    logged: str
    """Accuracy as verl logged it, where no per-item results are stored; empty without."""
    facts: dict[str, str]


@dataclass(frozen=True)
class Arm:
    """An arm in detail."""

    name: str
    charts: Sequence[Chart]


def write_report(
    paths: Iterable[Path], output: Path, report: Callable[[str, int], None] = lambda *_: None
) -> list[str]:
    """Writes the page about these folders and files; what was seen and not shown, in sentences.

    `report` gets each run and step that is read. Raises `NotInstalled` without matplotlib, and `SourceError` for a path
    that holds nothing, or something that cannot be read."""
    check_matplotlib()
    found = find(paths)
    each = max(1, ROLLOUTS // max(1, len(found.runs) + len(found.results)))
    results: list[tuple[str, RunResult]] = [(str(path), RunResult.read(path)) for path in found.results]
    for name, run in found.runs.items():
        results.append((str(run.home), result_of(run, name, rollouts=each, report=partial(report, name))))
    studies = [Study.read(path) for path in found.studies]
    sections = {
        "Verification data": [
            table for path in found.data for table in data_tables(path, _told_apart(path, found.data))
        ],
        "ProcessBench": [evaluation_table(path, _told_apart(path, found.evaluations)) for path in found.evaluations],
        "Benchmarks": [benchmarks_table(path, _told_apart(path, found.benchmarks)) for path in found.benchmarks],
    }
    losses = [training(name, read_log([path]), place) for place, (name, path) in enumerate(found.trainings.items())]
    page = render(group(results), studies, sections, losses, found.remarks)
    with replacing(output) as file:
        file.write(page)
    return found.remarks


def render(
    groups: Sequence[Group],
    studies: Sequence[Study] = (),
    sections: Mapping[str, Sequence[Table]] = MappingProxyType({}),
    losses: Sequence[Chart] = (),
    remarks: Sequence[str] = (),
) -> str:
    """The page; `sections` are tables by title, `losses` charts of SFT trainings."""
    runs = [run for each in groups for run in each.results]
    rollouts = _rollouts(groups)
    script = _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tables = [table for table in (cost(groups), seconds(groups), findings(groups)) if table and groups]
    page = _TEMPLATES.get_template("page.html.jinja").render(
        title=studies[0].title if studies else _title(groups, sections, losses),
        version=versions().get("verl-spark", ""),
        policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=Markup(_own("style.css")),
        script=Markup(script),
        studies=[(study, [of_study(table) for table in study.tables]) for study in studies],
        cards=[_card(each) for each in groups],
        summary=summary(groups) if len(groups) > 1 else None,
        compared=compared(groups) if groups else [],
        arms=[Arm(each.name, detailed(each, place)) for place, each in enumerate(groups)],
        opened=len(groups) <= _OPEN,
        crowded=len(groups) > _CARDS,
        tables=[table for table in tables if table.rows],
        sections={title: tables for title, tables in sections.items() if tables},
        losses=losses,
        rollouts=Markup(_inert(rollouts)),
        n_rollouts=len(rollouts),
        n_all=sum(int(step.get("spark/rollouts", 0)) for run in runs for step in run.steps),
        seeds=max((len(each.results) for each in groups), default=0),
        remarks=remarks,
        look=look,
    )
    return page.encode(errors="backslashreplace").decode()  # a folder's name may be no text


def _own(name: str) -> str:
    return (files("verl_spark.report") / name).read_text(encoding="utf-8")


_TEMPLATES = Environment(
    loader=PackageLoader("verl_spark.report", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _inert(content: Any) -> str:
    """JSON in which no parser of HTML sees a tag, a comment or an end of the script."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _card(group: Group) -> Card:
    reward, (logged, _) = group.curve(REWARD), group.accuracy_curve()
    causes = {name: group.total(name) or 0 for name in METRICS if name.startswith("spark/missing/")}
    missing = counted({name.rpartition("/")[2]: total for name, total in causes.items()})
    n_missing = group.total("spark/missing")
    facts = {
        "seeds": str(len(group.results)) if len(group.results) > 1 else "",
        "steps": f"{group.n_steps:,}",
        "rollouts": _whole(group.total("spark/rollouts")),
        "reward": f"{reward[0].mean:.3f} → {reward[-1].mean:.3f}" if reward else "",
        "refused by gate or limit": _whole(group.total("spark/gated")),
        "missing rewards": _whole(n_missing) + (f" ({missing})" if n_missing and missing else ""),
        "calls made, saved": f"{_whole(group.total('spark/called'))}, {_whole(group.total('spark/cached'))}"
        if asked(group)
        else "",
        "time of the steps": f"{group.seconds:,.0f} s" if group.seconds else "",
    }
    words = f"design {group.spark.get('design', 'unknown')} · verifier {verifier(group)}"
    ends = " → ".join(f"{100 * point.mean:.1f} %" for point in dict.fromkeys((logged[0], logged[-1]))) if logged else ""
    return Card(group.name, words, group.gain, ends, {name: value for name, value in facts.items() if value})


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _rollouts(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The rollouts for the browser, run by run, at most `ROLLOUTS` of all."""
    runs = [(each, run) for each in groups for run in each.results if run.rollouts]
    most = max(1, ROLLOUTS // max(1, len(runs)))
    return [
        {"run": f"{each.name}, seed {run.seed}" if len(each.results) > 1 else each.name, **one.model_dump(mode="json")}
        for each, run in runs
        for one in _ends(run.rollouts, most)
    ]


def _ends(rollouts: Sequence[Shown], most: int) -> Sequence[Shown]:
    """Of rollouts with the suspicious ones first and the sample last, as many of both."""
    if len(rollouts) <= most:
        return rollouts
    half = most // 2
    return [*rollouts[: most - half], *rollouts[len(rollouts) - half :]]


def _title(groups: Sequence[Group], sections: Mapping[str, Sequence[Table]], losses: Sequence[Chart]) -> str:
    names = [each.name for each in groups]
    if not names:
        return next((title for title, tables in sections.items() if tables), "Training" if losses else "Report")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if len(names) < 5 else "Study"


def _told_apart(path: Path, paths: Sequence[Path]) -> str:
    """The folder's name, with its parent's where another one is called the same."""
    return path.name if sum(other.name == path.name for other in paths) == 1 else f"{path.parent.name}/{path.name}"
