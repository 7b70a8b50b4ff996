"""Rewards by the vote of a prompt's rollouts, when all of them are there.

A reward call sees one rollout, and one that waited for the others could wait for ever; so each carries its answer to
the trainer hook, and the votes are counted there."""

import os
from collections import defaultdict
from collections.abc import Sequence

from verl_spark.rewards.designs import State, ruled
from verl_spark.rewards.majority import Vote, normalised, vote
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rl.rollout_key import RolloutKey
from verl_spark.rl.row import ANSWER_KEY, Info, Row, row_of, voted_row

PROCESSES = 8
"""Answer checks at once, at most: the policy waits for them."""


class Votes:
    """Counts votes; `checker` compares answers with the winners, None starts one."""

    def __init__(self, checker: AnswerChecker | None = None) -> None:
        self._checker = checker or AnswerChecker(min(PROCESSES, os.cpu_count() or 1))

    def close(self) -> None:
        """Ends the checker's processes."""
        self._checker.close()

    def counted(self, keys: Sequence[RolloutKey], infos: Sequence[Info]) -> list[Info]:
        """The infos with the rewards that their groups' votes give, in the same order.

        Outputs of one rollout share its answer and have one vote. Rollouts that the gate refused keep their reward and
        have no vote; the others of a group without a winner have a missing one.
        """
        ballots: dict[str, dict[int, str | None]] = defaultdict(dict)
        for key, info in zip(keys, infos, strict=True):
            ballots[key.prompt][key.session] = str(info[ANSWER_KEY]) or None
        votes = {group: vote(answers.values()) for group, answers in ballots.items()}
        asked = {
            (answer, label)
            for group, answers in ballots.items()
            for answer in answers.values()
            if answer is not None and (label := votes[group].label) is not None and not _same(answer, label)
        }
        pairs = sorted(asked)
        equal = dict(zip(pairs, self._checker.compare_all(pairs), strict=True))
        return [
            {**info, **_rewarded(row_of(info), str(info[ANSWER_KEY]), votes[key.prompt], equal)}
            for key, info in zip(keys, infos, strict=True)
        ]


def _rewarded(row: Row, answer: str, result: Vote, equal: dict[tuple[str, str], bool | None]) -> Row:
    if row["spark_gated"]:
        return voted_row(row, None, result.share)
    if result.label is None:
        scored = ruled(None, State.NO_LABEL)
    elif not answer:
        scored = ruled(False, State.OK)
    elif _same(answer, result.label):
        scored = ruled(True, State.OK)
    else:
        scored = ruled(equal[answer, result.label], State.UNCHECKED)
    return voted_row(row, scored, result.share)


def _same(answer: str, label: str) -> bool:
    return normalised(answer) == normalised(label)
