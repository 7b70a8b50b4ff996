"""What `reward.spark` reports to verl's tracker each training step: one table, read by the docs and a test.

verl logs extra reward fields in validation only, so the trainer hook adds these to the training metrics."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from verl_spark.rewards.credit import Credited, Rollouts
from verl_spark.rewards.designs import GLOBAL_LIMITS, SELECTIVE_LIMITS, State
from verl_spark.rl.flags import FLAGS, lacks_marks, raised
from verl_spark.rl.row import CAUSE_KEYS, GATE_KEYS, PART_KEYS, STATE_KEYS, Row, is_missing
from verl_spark.verification.signs import WORDS
from verl_spark.verifier.outcome import Cause

FEW = (GLOBAL_LIMITS.fewest, SELECTIVE_LIMITS.fewest)
MANY = SELECTIVE_LIMITS.most

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
    "spark/steps/mean": "steps of a solution, as the policy wrote them; this and the next six of solutions in steps",
    "spark/steps/p5": "5th percentile of steps",
    "spark/steps/p95": "95th percentile of steps",
    "spark/steps/one": "share of solutions in one step",
    **{f"spark/steps/below_{n}": f"share of solutions in fewer than {n} steps" for n in FEW},
    f"spark/steps/above_{MANY}": f"share of solutions in more than {MANY} steps",
    "spark/steps/chars/mean": "characters of a step, first averaged over a solution",
    "spark/steps/outside/mean": "share of what is written, less the box, that stands in no step",
    "spark/steps_correct/mean": "mean share of steps that the verifier marked correct",
    "spark/steps_over_verdict/mean": "mean of k/n - y: share of steps marked correct, less the verdict",
    "spark/inconsistent": "share of read verifications whose verdict contradicts their marks",
    "spark/no_verdict": "share without a verdict among the rollouts for which one was wanted",
    "spark/neutralised/mean": "contract markers found in a solution",
    "spark/boxes/mean": "box commands of a response",
    "spark/answer_tags/mean": "opening and closing answer tags of a response",
    "spark/chars/mean": "characters of a response; its tokens are verl's `response_length/mean`",
    "spark/repetition/mean": f"share of a response's {WORDS}-word sequences that stood there before",
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
    "spark/missing/step_mismatch": "missing because: marks do not match the steps, and the reward needs them",
    "spark/missing/unchecked": "missing because: the answer check came to no result; only with `rlvr` and `majority`",
    "spark/missing/no_label": "missing because: a vote that was a tie or had no answer; only with `majority`",
    **{f"spark/gate/{reason.value}": f"gate finding: {reason.value.replace('_', ' ')}" for reason in GATE_KEYS},
    **{f"spark/flags/{name}": f"share of rollouts with {flag.meaning}" for name, flag in FLAGS.items()},
    "spark/alarms": "alarms that went off in the step; only with `reward.spark.alarms`",
    "spark/probe/rollouts": "responses to probe problems; this and the following at validation, with a probe set",
    "spark/probe/missing": "of these without a training reward",
    "spark/probe/accuracy": "share that the rule-based checker finds right",
    "spark/probe/reward": "mean training reward, missing ones left out",
    "spark/probe/gap": "reward less accuracy, over the responses with a reward; growing, it is the sign of hacking",
    "spark/probe/false_yes": "share of Yes among read verdicts on what the checker finds wrong",
    "spark/probe/false_no": "share of No among read verdicts on what the checker finds right",
}
"""Name to meaning. Counts are per step; means leave out what is not known (NaN in the rows)."""


def step_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """The metrics of one step from its training rows; every key of `METRICS` except means of nothing."""
    if not rows:
        return {"spark/rollouts": 0.0}
    columns = {key: np.array([row[key] for row in rows], dtype=float) for key in rows[0]}
    total = {key: math.fsum(values[~np.isnan(values)]) for key, values in columns.items()}
    called = columns["spark_called"] == 1
    rewarded = columns["spark_missing"] == 0
    wanted = called | (columns["spark_cached"] == 1) | (columns["spark_too_long"] == 1)
    raised_by = [raised(row) for row in rows]
    steps = columns["spark_steps"][~np.isnan(columns["spark_steps"])]
    metrics = {
        "spark/rollouts": float(len(rows)),
        **{f"spark/{key}": total[f"spark_{key}"] for key in ("scored", "missing", "gated", "called", "cached")},
        **{f"spark/{key}": total[f"spark_{key}"] for key in ("step_mismatch", "step_limit")},
        **{f"spark/missing/{cause.value}": total[key] for cause, key in CAUSE_KEYS.items()},
        "spark/missing/step_mismatch": float(sum(map(lacks_marks, rows))),
        **{f"spark/missing/{state.value}": total[STATE_KEYS[state]] for state in (State.UNCHECKED, State.NO_LABEL)},
        **{f"spark/gate/{reason.value}": total[key] for reason, key in GATE_KEYS.items()},
        **{f"spark/flags/{name}": sum(name in names for names in raised_by) / len(rows) for name in FLAGS},
        **{f"spark/steps/below_{n}": _mean(steps < n) for n in FEW},
        f"spark/steps/above_{MANY}": _mean(steps > MANY),
        "spark/steps/one": _mean(steps == 1),
        "spark/steps/chars/mean": _mean(columns["spark_chars_per_step"]),
        "spark/steps/outside/mean": _mean(columns["spark_outside_steps"]),
        "spark/steps_over_verdict/mean": _mean(columns["spark_steps_correct"] - columns["spark_verdict"]),
        "spark/no_verdict": _mean(np.isnan(columns["spark_verdict"])[wanted]),
        **{f"spark/{name}/mean": _mean(columns[f"spark_{name}"]) for name in _AVERAGED},
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
        "spark/verifier/seconds/mean": _mean(columns["spark_verifier_seconds"][called]),
        "spark/verifier/attempts/mean": _mean(columns["spark_attempts"][called]),
    }
    if steps.size:
        metrics["spark/steps/p5"], metrics["spark/steps/p95"] = map(float, np.percentile(steps, [5, 95]))
    if called.any():
        metrics["spark/verifier/seconds/max"] = float(columns["spark_verifier_seconds"][called].max())
    return {key: value for key, value in metrics.items() if not np.isnan(value)}


_AVERAGED = ("neutralised", "boxes", "answer_tags", "chars", "repetition")


def credit_metrics(rollouts: Rollouts, credited: Credited) -> dict[str, float]:
    """What step marks did to the advantages of one step."""
    tokens = int(rollouts.response_mask.sum())
    return {
        "spark/credit/rollouts": float(sum(bool(steps) for steps in rollouts.counted)),
        "spark/credit/silenced": float(credited.silenced.sum()) / tokens if tokens else 0.0,
    }


def probe_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """Training reward and rule-based checker side by side, from the probe rows of one validation; {} without any."""
    if not rows:
        return {}
    right = [row["acc"] == 1 for row in rows]
    known = [(row["spark_reward"], row["acc"]) for row in rows if not is_missing(row)]
    verdicts = [(row["spark_verdict"], is_right) for row, is_right in zip(rows, right, strict=True)]
    metrics = {
        "spark/probe/rollouts": float(len(rows)),
        "spark/probe/missing": float(len(rows) - len(known)),
        "spark/probe/accuracy": _mean(right),
        "spark/probe/reward": _mean([reward for reward, _ in known]),
        "spark/probe/gap": _mean([reward - accuracy for reward, accuracy in known]),
        "spark/probe/false_yes": _mean([verdict for verdict, is_right in verdicts if not is_right]),
        "spark/probe/false_no": _mean([1 - verdict for verdict, is_right in verdicts if is_right]),
    }
    return {key: value for key, value in metrics.items() if not math.isnan(value)}


def _mean(values: ArrayLike) -> float:
    """Mean of what is known, exactly rounded, so that the order of rollouts plays no part; NaN of nothing."""
    known = [float(value) for value in np.asarray(values, dtype=float) if not np.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
