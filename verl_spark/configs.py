"""verl's configs: composed as its own commands compose them, and read without a fault for what is absent."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from verl_spark.settings import SettingsError
from verl_spark.versions import install


def composed(primary: str, overrides: Sequence[str]) -> DictConfig:
    """A primary config of verl's, such as `ppo_trainer`, with these overrides.

    Raises `SettingsError` for one that Hydra refuses."""
    verl = find_spec("verl")  # of a top-level package: nothing is imported
    if verl is None or not verl.submodule_search_locations:
        raise SettingsError([f"verl is not installed; {install('gpu', 'cpu')}"])
    folder = Path(verl.submodule_search_locations[0]) / "trainer" / "config"
    try:
        with initialize_config_dir(str(folder), version_base=None):
            return compose(primary, list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError([str(error)]) from None


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
