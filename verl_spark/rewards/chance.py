"""The random baseline: a coin for each rollout, the same in every run of the same data. SPARK, baselines.

verl names prompts at random in each run, so the coin goes by what the data and the schedule say of a rollout."""

import hashlib
from typing import NamedTuple


class Place(NamedTuple):
    """Where a rollout stands in a run."""

    step: int
    """Training step for which its prompt was taken from the data."""
    row: str
    """`extra_info.index` of its prompt in the data set."""
    rollout: int
    """Which of the prompt's rollouts it is, from 0."""


def coin(seed: int, place: Place) -> bool:
    """True for half of all places."""
    text = f"{seed}/{place.step}/{place.rollout}/{place.row}"  # the row last: it is the user's text
    return bool(hashlib.sha256(text.encode()).digest()[0] & 1)
