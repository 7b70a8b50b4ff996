"""The unit of a plan: calls of one kind to one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from verl_spark.settings import SettingsError

GIVEN, LIMITS = "given", "at most, the longest replies"
"""Where the length of replies comes from, where it is not an earlier run."""

Training = Literal["sft", "rl"]
"""Of a reward model, and of a policy by RL, which is log-probabilities, reference and update: another pace."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Work:
    """Calls of one kind, all of one model."""

    name: str
    """Stage of a data run, or part of a training step."""
    role: str
    """Who does it; a rate is given for a role."""
    model: str
    calls: int
    """Replies, at most."""
    prompt_tokens: int
    """A prompt is counted as often as it is sent: once for all replies that one request asks for."""
    reply_tokens: int
    source: str
    """Where the length of a reply comes from."""
    training: Training | None = None
    """The training that it is; None for replies of an engine."""


def numbers(option: str, given: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The values of a repeatable option NAME=NUMBER, each above 0, where NAME is one of `names`.

    Raises `SettingsError` with a line for each that is none."""
    found: dict[str, float] = {}
    faults = []
    for one in given:
        name, _, text = one.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if name not in names:
            faults.append(f"{option} {one}: there is no {name!r} here; there are: {', '.join(names)}")
        elif not 0 < value < float("inf"):
            faults.append(f"{option} {one}: give a number above 0, as in {option} {name}=100")
        found[name] = value
    if faults:
        raise SettingsError(faults)
    return found


def chosen(name: str, *sources: tuple[str, Mapping[str, _Value]]) -> tuple[str, _Value]:
    """The first source, with its label, that knows `name`; the last one must."""
    for label, values in sources:
        if name in values:
            return label, values[name]
    raise KeyError(name)
