"""Every setting and every metric, read from the code: the command line prints them, the documents quote them."""

from collections.abc import Collection, Iterator
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from verl_spark.markdown import table
from verl_spark.rl.metrics import METRICS
from verl_spark.settings import SparkSettings, node_of


class Entry(NamedTuple):
    """A named thing, its default as one would type it (empty for a metric), and its meaning in a sentence or two."""

    name: str
    default: str
    meaning: str


def settings(
    model: type[BaseModel] = SparkSettings, prefix: str = "", closed: Collection[type[BaseModel]] = ()
) -> Iterator[Entry]:
    """The settings of a model (`reward.spark`) in the order of the code, nested ones with a dotted name.

    A group of a class in `closed` is one entry, for a table that shows its keys apart."""
    for name, field in model.model_fields.items():
        node = node_of(field)
        if node and node not in closed:
            yield from settings(node, f"{prefix}{name}.", closed)
        else:
            default = field.get_default(call_default_factory=True)
            yield Entry(prefix + name, _typed(default), " ".join((field.description or "").split()))


def metrics() -> Iterator[Entry]:
    """The metrics of a training step."""
    for name, meaning in METRICS.items():
        yield Entry(name, "", meaning)


def markdown(entries: Iterator[Entry], *heads: str) -> str:
    """A Markdown table of entries; with two heads the defaults are left out."""
    width = len(heads)
    rows = [(f"`{name}`", *([f"`{default}`"] if width == 3 else []), meaning) for name, default, meaning in entries]
    return table(heads, rows)


def _typed(value: Any) -> str:
    if value is None:
        return "null"
    if value is PydanticUndefined:
        return "(to be given)"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str) and not (value and value.isprintable()):
        return repr(value)  # a line break would end the row of a table, and nothing would be no text
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
