"""Which prompts are also items of a benchmark: the same text, or long runs of the same words.

A text counts as its words: letters and digits, in any letter case, without LaTeX commands and punctuation, which differ
between copies of one problem. Exact: the same letters and digits in the same order. n-gram: of the runs of `n` words of
the shorter of two texts, at least the share `threshold` stands in the other one. 13 words are the usual length, and a
share is asked for because a common phrase ("where m and n are relatively prime positive integers, find m + n") is no
leak; with threshold 0 one common run is enough. A text of fewer than `n` words has no run and is found by the exact
comparison only. All this rather reports too much: a sign that was changed is not seen."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from verl_spark.runs.problems import Problem, ProblemSettings, read_problems
from verl_spark.runs.rows import BadRow

N = 13
THRESHOLD = 0.5

_WORD = re.compile(r"[^\W_]+")
_COMMAND = re.compile(r"\\[a-zA-Z]+")


@dataclass(frozen=True)
class Match:
    """A prompt and a benchmark item that overlap."""

    prompt_id: str
    item_id: str
    exact: bool
    share: float
    """Of the runs of words of the shorter text; 0 where a text is too short to have one."""


@dataclass(frozen=True)
class Leakage:
    """What a set of prompts has in common with one benchmark."""

    benchmark: str
    items: int
    prompts: int
    matches: tuple[Match, ...]

    def prompt_ids(self, exact: bool = False) -> tuple[str, ...]:
        """Prompts that overlap, or that do so exactly; in order, each once."""
        return tuple(dict.fromkeys(match.prompt_id for match in self.matches if match.exact or not exact))

    def item_ids(self, exact: bool = False) -> tuple[str, ...]:
        """Items that overlap, or that do so exactly; in order, each once."""
        return tuple(dict.fromkeys(match.item_id for match in self.matches if match.exact or not exact))


class Benchmark:
    """The items of a benchmark, indexed once for all prompts."""

    def __init__(self, name: str, items: Iterable[Problem], n: int = N) -> None:
        self.name = name
        self._n = n
        self._ids: list[str] = []
        self._sizes: list[int] = []  # runs of words per item
        self._texts: dict[str, list[int]] = defaultdict(list)
        self._runs: dict[int, list[int]] = defaultdict(list)
        for index, item in enumerate(items):
            words = _words(item.text)
            runs = _runs(words, n)
            self._ids.append(item.id)
            self._sizes.append(len(runs))
            self._texts["".join(words)].append(index)
            for run in runs:
                self._runs[run].append(index)

    @classmethod
    def load(cls, name: str, path: Path, text_field: str = "problem", id_field: str = "id", n: int = N) -> "Benchmark":
        """The benchmark in a JSONL, JSON or parquet file. Raises `ValueError` when no row has a text in `text_field`.

        Rows that cannot be used, such as one with an id that was there before, are passed over."""
        settings = ProblemSettings(path=str(path), text_field=text_field, id_field=id_field)
        benchmark = cls(name, (item for item in read_problems(settings) if not isinstance(item, BadRow)), n)
        if not len(benchmark):
            raise ValueError(f"{path}: no row with a text in the field {text_field!r}; name the field that holds it")
        return benchmark

    def __len__(self) -> int:
        return len(self._ids)

    def matches(self, prompt: Problem, threshold: float = THRESHOLD) -> list[Match]:
        """The items that overlap with a prompt, in the order of the benchmark."""
        words = _words(prompt.text)
        runs = _runs(words, self._n)
        exact = set(self._texts.get("".join(words), ()) if words else ())
        shared = Counter(index for run in runs for index in self._runs.get(run, ()))
        shares = {index: count / min(len(runs), self._sizes[index]) for index, count in shared.items()}
        found = exact | {index for index, share in shares.items() if share >= threshold}
        return [Match(prompt.id, self._ids[i], i in exact, shares.get(i, 0.0)) for i in sorted(found)]


def find_leakage(
    prompts: Iterable[Problem], benchmarks: Sequence[Benchmark], threshold: float = THRESHOLD
) -> list[Leakage]:
    """What the prompts have in common with each benchmark, in one pass over the prompts."""
    matches: list[list[Match]] = [[] for _ in benchmarks]
    count = 0
    for prompt in prompts:
        count += 1
        for benchmark, found in zip(benchmarks, matches, strict=True):
            found += benchmark.matches(prompt, threshold)
    return [
        Leakage(benchmark.name, len(benchmark), count, tuple(found))
        for benchmark, found in zip(benchmarks, matches, strict=True)
    ]


def _words(text: str) -> list[str]:
    return _WORD.findall(_COMMAND.sub(" ", unicodedata.normalize("NFKC", text)).casefold())


def _runs(words: Sequence[str], n: int) -> set[int]:
    """Hashes of all runs of n words; equal within a process, which is as long as they are kept."""
    return {hash(tuple(words[start : start + n])) for start in range(len(words) - n + 1)}
