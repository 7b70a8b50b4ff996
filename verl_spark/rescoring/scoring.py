"""Rewards and advantages of a training step's stored rollouts, by the code of the reward loop and the trainer hook."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verl_spark.rescoring.dumps import Rollout
from verl_spark.rewards.credit import PROCESS, MarkedStep, Rollouts
from verl_spark.rewards.designs import Basis
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rewards.spans import TokenSpan
from verl_spark.rl.row import CAUSE_KEYS, GATE_KEYS, STATE_KEYS, Info, Row, is_missing, marks_of, row_of, steps_of
from verl_spark.rl.scoring import Ask, NotGiven, Scorer
from verl_spark.rl.votes import Votes
from verl_spark.runs.problems import BadRowError
from verl_spark.settings import NODE, SparkSettings
from verl_spark.verification.kinds import Kind
from verl_spark.verification.steps import Span
from verl_spark.verifier.judge import Answer, Question

NOT_VERIFIED = "not_verified"
"""Why a reward is missing when the design asks about a rollout and nobody has."""

_WHY = {key: name.value for names in (STATE_KEYS, GATE_KEYS, CAUSE_KEYS) for name, key in names.items()}


class NotVerified(Exception):
    """There is no verification of this rollout."""


@dataclass(frozen=True)
class Scored:
    """What a design makes of a rollout."""

    rollout: Rollout
    state: str
    """`scored`, `gated` or `missing`, as in the metrics of training."""
    why: tuple[str, ...]
    """What the gate found, why the reward is missing, or what became of the steps, in the words of the metrics."""
    reward: float | None
    """None: missing."""
    verdict: bool | None
    marks: tuple[int, ...] | None
    """All marks of the verification that the design looked at."""
    steps: tuple[MarkedStep, ...] | None
    """The steps that may count in the advantage; None for a design that reads none."""
    advantages: tuple[tuple[int, int, float], ...]
    """Runs of tokens with one advantage, `(start, end, advantage)`, from the first token to the last that the policy
    wrote."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "state": self.state,
            "why": self.why,
            "reward": self.reward,
            "verdict": self.verdict,
            "marks": self.marks,
            "steps": self.steps and [[step.start, step.end, int(step.correct)] for step in self.steps],
            "advantages": self.advantages,
        }


def rescorer(settings: SparkSettings, checker: AnswerChecker) -> Scorer:
    """What scores stored rollouts under `settings`, as many as there are; each comes with who answers about it.

    `checker` is the answer check of `rlvr` and `majority`; whoever starts it ends it."""
    return Scorer(settings, _nobody, checker=checker)


async def _nobody(question: Question) -> Answer:
    raise NotVerified


def stored(rollout: Rollout) -> Ask:
    """Answers with the verification in the dump."""

    async def ask(question: Question) -> Answer:
        if rollout.verification is None:
            raise NotVerified
        return Answer(rollout.verification)

    return ask


async def rescore(
    rollouts: Sequence[Rollout],
    scorer: Scorer,
    by_deviation: bool = True,
    ask_of: Callable[[Rollout], Ask] | None = None,
) -> list[Scored]:
    """The rollouts of one training step, whole groups, by a `rescorer`. Where the design credits no steps, the
    advantages are those of `grpo`; `by_deviation` is verl's `algorithm.norm_adv_by_std_in_grpo`.

    `ask_of` gives the judge of a rollout; without one its stored verification counts. Raises `BadRowError`, with the
    rollout's place and the cure, for a dump that lacks what the design needs."""
    settings = scorer.settings
    if ask_of is None:
        for rollout in rollouts:
            _check_kind(rollout, settings)
    infos = [await _info(rollout, scorer, (ask_of or stored)(rollout)) for rollout in rollouts]
    if settings.basis is Basis.GROUP:  # a design that asks nobody: every rollout has its row
        waiting = [info for info in infos if info is not None]
        infos = [*Votes(scorer.checker).counted([rollout.uid for rollout in rollouts], waiting)]
    rows = [None if info is None else row_of(info) for info in infos]
    rewards = [None if row is None or is_missing(row) else row["spark_reward"] for row in rows]
    steps = [None if info is None else steps_of(info) for info in infos]
    credit = settings.credit if settings.credit.reads_steps else PROCESS  # as grpo, which training leaves to verl
    mask = _mask(rollouts, steps)
    found = credit.advantages(Rollouts([r.group for r in rollouts], rewards, mask, steps), by_deviation).advantages
    return [
        Scored(
            rollout,
            *_state(row),
            reward=reward,
            verdict=None if row is None or np.isnan(row["spark_verdict"]) else bool(row["spark_verdict"]),
            marks=None if info is None else marks_of(info),
            steps=marked,
            advantages=_runs(values[: rollout.written[-1].end if rollout.written else 0]),
        )
        for rollout, info, row, reward, marked, values in zip(rollouts, infos, rows, rewards, steps, found, strict=True)
    ]


async def wanted(rollout: Rollout, scorers: Iterable[Scorer]) -> list[Question]:
    """The questions that these scorers ask about a rollout, each once."""
    questions: dict[bytes, Question] = {}

    async def note(question: Question) -> Answer:
        questions[question.key()] = question
        raise NotVerified

    for scorer in scorers:
        if scorer.settings.asks_verifier:
            await _info(rollout, scorer, note)
    return list(questions.values())


async def _info(rollout: Rollout, scorer: Scorer, ask: Ask) -> Info | None:
    """The rollout's row as training makes it; None without a verification."""
    settings = scorer.settings

    def locate(steps: Sequence[Span]) -> Sequence[TokenSpan]:
        if rollout.policy_format != settings.policy_format:
            raise BadRowError(
                f"{rollout.place}: its steps were found with {NODE}.policy_format={rollout.policy_format}, and "
                f"design={settings.design} needs those of policy_format={settings.policy_format}; set the former"
            )
        if rollout.spans is None or len(rollout.spans) != len(steps):
            raise BadRowError(
                f"{rollout.place}: the dump does not say which tokens its {len(steps)} steps have; "
                f"design={settings.design} needs it: dump with reward_model=spark_…, or choose one without step credit"
            )
        return rollout.spans

    try:
        return await scorer.train(rollout.response, rollout.problem, locate, rollout.facts, ask)
    except NotVerified:
        return None
    except NotGiven as error:
        raise BadRowError(
            f"{rollout.place}: {error}, and its run had none. Leave the design out, or dump a run on data with "
            "reward_model.ground_truth (rlvr) and extra_info.index (random)"
        ) from None


def _check_kind(rollout: Rollout, settings: SparkSettings) -> None:
    kinds = settings.reward_design.kinds
    if kinds and rollout.verification is not None and rollout.kind not in kinds:
        needed = ", ".join(kind.value for kind in Kind if kind in kinds)
        raise BadRowError(
            f"{rollout.place}: its verification was written by kind={rollout.kind and rollout.kind.value}, and "
            f"design={settings.design} needs one of: {needed}. Choose a design for that kind, or ask such a verifier "
            "with --ask engine.model=…"
        )


def _state(row: Row | None) -> tuple[str, tuple[str, ...]]:
    if row is None:
        return "missing", (NOT_VERIFIED,)
    state = next(state for state in ("scored", "gated", "missing") if row[f"spark_{state}"])
    return state, tuple(name for key, name in _WHY.items() if row[key])


def _mask(rollouts: Sequence[Rollout], steps: Sequence[Sequence[MarkedStep] | None]) -> NDArray[np.bool_]:
    ends = [span.end for rollout in rollouts for span in rollout.written[-1:]]
    ends += [step.end for some in steps for step in some or ()]
    mask = np.zeros((len(rollouts), max(ends, default=0)), dtype=bool)
    for row, rollout in zip(mask, rollouts, strict=True):
        for start, end in rollout.written:
            row[start:end] = True
    return mask


def _runs(values: NDArray[np.float64]) -> tuple[tuple[int, int, float], ...]:
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)] if len(values) else []
    return tuple((start, end, float(values[start])) for start, end in pairwise(edges))
