"""The row of numbers that every rollout carries: fixed keys, all floats, the same on every path.

verl takes the names of its extra reward fields from the first sample and looks them up in all of them, so a key
that is missing once loses a column or ends the step. NaN means "not known here" and never a zero; whoever
averages leaves it out. What a metric derived from these means is said in `verl_spark.rl.metrics`.

Beside the numbers go a few texts (`TEXT_KEYS`): the marked steps, for designs that credit tokens by them, the answer,
for a vote of the group, and for the dump what the verifier wrote and marked and where the steps are. `Info` is a row
with its texts, as verl carries it to the trainer."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from verl_spark.rewards.credit import MarkedStep
from verl_spark.rewards.designs import Parts, Scored, State
from verl_spark.rewards.spans import TokenSpan
from verl_spark.verification.gate import Gate, GateReason
from verl_spark.verification.signs import Signs
from verl_spark.verifier.outcome import Cause, Judged, Outcome

NAN = math.nan

GATE_KEYS = {reason: f"spark_gate_{reason.value}" for reason in GateReason if reason is not GateReason.OK}
CAUSE_KEYS = {cause: f"spark_{cause.value}" for cause in Cause}
SIGN_KEYS = {field.name: f"spark_{field.name}" for field in fields(Signs)}
STATE_KEYS = {
    state: f"spark_{state.value}" for state in (State.STEP_MISMATCH, State.STEP_LIMIT, State.UNCHECKED, State.NO_LABEL)
}
PART_KEYS = {part: f"spark_part_{part}" for part in Parts._fields}

KEYS: tuple[str, ...] = (
    "acc",  # rule-based checker; validation only
    "spark_reward",  # the reward; 0 where it is missing, and then `spark_missing` is 1
    "spark_validation",
    "spark_probe",  # a validation row on which the training reward was asked for as well
    "spark_scored",  # has a reward from a verdict (known ones included) or from a design that asks nobody
    "spark_missing",  # has no reward: outside the group's statistics, advantage zero
    "spark_gated",  # refused before the call: reward zero
    *GATE_KEYS.values(),  # what the gate found, also when it is switched off
    *CAUSE_KEYS.values(),  # why a verdict is missing
    *STATE_KEYS.values(),
    *PART_KEYS.values(),  # what the reward consists of, beside the next
    "spark_overlong",  # penalty for a long response, 0 or less
    "spark_vote_share",  # of the group's rollouts, those that voted for the most frequent answer
    "spark_called",  # a call was made for this rollout
    "spark_cached",  # a call was saved: the same question was known or under way
    "spark_verdict",
    "spark_steps",  # the policy's own step count
    "spark_steps_correct",  # share of steps marked correct
    "spark_steps_marked",  # how many steps the verifier marked
    "spark_inconsistent",  # verdict and marks contradict each other
    "spark_neutralised",  # contract markers found in the solution
    *SIGN_KEYS.values(),  # what the text of the response alone says
    "spark_control_strings",  # strings in the response that look like control tokens of a chat template
    "spark_prompt_tokens",
    "spark_completion_tokens",
    "spark_verifier_seconds",
    "spark_attempts",
)
_MEASURED = {
    *("acc", "spark_verdict", "spark_steps", "spark_steps_correct", "spark_steps_marked", "spark_inconsistent"),
    "spark_vote_share",
    *PART_KEYS.values(),
    *SIGN_KEYS.values(),
}

STEPS_KEY = "spark_step_marks"
"""The marked steps as JSON, `[[start, end, mark], ...]`, in tokens of the response; empty without step information. A
text, since verl makes one array of each field over all rollouts, and lists of unequal length make none."""

MARKS_KEY = "spark_marks"
"""All marks of a readable verification, whatever the design makes of them, as JSON `[mark, ...]`; else empty."""
SPANS_KEY = "spark_step_spans"
"""The tokens of the solution's steps as JSON, `[[start, end], ...]`; empty where nobody looked for them."""
ANSWER_KEY = "spark_answer"
"""The answer that a rollout votes for; empty if it states none or nobody votes."""
VERIFICATION_KEY = "spark_verification"
"""What the verifier replied about this rollout; empty if it was not asked, and where no dump wants it. Whoever got a
known verdict has none: the text is with the rollout of the same problem and response that was asked about."""

TEXT_KEYS = (STEPS_KEY, MARKS_KEY, SPANS_KEY, ANSWER_KEY, VERIFICATION_KEY)

TRAINING_KEYS = frozenset((*KEYS, *TEXT_KEYS)) - {"acc", *GATE_KEYS.values()}
"""Fields that say something of training rollouts only."""

Row = dict[str, float]
Info = dict[str, float | str]
"""A row and, under `TEXT_KEYS`, its texts: verl's `reward_extra_info` of a rollout."""


def info_of(
    row: Row,
    steps: Sequence[MarkedStep] | None = None,
    marks: Sequence[int] | None = None,
    spans: Sequence[TokenSpan] | None = None,
    answer: str | None = None,
    verification: str = "",
) -> Info:
    """The row with these marked steps, marks, spans, answer and reply; None is "not known"."""
    plain = None if steps is None else [[step.start, step.end, int(step.correct)] for step in steps]
    lists = {STEPS_KEY: _text(plain), MARKS_KEY: _text(marks), SPANS_KEY: _text(spans)}
    return {**row, **lists, ANSWER_KEY: answer or "", VERIFICATION_KEY: verification}


def row_of(info: Info) -> Row:
    """The numbers of an `Info`."""
    return {key: float(value) for key, value in info.items() if key not in TEXT_KEYS}


def known(row: Row) -> dict[str, float | None]:
    """The row for JSON, which has no NaN: null is "not known"."""
    return {key: None if math.isnan(row[key]) else row[key] for key in KEYS}


def steps_of(info: Info) -> tuple[MarkedStep, ...] | None:
    """The marked steps of an `Info`; None without step information."""
    listed = _listed(info, STEPS_KEY)
    return None if listed is None else tuple(MarkedStep(start, end, bool(mark)) for start, end, mark in listed)


def marks_of(info: Info) -> tuple[int, ...] | None:
    """The verifier's marks in an `Info`; None without any."""
    listed = _listed(info, MARKS_KEY)
    return None if listed is None else tuple(listed)


def spans_of(info: Info) -> tuple[TokenSpan, ...] | None:
    """The tokens of the steps in an `Info`; None where nobody looked, or without step structure."""
    listed = _listed(info, SPANS_KEY)
    return None if listed is None else tuple(TokenSpan(*span) for span in listed)


def _text(listed: Sequence[Any] | None) -> str:
    return "" if listed is None else json.dumps(listed)


def _listed(info: Info, key: str) -> list[Any] | None:
    text = str(info.get(key, ""))
    return list(json.loads(text)) if text else None


def empty_row() -> Row:
    """A row in which nothing has happened: counts are 0, measurements NaN."""
    return {key: NAN if key in _MEASURED else 0.0 for key in KEYS}


def validation_row(correct: bool, gate: Gate) -> Row:
    """The row of a validation response, judged by the rule-based checker alone."""
    row = empty_row()
    row["acc"] = row["spark_reward"] = float(correct)
    row["spark_validation"] = 1.0
    _note_gate(row, gate)
    return row


def probe_row(row: Row, correct: bool) -> Row:
    """The row of a probe response: `row`, as training would have it, and the rule-based checker's word."""
    return {**row, "acc": float(correct), "spark_validation": 1.0, "spark_probe": 1.0}


def reported_score(row: Mapping[str, float | str]) -> float:
    """The number that verl takes for a row's reward: in validation the checker's, whatever training would give."""
    return float(row["acc"] if row["spark_validation"] else row["spark_reward"])


def training_row(
    gate: Gate,
    scored: Scored,
    n_steps: int | None,
    neutralised: int,
    outcome: Outcome | None,
    cached: bool,
    signs: Signs,
    control_strings: int,
    overlong: float,
) -> Row:
    """The row of a training rollout; exactly one of scored, missing and gated is 1.

    `outcome` is None when no verifier was asked, which is either a refusal or a design that needs none. `overlong`,
    0 or less, is added to a reward that is there.
    """
    row = empty_row()
    _note_gate(row, gate)
    for name, key in SIGN_KEYS.items():
        value = getattr(signs, name)
        row[key] = NAN if value is None else float(value)
    row["spark_control_strings"] = float(control_strings)
    row["spark_neutralised"] = float(neutralised)
    row["spark_overlong"] = overlong
    if n_steps is not None:
        row["spark_steps"] = float(n_steps)
    _note_score(row, scored, refused=outcome is None and scored.state in (State.FORMAT_INVALID, State.STEP_LIMIT))
    if outcome is not None:
        _note_outcome(row, outcome, cached)
    return row


def voted_row(row: Row, scored: Scored | None, share: float | None) -> Row:
    """The row of a rollout after the vote of its group: now with its score, if it waited for one (else None)."""
    row = {**row, "spark_vote_share": NAN if share is None else share}
    if scored is not None:
        row["spark_missing"] = 0.0
        _note_score(row, scored, refused=False)
    return row


def _note_score(row: Row, scored: Scored, refused: bool) -> None:
    for state, key in STATE_KEYS.items():
        row[key] = float(scored.state is state)
    if scored.reward is None:
        row["spark_missing"] = 1.0
        return
    row["spark_reward"] = scored.reward + row["spark_overlong"]
    row["spark_gated" if refused else "spark_scored"] = 1.0
    parts = scored.parts or Parts(outcome=scored.reward)
    row.update((PART_KEYS[part], value) for part, value in parts._asdict().items())


def _note_gate(row: Row, gate: Gate) -> None:
    if gate.reason is not GateReason.OK:
        row[GATE_KEYS[gate.reason]] = 1.0


def _note_outcome(row: Row, outcome: Outcome, cached: bool) -> None:
    row["spark_cached"] = float(cached)
    row["spark_called"] = float(not cached and not _never_sent(outcome))
    row["spark_prompt_tokens"] = float(outcome.cost.prompt_tokens)
    row["spark_completion_tokens"] = float(outcome.cost.completion_tokens)
    row["spark_verifier_seconds"] = outcome.cost.seconds
    row["spark_attempts"] = float(outcome.cost.attempts)
    if isinstance(outcome, Judged):
        reading = outcome.reading
        row["spark_verdict"] = float(bool(reading.outcome))
        if reading.consistent is not None:
            row["spark_inconsistent"] = float(not reading.consistent)
        if reading.steps:
            row["spark_steps_marked"] = float(len(reading.steps))
            row["spark_steps_correct"] = sum(reading.steps) / len(reading.steps)
    else:
        row[CAUSE_KEYS[outcome.cause]] = 1.0


def _never_sent(outcome: Outcome) -> bool:
    return not isinstance(outcome, Judged) and outcome.cause is Cause.TOO_LONG


def is_missing(row: Mapping[str, float]) -> bool:
    """Whether the rollout has no reward; one written by another reward function always has one."""
    return row.get("spark_missing", 0.0) == 1.0
