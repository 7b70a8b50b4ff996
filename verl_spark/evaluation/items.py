"""What ProcessBench asks: solutions cut into steps, each with the place of its first error.

Read from the Hugging Face hub or from files, and checked row by row: an item that is not sound would be counted as the
verifier's error."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import PositiveInt

from verl_spark.files import file_hash, is_writable
from verl_spark.runs.calls import digest
from verl_spark.runs.rows import FORMATS, Row, SourceError, SourceSettings, is_id, read_rows
from verl_spark.settings import Node

SUBSETS = ("gsm8k", "math", "olympiadbench", "omnimath")
"""Of ProcessBench, in its order."""

_COLUMNS = ("id", "problem", "steps", "label", "final_answer_correct")
_NAMED = 10  # faults in one message


class ItemSettings(Node):
    """The items to judge."""

    path: str = "Qwen/ProcessBench"
    """Data set of the Hugging Face hub, a folder with a file per subset (`gsm8k.json`, `.jsonl` or `.parquet`), or one
    such file. Columns: `id`, `problem`, `steps` (texts), `label` (index of the first wrong step from 0, -1 for none)
    and, if known, `final_answer_correct`."""
    subsets: tuple[str, ...] = ()
    """Subsets in the order of the report; empty is all: the four of ProcessBench, or the files there are."""
    limit: PositiveInt | None = None
    """So many items of each subset, spread over it by a hash of their ids, since the files of ProcessBench begin with
    the erroneous ones; a higher limit adds to a lower one's. Null is all of them."""


class Entry(Protocol):
    """What an item of any benchmark has."""

    @property
    def id(self) -> str:
        """Unique within its subset."""
        ...

    @property
    def problem(self) -> str:
        """The problem's text."""
        ...

    @property
    def subset(self) -> str:
        """What it is scored with."""
        ...

    @property
    def content(self) -> Sequence[object]:
        """All that is measured by it, as plain values."""
        ...


AnyItem = TypeVar("AnyItem", bound=Entry)


@dataclass(frozen=True)
class Item:
    """A solution in steps."""

    id: str
    problem: str
    steps: tuple[str, ...]
    """At least one; step k of a verification is `steps[k - 1]`."""
    label: int
    """Index of the first wrong step, -1 if all are right."""
    subset: str = "items"
    answer_correct: bool | None = None
    """Whether the solution's final answer is right; None where nobody knows."""
    answer: str | None = None
    """The final answer, for a verifier that was taught with an answer line; None if the steps say it."""

    @property
    def erroneous(self) -> bool:
        """Whether a step is wrong."""
        return self.label >= 0

    @property
    def content(self) -> Sequence[object]:
        """Ids, texts and label."""
        return [self.subset, self.id, self.problem, self.steps, self.label]


@dataclass(frozen=True)
class Items(Generic[AnyItem]):
    """Items with what identifies them."""

    items: tuple[AnyItem, ...]
    files: Mapping[str, str]
    """SHA-256 of each file by its path; empty for the hub."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of ids, texts and labels in their order, whatever kind of file held them."""
        return digest([item.content for item in self.items])


class ItemsError(ValueError):
    """Rows that are no items; the message names each with its file, row and field."""


def read_items(settings: ItemSettings) -> Items[Item]:
    """The items of all subsets. Raises `SourceError` for what cannot be read at all, `ItemsError` for unsound rows."""
    return read_subsets(list(_sources(settings)), _COLUMNS, item_of, settings.limit)


def read_subsets(
    sources: Sequence[tuple[str, SourceSettings]],
    columns: Sequence[str],
    make: Callable[[Row, str], AnyItem | str],
    limit: int | None = None,
) -> Items[AnyItem]:
    """The items of named sources: `make` gives that of a row and its subset, or says what is wrong with the row.

    With `limit` so many of each subset, spread by a hash of their ids. Raises as `read_items` does."""
    items: list[AnyItem] = []
    faults: list[str] = []
    for name, source in sources:
        seen: set[str] = set()
        before = len(items) + len(faults)
        for row in read_rows(source, columns):
            found = make(row, name) if isinstance(row, Row) else f"{row.place}: {row.reason}"
            if not isinstance(found, str) and found.id in seen:
                found = f"{row.place}: id: {found.id!r} was there before; ids are unique within a subset"
            if isinstance(found, str):
                faults.append(found)
            else:
                seen.add(found.id)
                items.append(found)
        if len(items) + len(faults) == before:
            faults.append(f"{source.path}: no rows; the subset {name} would have no score")
    if faults:
        more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
        raise ItemsError("\n".join(["these rows are no items; mend or remove them:", *faults[:_NAMED], *more]))
    if limit is not None:
        items = _spread(items, limit)
    paths = [source.path for _, source in sources if Path(source.path).is_file()]
    return Items(tuple(items), {path: file_hash(Path(path)) for path in paths})


def item_of(row: Row, subset: str) -> Item | str:
    """The item of a row, or what is wrong with it."""
    values, place = row.values, row.place
    if missing := [name for name in _COLUMNS[:4] if values.get(name) is None]:
        return f"{place}: {', '.join(missing)}: missing; an item has {', '.join(_COLUMNS[:4])}"
    name, problem, steps, label, correct = (values.get(column) for column in _COLUMNS)
    if not is_id(name):
        return f"{place}: id: a text or a whole number, not {name!r:.40}"
    if not isinstance(problem, str) or not problem.strip():
        return f"{place}: problem: a text that is not empty, not {problem!r:.40}"
    if not isinstance(steps, list | tuple) or not steps or not all(isinstance(step, str) for step in steps):
        return f"{place}: steps: a list of at least one text, not {steps!r:.40}"
    if isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < len(steps):
        last = len(steps) - 1
        return f"{place}: label: {label!r:.40}; it is a whole number from -1 (no error) to {last}, the last step"
    if not isinstance(correct, bool | None):
        return f"{place}: final_answer_correct: true, false or absent, not {correct!r:.40}"
    if not is_writable(str(name), problem, *steps):
        return f"{place}: broken UTF-8 (half of a surrogate pair), which no request can carry"
    return Item(str(name), problem, tuple(steps), label, subset, correct)


def _spread(items: Sequence[AnyItem], limit: int) -> list[AnyItem]:
    """The `limit` items of each subset whose ids have the lowest hashes, in their order."""
    ranked: dict[str, list[str]] = {}
    for item in items:
        ranked.setdefault(item.subset, []).append(digest([item.id]))
    kept = {name: set(sorted(ranks)[:limit]) for name, ranks in ranked.items()}
    return [item for item in items if digest([item.id]) in kept[item.subset]]


def _sources(settings: ItemSettings) -> Iterator[tuple[str, SourceSettings]]:
    """Name and place of every subset."""
    path = Path(settings.path)
    if path.is_file():
        if settings.subsets not in ((), (path.stem,)):
            raise SourceError(f"{path}: one file is one subset, {path.stem}; leave data.subsets out or name the folder")
        yield path.stem, SourceSettings(path=str(path))
    elif path.is_dir():
        files = {file.stem: file for file in sorted(path.iterdir()) if file.suffix in FORMATS}
        for name in settings.subsets or _in_order(files):
            if name not in files:
                there = ", ".join(files) or f"no file that ends in {', '.join(FORMATS)}"
                raise SourceError(f"{path}: there is no subset {name}; there is: {there}")
            yield name, SourceSettings(path=str(files[name]))
        if not files:
            raise SourceError(f"{path}: no file that ends in {', '.join(FORMATS)}")
    else:
        for name in settings.subsets or SUBSETS:
            yield name, SourceSettings(path=settings.path, split=name)


def _in_order(names: Mapping[str, Any]) -> Sequence[str]:
    known = [name for name in SUBSETS if name in names]
    return [*known, *(name for name in names if name not in known)]
