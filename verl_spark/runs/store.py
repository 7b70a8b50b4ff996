"""The calls of an output folder: what is finished, what failed for good, what is owed.

`calls/<stage>.jsonl` hold the answers, `failures.jsonl` the calls that no restart can cure. Anything else is owed."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from verl_spark.runs.calls import Call
from verl_spark.runs.journal import Journal, Sample

FAILURES_FILE = "failures.jsonl"


class Store:
    """The calls of some stages in `folder`. Use it as a context manager; one process at a time may `write`."""

    def __init__(self, folder: Path, stages: Sequence[str], write: bool = False) -> None:
        self.journals = {stage: Journal(folder / "calls" / f"{stage}.jsonl", write) for stage in stages}
        self._write = write
        self._failures = folder / FAILURES_FILE
        self._failed: set[str] = set()
        self._open = ExitStack()

    def __enter__(self) -> "Store":
        with ExitStack() as opening:
            for journal in self.journals.values():
                opening.enter_context(journal)
            if self._failures.exists():
                lines = self._failures.read_bytes().splitlines(keepends=True)
                whole = [line for line in lines if line.endswith(b"\n")]
                if whole != lines and self._write:
                    self._failures.write_bytes(b"".join(whole))
                self._failed = {json.loads(line)["key"] for line in whole}
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def owed(self, call: Call) -> int:
        """Samples that are still to be asked for; 0 for a call that failed for good."""
        return 0 if call.key in self._failed else max(0, call.n - self.journals[call.stage].count(call.key))

    def samples(self, call: Call) -> list[Sample]:
        """The samples of a finished call; none if it failed for good."""
        return self.journals[call.stage].samples(call.key)[: call.n]

    def finish(self, call: Call, samples: Sequence[Sample]) -> None:
        """Journals the answer to a request."""
        self.journals[call.stage].append(call.key, samples)

    def fail(self, call: Call, cause: str, place: str) -> None:
        """Sets aside a call that is not to be asked again; `place` is where its texts were read."""
        self._failed.add(call.key)
        with self._failures.open("a") as file:
            file.write(json.dumps({"key": call.key, "stage": call.stage, "problem": place, "cause": cause}) + "\n")

    @property
    def failed(self) -> int:
        """Calls that failed for good."""
        return len(self._failed)
