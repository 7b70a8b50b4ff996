"""What a training asks for: rollouts, verifications and the update, of one step and of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from omegaconf import DictConfig

from verl_spark.configs import composed, get
from verl_spark.launch import check
from verl_spark.planning.steps import steps_of
from verl_spark.planning.work import GIVEN, LIMITS, Work, chosen

PRIMARY = "ppo_trainer"
LENGTHS = ("prompt", "rollout", "verification")
"""Texts whose length in tokens can be given."""
ROLES = ("policy", "verifier", "trainer")


@dataclass(frozen=True)
class Training:
    """A training, planned."""

    steps: int
    step: tuple[Work, ...]
    """The work of one step."""
    config: DictConfig

    def whole(self) -> list[Work]:
        """The work of all steps."""
        return [_times(work, self.steps) for work in self.step]


def plan_training(overrides: Sequence[str], problems: int | None, lengths: Mapping[str, int]) -> Training:
    """The work of a training with these overrides of verl's `main_ppo`.

    problems: how many prompts there are; None counts the rows of `data.train_files`.
    lengths: tokens of texts by a name in `LENGTHS`, in place of the longest that the config allows.

    Not counted: what the gate refuses and the judge knows already (both spare a call), validation and the probe.
    Raises `SettingsError` as `launch.check` does, and where the steps cannot be known."""
    config = composed(PRIMARY, overrides)
    settings = check(config)
    rollouts = get(config, "data.train_batch_size") * get(config, "actor_rollout_ref.rollout.n")
    prompt, response = get(config, "data.max_prompt_length"), get(config, "data.max_response_length")
    limits = {"prompt": prompt, "rollout": response}
    asks = settings is not None and settings.asks_verifier
    if settings is not None and asks:
        limits["verification"] = settings.verifier.token_limit
    (_, prompt), (told, response) = (chosen(name, (GIVEN, lengths), (LIMITS, limits)) for name in ("prompt", "rollout"))
    policy = str(get(config, "actor_rollout_ref.model.path"))
    step = [Work("rollouts", "policy", policy, rollouts, rollouts * prompt, rollouts * response, told)]
    if settings is not None and asks:
        heard, reply = chosen("verification", (GIVEN, lengths), (LIMITS, limits))
        shown = prompt + response  # its prompt shows problem and solution; the few lines of our own are left out
        if settings.verifier.max_prompt_tokens is not None:
            shown = min(shown, settings.verifier.max_prompt_tokens)
        model = str(settings.verifier.model or get(config, "reward.reward_model.model_path"))
        step.append(Work("verifications", "verifier", model, rollouts, rollouts * shown, rollouts * reply, heard))
    step.append(Work("update", "trainer", policy, rollouts, rollouts * prompt, rollouts * response, told, "rl"))
    return Training(steps_of(config, problems, "--problems"), tuple(step), config)


def _times(work: Work, steps: int) -> Work:
    counts = {key: getattr(work, key) * steps for key in ("calls", "prompt_tokens", "reply_tokens")}
    return replace(work, **counts)
