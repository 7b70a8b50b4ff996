"""What Stage I keeps of one solution under one method: a line of `records/<method>.jsonl`."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from verl_spark.verification.reading import Reading


@dataclass(frozen=True)
class Record:
    """One solution under one method, kept or dropped."""

    method: str
    problem_id: str
    problem: str
    solution_id: str
    solution: str
    """As generated."""
    n_steps: int | None
    drop: str | None
    """Reason why it is no example; None if it is one."""
    verdict: bool | None
    """Of the target; None if dropped, as `marks` and `text` are."""
    marks: tuple[int, ...] | None
    text: str | None
    """The target as written: the picked verification, or the merged one of the meta methods."""
    picked: int | None
    """Index of the picked verification, which a meta method went on from."""
    usable: tuple[int, ...]
    votes: tuple[tuple[int, int], ...] | None
    """For every step, usable verifications for 0 and for 1; None where nothing was counted."""
    yes_votes: int
    no_votes: int
    levels_agree: bool | None
    """Whether the verdict by vote is Yes exactly when all steps pass by vote; None if either has no majority."""
    ballots: tuple[Reading, ...]
    """What each of the verifications states, unusable ones included, in the order of their indices."""
    seed: int
    generator: str
    verifier: str
    prompts: dict[str, str]
    """Hash of every prompt that was used, by name."""
    prompt_tokens: int
    completion_tokens: int
    critic: str | None = None
    """Model of critique and merge, for a meta method."""
    calls: int = 0
    """Samples that this record rests on, the solution's own excluded; tokens and seconds are theirs."""
    engine_seconds: float = 0.0

    def to_json(self) -> str:
        """One line of JSON; `from_json` gives the record back."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["ballots"] = [[ballot.outcome, ballot.steps] for ballot in self.ballots]
        return json.dumps(fields)

    @classmethod
    def from_json(cls, line: str) -> "Record":
        """The record of a line that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        for name in ("marks", "usable"):
            fields[name] = None if fields[name] is None else tuple(fields[name])
        if fields["votes"] is not None:
            fields["votes"] = tuple((no, yes) for no, yes in fields["votes"])
        fields["ballots"] = tuple(
            Reading(outcome, None if steps is None else tuple(steps)) for outcome, steps in fields["ballots"]
        )
        return cls(**fields)
