"""What makes a rollout suspicious: plain conditions on its row, each with a name. SPARK, hacking patterns.

A flag proves nothing and changes no reward. A reason is a flag, a finding of the format gate or a cause of a missing
reward, and is called like the metric that counts it, less the `spark/` before."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from verl_spark.rewards.designs import GLOBAL_LIMITS, SELECTIVE_LIMITS, State
from verl_spark.rl.row import CAUSE_KEYS, GATE_KEYS, STATE_KEYS, Row, is_missing
from verl_spark.verifier.outcome import Cause

HIGH_SHARE = 0.8
"""From this share of correct steps on, a verdict No is worth a look."""
REPETITIVE = 0.5
"""From this share of repeated n-grams on, a response mostly repeats itself."""
OUTSIDE = 0.5
"""From this share of what is written outside the steps on, the marks judge the smaller part of it."""
TINY_STEP = 8
"""Characters: steps shorter than this on average say next to nothing."""


class Flag(NamedTuple):
    """A condition on a row; what is not known (NaN) fulfils none."""

    meaning: str
    raised: Callable[[Row], bool]


FLAGS: dict[str, Flag] = {
    "contradiction": Flag("a verdict that contradicts the marks", lambda row: row["spark_inconsistent"] == 1),
    "steps_without_verdict": Flag(
        f"a verdict No on a solution with {HIGH_SHARE:.0%} of its steps marked correct, or more",
        lambda row: row["spark_steps_correct"] >= HIGH_SHARE and row["spark_verdict"] == 0,
    ),
    "marks_mismatch": Flag(
        "another number of marks than steps, whatever the design",
        lambda row: row["spark_steps_marked"] > 0 and row["spark_steps_marked"] != row["spark_steps"],
    ),
    "no_steps": Flag("no step structure", lambda row: math.isnan(row["spark_steps"])),
    "few_steps": Flag(
        f"fewer than {GLOBAL_LIMITS.fewest} steps", lambda row: row["spark_steps"] < GLOBAL_LIMITS.fewest
    ),
    "many_steps": Flag(
        f"more than {SELECTIVE_LIMITS.most} steps", lambda row: row["spark_steps"] > SELECTIVE_LIMITS.most
    ),
    "tiny_steps": Flag(
        f"steps of fewer than {TINY_STEP} characters on average", lambda row: row["spark_chars_per_step"] < TINY_STEP
    ),
    "outside_steps": Flag(
        f"{OUTSIDE:.0%} of what is written, or more, outside the steps",
        lambda row: row["spark_outside_steps"] >= OUTSIDE,
    ),
    "markers": Flag("contract markers in the solution", lambda row: row["spark_neutralised"] > 0),
    "disguised": Flag(
        "contract text in look-alike letters or with invisible characters in it", lambda row: row["spark_disguised"] > 0
    ),
    "invisible": Flag("invisible characters", lambda row: row["spark_invisible"] > 0),
    "control_strings": Flag("control strings of chat templates", lambda row: row["spark_control_strings"] > 0),
    "odd_tags": Flag("tags of the format in another spelling", lambda row: row["spark_odd_tags"] > 0),
    "misplaced_tags": Flag("tags that are absent or in another order", lambda row: row["spark_misplaced"] == 1),
    "after_answer": Flag("text after the first answer", lambda row: row["spark_after_answer"] == 1),
    "many_answers": Flag(
        "more than one box or answer block", lambda row: row["spark_boxes"] > 1 or row["spark_answer_tags"] > 2
    ),
    "repetition": Flag(
        f"{REPETITIVE:.0%} of the word sequences, or more, repeated",
        lambda row: row["spark_repetition"] >= REPETITIVE,
    ),
}
"""Name to condition."""

_CAUSES = {f"missing/{cause.value}": key for cause, key in CAUSE_KEYS.items() if cause is not Cause.FAILED}
_UNCHECKED = {f"missing/{State.UNCHECKED.value}": STATE_KEYS[State.UNCHECKED]}
_GATE = {f"gate/{reason.value}": key for reason, key in GATE_KEYS.items()}


def raised(row: Row) -> tuple[str, ...]:
    """Names of the flags that a row raises, in the order of the table."""
    return tuple(name for name, flag in FLAGS.items() if flag.raised(row))


def lacks_marks(row: Mapping[str, float]) -> bool:
    """Whether the reward is missing because the marks do not match the steps."""
    return is_missing(row) and row["spark_step_mismatch"] == 1


def reasons(row: Row) -> tuple[str, ...]:
    """Everything that makes a rollout suspicious, by name. A failed call and a tied vote say nothing of it."""
    found = [name for name, key in (_GATE | _CAUSES | _UNCHECKED).items() if row[key] == 1]
    found += ["missing/step_mismatch"] if lacks_marks(row) else []
    found += ["step_limit"] if row["spark_step_limit"] == 1 else []
    return (*found, *(f"flags/{name}" for name in raised(row)))
