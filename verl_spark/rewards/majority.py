"""The majority vote of a prompt's rollouts: its most frequent answer stands in for the reference. SPARK, baselines
(in the manner of TTRL).

Votes are counted by text, less what does not change its mathematics; whether another answer equals the winner is for
the rule-based checker to say. A tie is not a vote."""

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

# Spacing, sizes of brackets and of fractions, the mathematics sign, a full stop: never part of what an answer is.
_LOOKS = re.compile(r"\s+|\\[,;:! ]|\\(?:left|right)(?![a-zA-Z])|\$|\.$")
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")


class Vote(NamedTuple):
    """The result of a group's vote."""

    label: str | None
    """The winner, spelt as one of its voters did; None for a tie or without any answer."""
    share: float | None
    """Share of the group's rollouts, those without an answer included, that voted as most did; None without any."""


def normalised(answer: str) -> str:
    """The text by which an answer is counted."""
    return _FRACTION.sub(r"\\frac", _LOOKS.sub("", answer.strip()))


def vote(answers: Iterable[str | None]) -> Vote:
    """The vote of one prompt's rollouts, in whatever order; None is a rollout without an answer."""
    spellings: dict[str, list[str]] = defaultdict(list)
    voters = 0
    for answer in answers:
        voters += 1
        if answer is not None and (text := normalised(answer)):
            spellings[text].append(answer.strip())
    if not spellings:
        return Vote(None, None)
    most = max(map(len, spellings.values()))
    winners = [written for written in spellings.values() if len(written) == most]
    return Vote(min(winners[0]) if len(winners) == 1 else None, most / voters)
