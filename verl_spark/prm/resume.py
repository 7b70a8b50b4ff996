"""verl's resume, mended in one place and watched in another (verl 0.9.1, `CheckpointHandler`).

A checkpoint at the end of an epoch holds a data loader that has nothing left to give, and verl loads it into the next
epoch, which it thereby skips: a run of two epochs that is stopped after the first would end there and look finished."""

from typing import Any

import wrapt
from omegaconf import DictConfig

from verl_spark.configs import get

_MODULE = "verl.utils.checkpoint.checkpoint_handler"


class Resume:
    """What a run owes. Install it in every process, before the trainer is made."""

    def __init__(self) -> None:
        self.steps_per_epoch: int | None = None
        """Known once the trainer has looked for a checkpoint."""

    def install(self) -> None:
        """Wraps verl's handler for the rest of the process."""
        wrapt.wrap_function_wrapper(_MODULE, "CheckpointHandler.load_checkpoint", self._watch)
        wrapt.wrap_function_wrapper(_MODULE, "CheckpointHandler._load_dataloader_state", self._load_unless_exhausted)

    def total_steps(self, config: DictConfig) -> int | None:
        """Steps of the whole training, as verl counts them; None before they are known."""
        if total := get(config, "trainer.total_training_steps"):
            return int(total)
        return None if self.steps_per_epoch is None else self.steps_per_epoch * int(get(config, "trainer.total_epochs"))

    def _watch(self, wrapped: Any, handler: Any, args: Any, kwargs: Any) -> Any:
        self.steps_per_epoch = len(handler.train_dataloader)
        return wrapped(*args, **kwargs)

    def _load_unless_exhausted(self, wrapped: Any, handler: Any, args: Any, kwargs: Any) -> None:
        if handler.resume_global_step % len(handler.train_dataloader):
            wrapped(*args, **kwargs)
