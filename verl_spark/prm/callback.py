"""What happens around verl's SFT command when one of the presets is chosen: checks before it, the export after it.

A Hydra callback, so that `verl-spark train` and verl's own command line are alike. Hydra turns exceptions of a callback
into warnings, hence `SystemExit`."""

import logging
import os
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from verl_spark.prm.check import check
from verl_spark.prm.claim import check_folder, claim, is_trained, latest_step
from verl_spark.prm.export import export
from verl_spark.prm.resume import Resume
from verl_spark.prm.settings import SftSettings
from verl_spark.prm.tokens import Trained
from verl_spark.settings import SettingsError

logger = logging.getLogger(__name__)


class SftCallback(Callback):
    """Refuses a training that cannot work, and exports a finished one. The first process of a run does it for all."""

    def __init__(self) -> None:
        self._first = int(os.environ.get("RANK", 0)) == 0
        self._resume = Resume()
        self._trained: list[Trained] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Checks, before anything is written. Ends the program when all steps are there and only the export is owed."""
        self._resume.install()
        try:
            if self._first:
                self._check(config)
            if is_trained(config):
                if self._first:
                    self._export(config)
                raise SystemExit(0)
        except SettingsError as error:
            raise SystemExit(str(error)) from None

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Logs what is trained; there is no log yet when it is checked."""
        for one in self._trained:
            logger.info("%s", one)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Exports the last checkpoint of a complete training; any other leaves its checkpoints and no export."""
        if job_return.status is not JobStatus.COMPLETED or not self._first:
            return
        step, total = latest_step(config), self._resume.total_steps(config)
        if step != total:
            raise SystemExit(
                f"verl ended with its last checkpoint at step {step} of {total}, so nothing is exported; raise "
                "trainer.total_epochs, or lower trainer.total_training_steps"
            )
        try:
            self._export(config)
        except SettingsError as error:
            raise SystemExit(str(error)) from None
        except Exception as error:
            logger.exception("the export failed")
            raise SystemExit(f"the export failed: {error}; start the same command again to repeat it") from error

    def _check(self, config: DictConfig) -> None:
        settings = SftSettings.from_config(config)
        if settings.check_data:
            self._trained = check(config).trained
        check_folder(config, settings)
        claim(config, settings)

    def _export(self, config: DictConfig) -> None:
        step = latest_step(config)
        logger.info("the model of step %s is exported to %s", step, export(config))
