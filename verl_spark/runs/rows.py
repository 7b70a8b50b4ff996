"""Named columns of a data set, row by row: JSON Lines, a JSON list, parquet, or a data set of the Hugging Face hub.

Only the columns asked for are read from parquet and the hub, and only they leave this module for JSON. A row that
cannot be read comes out as a `BadRow`, and the next row follows. Memory does not grow with the input, but for a
JSON list, which is read whole."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from verl_spark.settings import Node

_PARQUET_BATCH = 256


class SourceSettings(Node):
    """Where rows are read."""

    path: str
    """A file (`.jsonl`, `.json` with a list, `.parquet`) or the id of a data set of the Hugging Face hub."""
    subset: str | None = None
    """Name of the hub data set's configuration; null is its default one. Of no effect for a file."""
    split: str = Field(default="train", min_length=1)
    """Split of a hub data set. Of no effect for a file."""


@dataclass(frozen=True)
class Row:
    """The asked-for columns that a row has, and its place (`file:line`, `file:row 3`)."""

    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class BadRow:
    """A row that was left out, and why."""

    place: str
    reason: str


class SourceError(ValueError):
    """The source cannot be read at all; the message says which and what to change."""


def read_rows(source: SourceSettings, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    """The rows in order, each with those of `columns` that it has. Raises `SourceError` before the first row."""
    path = Path(source.path)
    if not path.is_file():
        return _hub_rows(source, columns)
    if path.suffix not in FORMATS:
        raise SourceError(f"{path}: unknown kind of file; there are {', '.join(FORMATS)}")
    return FORMATS[path.suffix](path, columns)


def is_id(value: Any) -> bool:
    """Whether a value can name a row: a text that is not blank, or a whole number."""
    return isinstance(value, str | int) and not isinstance(value, bool) and bool(str(value).strip())


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _json_row(f"{path}:{number}", line, columns)


def _json_row(place: str, line: bytes, columns: Sequence[str]) -> Row | BadRow:
    try:
        return _chosen(place, json.loads(line.decode()), columns)
    except UnicodeDecodeError as error:
        return BadRow(place, f"broken UTF-8 at byte {error.start}")
    except (ValueError, RecursionError) as error:
        return BadRow(place, f"broken JSON: {error}")


def _json_list(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # broken UTF-8 is a ValueError as well
        raise SourceError(f"{path}: no readable JSON: {error}") from error
    if not isinstance(rows, list):
        raise SourceError(f"{path}: not a list of rows; a file with one row per line is called .jsonl")
    for number, row in enumerate(rows):
        yield _chosen(f"{path}:row {number}", row, columns)


def _chosen(place: str, row: Any, columns: Sequence[str]) -> Row | BadRow:
    if not isinstance(row, dict):
        return BadRow(place, f"not an object but {type(row).__name__}")
    return Row(place, {name: row[name] for name in columns if name in row})


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        present = [name for name in columns if name in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(_PARQUET_BATCH, columns=present):
            for index in range(batch.num_rows):
                yield _parquet_row(f"{path}:row {number}", batch, index)
                number += 1


def _parquet_row(place: str, batch: Any, index: int) -> Row | BadRow:
    try:
        return Row(place, {name: batch.column(name)[index].as_py() for name in batch.schema.names})
    except UnicodeDecodeError as error:
        return BadRow(place, f"broken UTF-8 at byte {error.start}")


def _hub_rows(source: SourceSettings, columns: Sequence[str]) -> Iterator[Row | BadRow]:
    try:
        import datasets

        stream = datasets.load_dataset(source.path, source.subset, split=source.split, streaming=True)
    except Exception as error:  # the library raises what its transports raise
        raise SourceError(
            f"{source.path}: neither a file nor a data set that can be read ({type(error).__name__}: {error}); "
            "check path, subset and split"
        ) from error
    names: Collection[str] = stream.features or next(iter(stream), {})  # a stream of JSON has no features before a look
    stream = stream.select_columns([name for name in columns if name in names])
    for number, row in enumerate(stream):
        yield Row(f"{source.path}/{source.split}:row {number}", row)


FORMATS = {".jsonl": _json_lines, ".json": _json_list, ".parquet": _parquet_rows}
"""How a file is read, by the end of its name."""
