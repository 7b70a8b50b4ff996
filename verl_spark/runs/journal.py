"""Finished calls, kept for ever: one append-only file, one line per answered request.

A line is whole or owed again: a line without its end (the process was killed while writing) is cut off at opening,
and nothing before it is ever rewritten. In memory stand only, for every key, how many samples there are and where
their lines begin; texts stay on disk."""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

logger = logging.getLogger(__name__)

_LINE = re.compile(rb'\{"key": "([0-9a-f]{64})", "n": ([0-9]+), "samples": \[.*\]\}\n')


@dataclass(frozen=True)
class Sample:
    """One reply of a model, as it came."""

    index: int
    """Its place among the samples of its call; sample i is drawn with the call's seed plus i."""
    text: str
    finish_reason: str
    prompt_tokens: int
    """Of its request, which has one prompt, on the request's first sample; 0 on the others."""
    completion_tokens: int
    seconds: float
    """From its request to the answer, on the request's first sample; 0 on the others."""


class JournalError(RuntimeError):
    """The journal cannot be opened for writing."""


class Journal:
    """The calls of one stage in `path`. Use it as a context manager, from one thread.

    With `write` it is this process's alone; without, the file is only read and may be growing."""

    def __init__(self, path: Path, write: bool) -> None:
        self.path = path
        self.write = write
        self._places: dict[bytes, tuple[int, ...]] = {}  # key: number of samples, then the offsets of its lines
        self._end = 0

    def __enter__(self) -> "Journal":
        if self.write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        self._file: BinaryIO = BytesIO()  # a stage without calls, to read
        if self.path.exists():
            self._file = self.path.open("r+b" if self.write else "rb")
        if self.write:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._file.close()
                raise JournalError(f"{self.path} is in use: another run works in this folder") from None
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if found := _LINE.fullmatch(line):
                self._note(bytes.fromhex(found[1].decode()), int(found[2]), self._end)
            else:
                logger.error("%s, byte %d: no call can be read there; it is asked again", self.path, self._end)
            self._end += len(line)
        if self.write:
            self._file.truncate(self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Calls with at least one sample."""
        return len(self._places)

    def count(self, key: str) -> int:
        """Samples of the call that are here; they are the first ones, without a gap."""
        return self._places.get(bytes.fromhex(key), (0,))[0]

    def append(self, key: str, samples: Sequence[Sample]) -> None:
        """Adds the next samples of a call; they are safe from a kill when this returns."""
        if samples[0].index != self.count(key):
            raise ValueError(f"the next sample of this call is {self.count(key)}, not {samples[0].index}")
        plain = json.dumps([vars(sample) for sample in samples])  # ASCII: half surrogates of a reply survive
        line = f'{{"key": "{key}", "n": {len(samples)}, "samples": {plain}}}\n'.encode()
        rest = memoryview(line)
        while rest:
            rest = rest[os.pwrite(self._file.fileno(), rest, self._end + len(line) - len(rest)) :]
        self._note(bytes.fromhex(key), len(samples), self._end)
        self._end += len(line)

    def samples(self, key: str) -> list[Sample]:
        """The samples of a call, in the order of their indices; empty for an unknown one."""
        return [sample for offset in self._places.get(bytes.fromhex(key), (0,))[1:] for sample in self._line_at(offset)]

    def requests(self) -> Iterator[list[Sample]]:
        """All answered requests in the order of the file."""
        offset = 0
        while offset < self._end:
            self._file.seek(offset)
            line = self._file.readline()
            offset += len(line)
            if _LINE.fullmatch(line):
                yield _samples(line)

    def _line_at(self, offset: int) -> list[Sample]:
        self._file.seek(offset)
        return _samples(self._file.readline())

    def _note(self, key: bytes, n: int, offset: int) -> None:
        count, *offsets = self._places.get(key, (0,))
        self._places[key] = (count + n, *offsets, offset)


def _samples(line: bytes) -> list[Sample]:
    return [Sample(**fields) for fields in json.loads(line)["samples"]]
