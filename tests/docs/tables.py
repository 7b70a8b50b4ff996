"""The tables of the README and the documents, made from the code and from the results of the miniature study.

`python -m tests.docs.tables` writes them into the pages.

In a page a table stands between `<!-- table: NAME -->` and `<!-- end -->`; `tests/docs/test_names.py` compares."""

import re
from collections.abc import Iterable, Iterator

from tests.docs.pages import PAGES, ROOT
from verl_spark import markdown, reference
from verl_spark.data.config import DataConfig
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.evaluation.statistics import Estimate
from verl_spark.planning.rates import Rate
from verl_spark.prm.settings import SftSettings
from verl_spark.report.finding import STUDY_FILE
from verl_spark.report.study import Study, StudyCell, StudyTable
from verl_spark.rescoring.config import ScoreConfig
from verl_spark.settings import Alarm, SparkSettings
from verl_spark.verifier.engine import EngineSettings

STUDIES = {"miniature": "arithmetic", "clock": "clock"}
"""Head of the names of a study's tables to the folder of its results."""
MODELS = {
    "reward.spark": (SparkSettings, "`reward.spark.…`"),
    "alarm": (Alarm, "key of an alarm"),
    "data": (DataConfig, "key"),
    "engine": (EngineSettings, "`….engine.…`"),
    "sft": (SftSettings, "`spark.…`"),
    "processbench": (EvalConfig, "key"),
    "math": (MathConfig, "key"),
    "score": (ScoreConfig, "key"),
    "rate": (Rate, "key of a rate"),
}
"""Name of a table to the settings in it and the head of its first column."""

_TABLE = re.compile(r"<!-- table: (?P<name>[\w.]+) -->\n\n(?P<text>.*?)\n*<!-- end -->", re.DOTALL)


def tables() -> dict[str, str]:
    """Name to Markdown. Engines have a table of their own, to which the others refer."""
    closed = (EngineSettings,)
    made = {
        name: reference.markdown(reference.settings(model, closed=closed), head, "default", "meaning")
        for name, (model, head) in MODELS.items()
    }
    return {**made, "metrics": reference.markdown(reference.metrics(), "metric", "meaning"), **studies()}


def studies() -> dict[str, str]:
    """What the miniature study of each task found."""
    results = ROOT / "recipes" / "miniature" / "results"
    return {
        f"{head}.{name}": text
        for head, folder in STUDIES.items()
        for name, text in study(Study.read(results / folder / STUDY_FILE)).items()
    }


def study(read: Study) -> dict[str, str]:
    """What a study found: how far it is, its claims, and the gain of each arm."""
    found = {table.id: table for table in read.tables}
    claims = found["claims"]
    return {
        "text": read.text,
        "claims": markdown.table(("", *claims.columns[1:]), map(_said, claims.rows)),
        "gains": markdown.table(("arm", "gain in accuracy", "seeds"), map(_said, _gains(found))),
    }


def _gains(found: dict[str, StudyTable]) -> Iterator[list[StudyCell]]:
    seen = set()
    for table in (found[name] for name in "cde" if name in found):
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            if cells["arm"] not in seen:  # PRM-CoT is in two tables
                seen.add(cells["arm"])
                yield [cells["arm"], cells["gain"], cells["seeds"]]


def _said(cells: Iterable[StudyCell]) -> list[str]:
    said = ("" if cell is None else cell for cell in cells)
    return [cell.percent(signed=True) if isinstance(cell, Estimate) else str(cell) for cell in said]


def found() -> dict[str, str]:
    """Name to the table that stands in a page."""
    return {match["name"]: match["text"] for page in PAGES for match in _TABLE.finditer(page.text)}


def write() -> None:
    """Puts the tables of the code in the place of those in the pages."""
    made = tables()
    for page in PAGES:
        new = _TABLE.sub(lambda m: f"<!-- table: {m['name']} -->\n\n{made[m['name']]}\n\n<!-- end -->", page.text)
        if new != page.text:
            page.path.write_text(new)


if __name__ == "__main__":
    write()
