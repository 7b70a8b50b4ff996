"""What several verifications of one solution say together, and which of them may stand for it. SPARK, Stage I.

Only usable verifications vote and only they can be picked; nothing is ever written from the vote. Whatever is not
decided by more than half is no label and is dropped with its reason: a coin flip would be noise, and a near miss
would argue for a label that the vote rejects."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from verl_spark.verification.reading import Reading


class Drop(str, Enum):
    """Why a vote gives no target."""

    QUORUM = "quorum"
    """No more than half of the requested verifications are usable."""
    STEP_COUNT_TIE = "step_count_tie"
    """The solution's own step count is not known and the verifications do not agree on one."""
    TIE = "tie"
    """The verdict, or some step, has as many votes for as against."""
    NO_MATCH = "no_match"
    """No usable verification states the step vector that was voted."""


@dataclass(frozen=True)
class OutcomeVote:
    """Outcome-level consistency: y* and the verifications that state it."""

    verdict: bool | None
    picks: tuple[int, ...]
    drop: Drop | None


@dataclass(frozen=True)
class StepVote:
    """Step-level consistency: c* and the verifications that state all of it."""

    marks: tuple[int, ...] | None
    votes: tuple[tuple[int, int], ...] | None
    """Per step the votes for mark 0 and for mark 1, so that `votes[i][mark]` counts them; None without a quorum."""
    picks: tuple[int, ...]
    drop: Drop | None


@dataclass(frozen=True)
class Consensus:
    """Both votes on one solution. Picks and usable verifications are indices of the ballots, in order."""

    n_steps: int | None
    """Step count that a usable verification must have; None if it is not known and not agreed."""
    usable: tuple[int, ...]
    yes_votes: int
    no_votes: int
    outcome: OutcomeVote
    step: StepVote

    @property
    def levels_agree(self) -> bool | None:
        """Whether y* is Yes exactly when every step of c* is correct; None if either was not decided."""
        if self.step.marks is None or self.outcome.verdict is None:
            return None
        return self.outcome.verdict == all(self.step.marks)


def vote(ballots: Sequence[Reading], n_steps: int | None) -> Consensus:
    """Both votes on the ballots of one solution with `n_steps` steps of its own, None if it has no step count.

    One ballot for each verification that was asked for: a call that failed is `reading.NOTHING` and still counts
    in N. Without a step count it is the unique most frequent one among the consistent ballots."""
    counts = Counter(len(ballot.steps) for ballot in ballots if ballot.consistent and ballot.steps is not None)
    agreed = n_steps
    if n_steps is None and counts:
        top = max(counts.values())
        agreed, *rivals = [count for count, ballots_with_it in counts.items() if ballots_with_it == top]
        if rivals:
            agreed = None
    usable = tuple(index for index, ballot in enumerate(ballots) if _is_usable(ballot, agreed))
    yes_votes = sum(ballots[index].outcome is True for index in usable)
    no_votes = len(usable) - yes_votes
    if n_steps is None and counts and agreed is None:
        drop = Drop.STEP_COUNT_TIE
    elif 2 * len(usable) <= len(ballots):
        drop = Drop.QUORUM
    else:
        outcome = _outcome_vote(ballots, usable, yes_votes, no_votes)
        return Consensus(agreed, usable, yes_votes, no_votes, outcome, _step_vote(ballots, usable))
    return Consensus(agreed, usable, yes_votes, no_votes, OutcomeVote(None, (), drop), StepVote(None, None, (), drop))


def pick(picks: Sequence[int], seed: int, problem_id: str, solution_id: str) -> int:
    """One of the acceptable picks, uniformly; the same for the same arguments, whatever was picked before."""
    return random.Random(json.dumps([seed, problem_id, solution_id])).choice(picks)


def _is_usable(ballot: Reading, n_steps: int | None) -> bool:
    return bool(ballot.consistent) and ballot.steps is not None and len(ballot.steps) == n_steps


def _outcome_vote(ballots: Sequence[Reading], usable: Sequence[int], yes_votes: int, no_votes: int) -> OutcomeVote:
    if yes_votes == no_votes:
        return OutcomeVote(None, (), Drop.TIE)
    verdict = yes_votes > no_votes
    return OutcomeVote(verdict, tuple(index for index in usable if ballots[index].outcome == verdict), None)


def _step_vote(ballots: Sequence[Reading], usable: Sequence[int]) -> StepVote:
    by_step = zip(*(ballots[index].steps or () for index in usable), strict=True)
    votes = tuple((marks.count(0), marks.count(1)) for marks in by_step)
    if any(against == in_favour for against, in_favour in votes):
        return StepVote(None, votes, (), Drop.TIE)
    marks = tuple(int(in_favour > against) for against, in_favour in votes)
    picks = tuple(index for index in usable if ballots[index].steps == marks)
    return StepVote(marks, votes, picks, None if picks else Drop.NO_MATCH)
