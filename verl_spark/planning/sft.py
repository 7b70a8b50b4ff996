"""What the training of a reward model asks for (Stage II): its steps, and the tokens of all rows that they take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from verl_spark.configs import composed, get
from verl_spark.planning.steps import steps_of
from verl_spark.planning.work import GIVEN, LIMITS, Work, chosen
from verl_spark.prm.launch import PRIMARY

LENGTHS = ("row",)
"""Texts whose length in tokens can be given: a row, prompt and reply together."""
ROLES = ("trainer",)


@dataclass(frozen=True)
class Sft:
    """A training of a reward model, planned."""

    steps: int
    work: Work
    """Of all steps; a call is a row in a step, and all of its tokens are counted with the replies."""
    config: DictConfig


def plan_sft(overrides: Sequence[str], rows: int | None, lengths: Mapping[str, int]) -> Sft:
    """The work of a training with these overrides of verl's `sft_trainer`.

    rows: how many there are; None counts those of `data.train_files`.
    lengths: tokens of a row on average, by its name in `LENGTHS`, in place of `data.max_length`.

    Validation is not counted. Raises `SettingsError` for a config that Hydra refuses, and as `steps_of` does."""
    config = composed(PRIMARY, overrides)
    told, tokens = chosen("row", (GIVEN, lengths), (LIMITS, {"row": get(config, "data.max_length")}))
    steps = steps_of(config, rows, "--rows")
    taken = steps * get(config, "data.train_batch_size")
    model = str(get(config, "model.path"))
    return Sft(steps, Work("update", *ROLES, model, taken, 0, taken * tokens, told, "sft"), config)
