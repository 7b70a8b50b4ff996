"""The runtime door: verl imports this module in every process (entry-point group `verl.plugins`).

It registers nothing itself. For each verl module below it leaves a note, and the registration happens when verl
loads that module: importing verl stays as cheap as it was, and a second import changes nothing. verl reports a
plugin that fails to load at debug level only, so faults are logged here as errors."""

import logging
from collections.abc import Callable
from typing import Any

import wrapt

logger = logging.getLogger(__name__)


def _reward_managers(module: Any) -> None:
    from verl_spark.rl.reward_manager import MANAGERS

    for name, manager in MANAGERS.items():
        module.register(name)(manager)


def _trainers(module: Any) -> None:
    from verl_spark.rl import trainer

    trainer.register()


def _config_check(module: Any) -> None:
    """Patch, verl 0.9.1: `validate_config` runs in the driver before Ray starts, and has no hook for a plugin.

    Wrapped, it also checks our settings and derives verl's keys from them; without one of our doors in the
    config it does what it did. The check is loaded when it is called: this module is in every process."""

    @wrapt.decorator
    def checked(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
        from verl_spark.launch import prepare

        prepare(kwargs["config"] if "config" in kwargs else args[0])
        return wrapped(*args, **kwargs)

    module.validate_config = checked(module.validate_config)


HOOKS: dict[str, Callable[[Any], None]] = {
    "verl.experimental.reward_loop.reward_manager": _reward_managers,
    "verl.trainer.ppo.v1": _trainers,
    "verl.utils.config": _config_check,
}
"""verl module to what is done when it is loaded."""


def _loud(name: str, hook: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(module: Any) -> None:
        try:
            hook(module)
        except Exception:
            logger.exception("verl-spark could not register with %s and is switched off there", name)
            raise

    return run


_registered = False


def register() -> None:
    """Leaves the notes; repeatable."""
    global _registered
    if _registered:
        return
    _registered = True
    from verl_spark.platforms import cpu

    cpu.activate()  # does nothing unless VERL_PLATFORM=cpu
    for name, hook in HOOKS.items():
        wrapt.register_post_import_hook(_loud(name, hook), name)


try:
    register()
except Exception:
    logger.exception("verl-spark is installed but switched off")
    raise
