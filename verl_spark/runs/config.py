"""The config of a run: loaded from YAML with dotted overrides, and kept in the folder that it fills."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from verl_spark.files import replacing
from verl_spark.settings import Node, SettingsError, differences, messages

CONFIG_FILE = "config.yaml"
"""In every output folder: the config that made it."""

_Config = TypeVar("_Config", bound="RunConfig")


class RunConfig(Node):
    """A run that fills a folder; unknown keys are refused."""

    output: Path
    """Folder for everything the run writes."""

    def binding(self) -> dict[str, Any]:
        """The keys that a restart in the same folder must repeat, as nested plain values."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises `SettingsError` with both values of every binding key in which the output folder's config differs."""
        stored = self.output / CONFIG_FILE
        if stored.exists() and (changes := differences(type(self).load(stored).binding(), self.binding())):
            cure = "restore the first values, or choose another folder with output=FOLDER"
            raise SettingsError([f"{self.output} was made with {change}" for change in changes] + [cure])

    def claim(self) -> None:
        """Makes the output folder this config's own and stores it there. Raises as `check` does."""
        self.check()
        with replacing(self.output / CONFIG_FILE) as file:
            yaml.safe_dump(self.model_dump(mode="json"), file, sort_keys=False, allow_unicode=True)

    @classmethod
    def load(cls: type[_Config], path: Path | None, overrides: Sequence[str] = ()) -> _Config:
        """The config of a YAML file with overrides such as `verifier.n=4`; either may be left out.

        Raises `SettingsError` with one line for each fault."""
        try:
            given = OmegaConf.load(path) if path else OmegaConf.create()
            plain = OmegaConf.to_container(
                OmegaConf.merge(given, OmegaConf.from_dotlist(list(overrides))), resolve=True
            )
        except (OSError, yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
            raise SettingsError([f"{path or 'overrides'}: {error}"]) from None
        return cls.from_mapping(plain)  # type: ignore[arg-type]

    @classmethod
    def from_mapping(cls: type[_Config], plain: Mapping[str, Any]) -> _Config:
        """The config of nested plain values. Raises `SettingsError` with one line for each fault."""
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            raise SettingsError(messages(error, cls)) from None
