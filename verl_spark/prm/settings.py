"""The node `spark` of verl's SFT config: what Stage II adds to it. Everything else is set by verl's own keys."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from verl_spark.settings import Node, SettingsError, messages
from verl_spark.verification.kinds import Kind

NODE = "spark"
PRESETS = MappingProxyType({f"spark_{kind.value.replace('_', '')}": kind for kind in Kind})
"""Choices of the config group `sft`, and the kind of reward model that each trains."""


class SftSettings(Node):
    """The node `spark`."""

    kind: Kind
    """What the model learns to write: `orm`, `prm`, `prm_cot` or `think_prm`. The preset sets it."""
    data: Path | None = None
    """Folder with the SFT files of one method of Stage I, such as `outputs/data/sft/step`; `data.train_files` and
    `data.val_files` follow from it."""
    data_card: Path | None = None
    """The data card that goes into the model's card; null is the `card.json` that Stage I writes two folders above
    `data`, if it is there."""
    export: Path
    """Folder of the finished model. It appears when it is complete."""
    check_data: bool = True
    """Whether all rows are read and checked when verl's command starts; `verl-spark train` does it before, once, and
    sets this to False."""

    @classmethod
    def from_config(cls, config: DictConfig) -> "SftSettings":
        """The settings in a composed SFT config. Raises `SettingsError` with one line for each fault."""
        try:
            plain: Any = OmegaConf.to_container(config.spark, resolve=True)
            return cls.model_validate({key: value for key, value in plain.items() if value != "???"})
        except ValidationError as error:
            raise SettingsError(messages(error, cls, NODE)) from None
        except OmegaConfBaseException as error:
            raise SettingsError([f"{NODE}: {error}"]) from None
