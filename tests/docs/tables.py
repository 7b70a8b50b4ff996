"""The tables of the documents, made from the code. `python -m tests.docs.tables` writes them into the pages.

In a page a table stands between `<!-- table: NAME -->` and `<!-- end -->`; `tests/docs/test_names.py` compares."""

import re
from pathlib import Path

from verl_spark import reference
from verl_spark.data.config import DataConfig
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.prm.settings import SftSettings
from verl_spark.rescoring.config import ScoreConfig
from verl_spark.settings import Alarm, SparkSettings
from verl_spark.verifier.engine import EngineSettings

DOCS = Path(__file__).parents[2] / "docs"
MODELS = {
    "reward.spark": (SparkSettings, "`reward.spark.…`"),
    "alarm": (Alarm, "key of an alarm"),
    "data": (DataConfig, "key"),
    "engine": (EngineSettings, "`….engine.…`"),
    "sft": (SftSettings, "`spark.…`"),
    "processbench": (EvalConfig, "key"),
    "math": (MathConfig, "key"),
    "score": (ScoreConfig, "key"),
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
    return {**made, "metrics": reference.markdown(reference.metrics(), "metric", "meaning")}


def found() -> dict[str, str]:
    """Name to the table that stands in a page."""
    texts = (page.read_text() for page in sorted(DOCS.rglob("*.md")))
    return {match["name"]: match["text"] for text in texts for match in _TABLE.finditer(text)}


def write() -> None:
    """Puts the tables of the code in the place of those in the pages."""
    made = tables()
    for page in DOCS.rglob("*.md"):
        text = page.read_text()
        new = _TABLE.sub(lambda m: f"<!-- table: {m['name']} -->\n\n{made[m['name']]}\n\n<!-- end -->", text)
        if new != text:
            page.write_text(new)


if __name__ == "__main__":
    write()
