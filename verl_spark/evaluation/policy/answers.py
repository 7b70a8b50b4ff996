"""The answer of a reply, and whether it equals the reference: math-verify decides, in processes that a deadline kills.

Only the last box counts: of a text with several, math-verify makes one set, and of a text without any it takes some
number. Both sides are brought into a spelling that math-verify reads."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from verl_spark.rewards.majority import normalised
from verl_spark.rewards.rule import AnswerChecker

_SPELLINGS = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"(?<!\\)\$", ""),  # mathematics signs: several answers may stand in several pairs
        (r"\bnp\.(?=[a-z])", r"\\"),  # a function of numpy
        (r"(?<=\d)\.(?!\d)", ""),  # 3./2, and a full stop behind a number
        (r"^([-+]?[\d.]+)[eE]([-+]?\d+)(?=\s|$)", r"\1 \\times 10^{\2}"),  # or it is read as Euler's number
        (r"(?<=[\d}])\s*\\?%$", ""),
        (r"(?<=\d)\s*\^(?:\{\\circ\}|\\circ)\s*(?:[CF]|\\(?:text|mathrm)\{ ?[CF]\})$", ""),
        (r"(?<=\})\s*([A-Za-z])$", r" {\1}"),  # a variable behind a fraction, or it is taken for a unit
        # Symbols that math-verify does not read, or reads as another thing:
        (r"_(?:\{\\(max|min|odot)\s*\}|\\(max|min|odot)(?![A-Za-z]))", r"_{\1\2}"),
        (r"(?<![A-Za-z\\])E_(?:\{(\w+)\}|(\w))", r"U_{E\1\2}"),
        (r"\\gamma(?![A-Za-z_])", r"g_{gamma}"),
        (r"(?<=[A-Za-z)])''", r"^{\\prime \\prime}"),
        (r"(?<=[A-Za-z)])'", r"^{\\prime}"),
    )
)


class Verdict(NamedTuple):
    """What a reply's answer is worth."""

    answer: str | None
    """Content of the last box; None without one."""
    correct: bool | None
    """None: the check came to no result."""


def readable(answer: str) -> str:
    """An answer in the spelling that math-verify reads; its value is the same, a percentage's number counts alone."""
    text = answer.strip()
    for pattern, written in _SPELLINGS:
        text = pattern.sub(written, text).strip()
    return text


class Marker:
    """Verdicts on pairs of answer and reference, each pair checked once, in several processes at a time."""

    def __init__(self, pairs: Iterable[tuple[str | None, str]], processes: int = 1) -> None:
        """Checks all pairs; an answer that is None needs no check."""
        checker = AnswerChecker(processes)
        asked = {(readable(answer), readable(reference)) for answer, reference in pairs if answer is not None}
        differing = [(answer, reference) for answer, reference in sorted(asked) if not _same(answer, reference)]
        try:
            found = checker.compare_all(differing)
        finally:
            checker.close()
        self._known: dict[tuple[str, str], bool | None] = dict.fromkeys(asked, True)
        self._known.update(zip(differing, found, strict=True))

    def verdict(self, answer: str | None, reference: str) -> Verdict:
        """The verdict on a pair that was given."""
        return Verdict(answer, answer is not None and self._known[readable(answer), readable(reference)])


def _same(answer: str, reference: str) -> bool:
    """Whether the texts are the same but for blanks and other looks."""
    return normalised(answer) == normalised(reference)
