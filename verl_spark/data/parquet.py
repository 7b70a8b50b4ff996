"""Parquet files that are written row by row with flat memory and appear when they are whole."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""Type of a column of chat messages, as verl reads them."""
SPLITS = ("train", "validation")

_BATCH = 1024


class RowFile:
    """Rows of one schema into `path`. Use it as a context manager: the rows are written beside the file, which they
    replace at the end; after an error there is no new file."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self._schema = schema
        self._beside = path.with_name(f"{path.name}.new")
        self._rows: list[Mapping[str, Any]] = []

    def __enter__(self) -> "RowFile":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._beside, self._schema)
        return self

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a row, a value for each column."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            self._writer.close()
        if error is None:
            self._beside.replace(self.path)
        else:
            self._beside.unlink()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows.clear()


class SplitFiles:
    """`train.parquet` and `validation.parquet` in `folder`, split by problem and never by row. Either may be empty."""

    def __init__(self, folder: Path, schema: pa.Schema, seed: int, validation_share: float) -> None:
        self._files = {split: RowFile(folder / f"{split}.parquet", schema) for split in SPLITS}
        self._seed = seed
        self._validation_share = validation_share
        self._open = ExitStack()

    def __enter__(self) -> "SplitFiles":
        with ExitStack() as opening:
            for file in self._files.values():
                opening.enter_context(file)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, problem_id: str, row: Mapping[str, Any]) -> str:
        """Adds a row of this problem; the split it went to."""
        split = split_of(problem_id, self._seed, self._validation_share)
        self._files[split].add(row)
        return split


def split_of(problem_id: str, seed: int, validation_share: float) -> str:
    """The split of every row of a problem: that of a hash of seed and id, whatever else is in the data."""
    place = int.from_bytes(hashlib.sha256(f"{seed}:{problem_id}".encode()).digest()[:8], "big") / 2**64
    return "validation" if place < validation_share else "train"
