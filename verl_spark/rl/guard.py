"""When a training step must stop, or say something: shares of failed and unreadable verifications, an idle gate."""

import logging
from collections.abc import Sequence

from verl_spark.rl.row import Row
from verl_spark.settings import SparkSettings
from verl_spark.verifier.outcome import Cause

logger = logging.getLogger(f"verl.{__name__}")  # verl's task runner shows its own loggers only


class VerifierFailed(RuntimeError):
    """More verifications of a step failed than the settings allow."""


def watch(rows: Sequence[Row], settings: SparkSettings) -> None:
    """Checks the training rows of one step against the settings' limits.

    Raises `VerifierFailed` when the share of *failed* calls, or with `on_unreadable: stop` the share of replies
    that were cut, unreadable or too long to ask for, exceeds its limit. Otherwise it logs what a user should know.
    Shares are of the rollouts for which the verifier was wanted.
    """
    wanted = sum(1 for row in rows if row["spark_called"] or row["spark_cached"] or row["spark_too_long"])
    if not rows:
        return
    if all(row["spark_gated"] for row in rows):
        reasons = {key for row in rows for key, value in row.items() if key.startswith("spark_gate_") and value}
        logger.warning(
            "no rollout of this step passed the format gate (%s): every reward is 0 and nothing is learned. "
            "Teach the policy the format first, keep reward.spark.policy_prompt=inject, choose "
            "reward.spark.policy_format=plain for recipes that cannot change theirs, or switch the gate off with "
            "reward.spark.format_gate=False.",
            ", ".join(sorted(key.removeprefix("spark_gate_") for key in reasons)) or "step limits",
        )
    if not wanted:
        return
    failed = sum(row["spark_failed"] for row in rows) / wanted
    if failed > settings.max_failed_share:
        raise VerifierFailed(
            f"{failed:.1%} of this step's {wanted} verifications failed, more than "
            f"reward.spark.max_failed_share={settings.max_failed_share:g} allows. Is the verifier up, and is "
            f"reward.spark.verifier.timeout_s={settings.verifier.timeout_s:g} long enough for it? "
            "The last checkpoint is unharmed: start the same command again to resume."
        )
    causes = (Cause.CUT, Cause.UNREADABLE, Cause.TOO_LONG)
    counts = {cause.value: sum(row[f"spark_{cause.value}"] for row in rows) for cause in causes}
    share = sum(counts.values()) / wanted
    if share > settings.max_unreadable_share:
        message = (
            f"{share:.1%} of this step's {wanted} verifications gave no verdict "
            f"({', '.join(f'{name} {n:.0f}' for name, n in counts.items())}), more than "
            f"reward.spark.max_unreadable_share={settings.max_unreadable_share:g}. Raise "
            f"reward.spark.verifier.max_tokens if they are cut, and {_room(settings)} if their prompts are too long; "
            f"if they are unreadable, is reward.spark.verifier.kind={settings.verifier.kind.value} what this model "
            "was trained for?"
        )
        if settings.on_unreadable == "stop":
            raise VerifierFailed(message)
        logger.warning(message)


def _room(settings: SparkSettings) -> str:
    """The option by which a longer prompt is taken: of our own limit, of verl's engine, of a server's command."""
    if settings.verifier.max_prompt_tokens is not None:
        return "reward.spark.verifier.max_prompt_tokens"
    if settings.serving == "external":
        return "the servers' --max-model-len"
    return "reward.reward_model.rollout.max_model_len"
