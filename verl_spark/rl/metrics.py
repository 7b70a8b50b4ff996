"""What `reward.spark` reports to verl's tracker each training step: one table, read by the docs and a test.

verl logs extra reward fields in validation only, so the trainer hook adds these to the training metrics."""

from collections.abc import Sequence

import numpy as np

from verl_spark.rewards.credit import Credited, Rollouts
from verl_spark.rewards.designs import State
from verl_spark.rl.row import CAUSE_KEYS, GATE_KEYS, PART_KEYS, STATE_KEYS, Row
from verl_spark.verifier.outcome import Cause

METRICS: dict[str, str] = {
    "spark/rollouts": "training rollouts of the step, padding rows left out",
    "spark/scored": "rollouts with a reward, known verdicts included; scored + missing + gated = rollouts",
    "spark/missing": "rollouts without a reward: outside their group's statistics, advantage zero",
    "spark/gated": "rollouts refused before the call (format, step limit): reward zero",
    "spark/called": "calls made to the verifier",
    "spark/cached": "calls saved because the same question was known or under way",
    "spark/reward/mean": "mean reward of scored and gated rollouts; the sum of the next four",
    "spark/part/format/mean": "of it, for a valid format",
    "spark/part/process/mean": "of it, for correct steps",
    "spark/part/outcome/mean": "of it, for a verdict on the whole solution",
    "spark/overlong/mean": "of it, the penalty for long responses (0 or less)",
    "spark/verdict_yes": "share of Yes among read verdicts",
    "spark/steps/mean": "steps of a solution, as the policy wrote them",
    "spark/steps_correct/mean": "mean share of steps that the verifier marked correct",
    "spark/inconsistent": "share of read verifications whose verdict contradicts their marks",
    "spark/neutralised/mean": "contract markers found in a solution",
    "spark/verifier/prompt_tokens": "prompt tokens of the calls made",
    "spark/verifier/completion_tokens": "generated tokens of the calls made",
    "spark/verifier/seconds/mean": "seconds of a call, retries included",
    "spark/verifier/seconds/max": "seconds of the slowest call",
    "spark/verifier/attempts/mean": "attempts of a call",
    "spark/step_mismatch": "rollouts whose marks do not match the solution's steps, where the design needs them",
    "spark/step_limit": "rollouts outside the design's step limits",
    "spark/vote/share/mean": "share of a group's rollouts that gave its most frequent answer; only with `majority`",
    "spark/credit/rollouts": "rollouts whose marks count in advantages; only with a design that credits steps",
    "spark/credit/silenced": "share of the policy's tokens from which a mark took all of their advantage; likewise",
    **{f"spark/missing/{cause.value}": f"missing because: {cause.value.replace('_', ' ')}" for cause in Cause},
    "spark/missing/unchecked": "missing because: the answer check came to no result; only with `rlvr` and `majority`",
    "spark/missing/no_label": "missing because: a vote that was a tie or had no answer; only with `majority`",
    **{f"spark/gate/{reason.value}": f"gate finding: {reason.value.replace('_', ' ')}" for reason in GATE_KEYS},
}
"""Name to meaning. Counts are per step; means leave out what is not known (NaN in the rows)."""


def step_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """The metrics of one step from its training rows; every key of `METRICS` except means of nothing."""
    if not rows:
        return {"spark/rollouts": 0.0}
    columns = {key: np.array([row[key] for row in rows], dtype=float) for key in rows[0]}
    total = {key: float(np.nansum(values)) for key, values in columns.items()}
    called = columns["spark_called"] == 1
    rewarded = columns["spark_missing"] == 0
    metrics = {
        "spark/rollouts": float(len(rows)),
        **{f"spark/{key}": total[f"spark_{key}"] for key in ("scored", "missing", "gated", "called", "cached")},
        **{f"spark/{key}": total[f"spark_{key}"] for key in ("step_mismatch", "step_limit")},
        **{f"spark/missing/{cause.value}": total[key] for cause, key in CAUSE_KEYS.items()},
        **{f"spark/missing/{state.value}": total[STATE_KEYS[state]] for state in (State.UNCHECKED, State.NO_LABEL)},
        **{f"spark/gate/{reason.value}": total[key] for reason, key in GATE_KEYS.items()},
        "spark/verifier/prompt_tokens": total["spark_prompt_tokens"],
        "spark/verifier/completion_tokens": total["spark_completion_tokens"],
        "spark/reward/mean": _mean(columns["spark_reward"][rewarded]),
        **{f"spark/part/{part}/mean": _mean(columns[key][rewarded]) for part, key in PART_KEYS.items()},
        "spark/overlong/mean": _mean(columns["spark_overlong"][rewarded]),
        "spark/vote/share/mean": _mean(columns["spark_vote_share"]),
        "spark/verdict_yes": _mean(columns["spark_verdict"]),
        "spark/steps/mean": _mean(columns["spark_steps"]),
        "spark/steps_correct/mean": _mean(columns["spark_steps_correct"]),
        "spark/inconsistent": _mean(columns["spark_inconsistent"]),
        "spark/neutralised/mean": _mean(columns["spark_neutralised"]),
        "spark/verifier/seconds/mean": _mean(columns["spark_verifier_seconds"][called]),
        "spark/verifier/attempts/mean": _mean(columns["spark_attempts"][called]),
    }
    if called.any():
        metrics["spark/verifier/seconds/max"] = float(columns["spark_verifier_seconds"][called].max())
    return {key: value for key, value in metrics.items() if not np.isnan(value)}


def credit_metrics(rollouts: Rollouts, credited: Credited) -> dict[str, float]:
    """What step marks did to the advantages of one step."""
    tokens = int(rollouts.response_mask.sum())
    return {
        "spark/credit/rollouts": float(sum(bool(steps) for steps in rollouts.counted)),
        "spark/credit/silenced": float(credited.silenced.sum()) / tokens if tokens else 0.0,
    }


def _mean(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
