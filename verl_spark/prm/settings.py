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


def get(config: DictConfig, key: str) -> Any:
    """The value at a dotted key as plain Python; None if any part is absent, `???`, or refers to something that is."""
    try:
        value = OmegaConf.select(config, key, throw_on_missing=False)
    except OmegaConfBaseException:
        return None
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def files_of(config: DictConfig, key: str) -> list[Path]:
    """The files that `data.train_files` or `data.val_files` names, one or a list; none if it is null."""
    found = get(config, key)
    listed = found if isinstance(found, list) else [found]
    return [Path(str(file)).expanduser() for file in listed if file]
