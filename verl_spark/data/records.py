"""Writing `records/<method>.jsonl` out of the finished calls, and reading them back."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from verl_spark.data.config import DataConfig
from verl_spark.data.flow import references_of
from verl_spark.data.record import Record
from verl_spark.data.selection import BALANCE
from verl_spark.data.way import Way
from verl_spark.files import replacing
from verl_spark.runs.calls import Call
from verl_spark.runs.problems import Problem, read_problems
from verl_spark.runs.store import Store

KEPT = "kept"


@dataclass
class Selection:
    """What was selected."""

    counts: dict[str, Counter[str]]
    """By method: how many solutions were kept, and dropped by reason."""
    owed: Counter[str] = field(default_factory=Counter)
    """Calls by stage that records still wait for."""


def records_file(folder: Path, method: str) -> Path:
    """Where the records of a method lie in an output folder."""
    return folder / "records" / f"{method}.jsonl"


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, in its order."""
    with path.open(encoding="utf-8") as lines:
        yield from map(Record.from_json, lines)


async def write_records(config: DataConfig, store: Store) -> Selection:
    """Selects by every method of the config, in the order of the problems; asks no model."""
    selection = Selection({method.name: Counter() for method in config.chosen})

    async def leave(call: Call, _: Problem) -> bool:
        owed = bool(store.owed(call))
        selection.owed[call.stage] += owed
        return not owed

    way = Way(config, store, leave, config.chosen)
    references = references_of(config)
    with ExitStack() as stack:
        files = {name: stack.enter_context(replacing(records_file(config.output, name))) for name in selection.counts}
        for problem in read_problems(config.problems):
            if isinstance(problem, Problem):
                for record in await way.walk(problem, references.get(problem.id), all_records=True):
                    files[record.method].write(record.to_json() + "\n")
                    selection.counts[record.method][record.drop or KEPT] += 1
    if config.balance:
        for name, counts in selection.counts.items():
            balance(records_file(config.output, name), config.seed, counts)
    return selection


def balance(path: Path, seed: int, counts: Counter[str]) -> None:
    """Drops kept records of the more frequent verdict until both are equally frequent; corrects `counts`.

    Which ones is decided by seed and solution, not by their order. The verdict is the method's own: no reference."""
    ranks: dict[bool | None, list[int]] = {True: [], False: []}
    for record in read_records(path):
        if record.drop is None:
            ranks[record.verdict].append(_rank(record, seed))
    size = min(len(ranks[True]), len(ranks[False]))
    kept = {verdict: set(sorted(values)[:size]) for verdict, values in ranks.items()}
    with replacing(path) as file:
        for record in read_records(path):
            if record.drop is None and _rank(record, seed) not in kept[record.verdict]:
                counts.subtract({KEPT: 1, BALANCE: -1})
                record = replace(record, drop=BALANCE, verdict=None, marks=None, text=None)
            file.write(record.to_json() + "\n")


def _rank(record: Record, seed: int) -> int:
    name = f"{seed} {record.problem_id} {record.solution_id}"
    return int.from_bytes(sha256(name.encode(errors="surrogatepass")).digest()[:8], "big")
