"""A Hydra config source that adds the group `reward_model` to verl's trainer configs, without touching verl.

Hydra takes `reward_model=spark_prmcot` for a choice of a group only if the group stands in the primary config's
defaults list. verl's does not have it, so this source serves those configs once more with the one extra entry
`reward_model: null`, which selects nothing: unless the user names a preset, the composed config is what it was."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf

SCHEME = "verl-spark"
GROUP = "reward_model"

_REWARD = "reward@reward"  # the entry by which a config of verl (0.7.1 to 0.9.1) composes its `reward` node


class SparkConfigSource(ConfigSource):
    """`verl-spark://SOURCE` serves those configs of the main source `SOURCE` that get the extra entry.

    These are the configs that compose verl's reward node: directly (verl's own primary configs and copies of them),
    or by inheriting such a config from another source (a recipe with `hydra.searchpath`). Groups and all other
    configs are left to `SOURCE` itself. Only configs at its top level are looked at, where primary configs live.
    """

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self._main = _open(self.path)

    @staticmethod
    def scheme() -> str:
        """The scheme under which Hydra finds this class."""
        return SCHEME

    def available(self) -> bool:
        """True: a missing main source is reported by Hydra for that source."""
        return True

    def is_config(self, config_path: str) -> bool:
        """Whether this config gets the extra entry."""
        return self._extended(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        """The main source's config with the extra entry. Raises `ConfigLoadError` for any other config."""
        if (result := self._extended(config_path)) is None:
            raise ConfigLoadError(f"Config not found : {config_path}")
        return result

    def is_group(self, config_path: str) -> bool:
        """False: groups are the main source's."""
        return False

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing: the main source lists its configs itself."""
        return []

    def _extended(self, name: str) -> ConfigResult | None:
        """The config `name` with the extra entry, None if it gets none."""
        if "/" in name or (result := _load(self._main, name)) is None:
            return None
        defaults = _defaults(result)
        if any(group.split("@")[0] == GROUP for group in _groups(defaults)):
            return None
        if not _composes_reward(result, [self._main, *_search_path(result), *_verl()], seen={name}):
            return None
        # After `_self_`, so that the chosen preset wins over the config; Hydra wants `override` entries at the end,
        # where their place does not matter.
        overrides = [entry for entry in defaults if any(key.startswith("override ") for key in _keys(entry))]
        content = [entry for entry in defaults if entry not in overrides]
        result.config["defaults"] = [*content, {GROUP: None}, *overrides]
        return result


def _composes_reward(result: ConfigResult, sources: Sequence[ConfigSource], seen: set[str]) -> bool:
    """Whether a config brings verl's reward node, itself or through a config that it includes from `sources`.

    If both a config and its parent get the extra entry, Hydra composes the preset twice, and the last one counts;
    it allows that because every preset has a defaults list of its own.
    """
    defaults = _defaults(result)
    if _REWARD in _groups(defaults):
        return True
    parents = [name for name in _inherited(defaults) if name not in seen]
    seen.update(parents)
    found = (next((r for source in sources if (r := _load(source, name)) is not None), None) for name in parents)
    return any(_composes_reward(parent, sources, seen) for parent in found if parent is not None)


def _open(path: str) -> ConfigSource:
    """The source behind `path`; a path without a scheme is a folder, as everywhere in Hydra."""
    path = path if "://" in path else f"file://{path}"
    scheme = path.split("://", 1)[0]
    for source in Plugins.instance().discover(ConfigSource):
        if issubclass(source, ConfigSource) and source.scheme() == scheme:
            return source(provider=SCHEME, path=path)
    raise ValueError(f"{path}: Hydra has no config source for {scheme}://")


def _load(source: ConfigSource, name: str) -> ConfigResult | None:
    """A config that is a mapping; None for anything else, and for a source or config that does not exist."""
    if not source.available() or not source.is_config(name):
        return None
    result = source.load_config(name)
    return result if isinstance(result.config, DictConfig) else None


def _search_path(result: ConfigResult) -> Iterator[ConfigSource]:
    """The sources that a primary config adds by `hydra.searchpath`; Hydra itself reports entries it cannot use."""
    entries = OmegaConf.select(result.config, "hydra.searchpath")
    for entry in entries if isinstance(entries, ListConfig) else ():
        if isinstance(entry, str) and not entry.startswith(f"{SCHEME}://"):
            yield _open(entry)


def _verl() -> Iterator[ConfigSource]:
    """verl's own configs, for a search path that was given on the command line and that a source cannot see."""
    verl = find_spec("verl")  # of a top-level package: nothing is imported
    for folder in (verl.submodule_search_locations or ()) if verl else ():
        yield _open(f"file://{Path(folder) / 'trainer' / 'config'}")


def _defaults(result: ConfigResult) -> list[Any]:
    node = result.config.get("defaults") if isinstance(result.config, DictConfig) else None
    return OmegaConf.to_container(node) if isinstance(node, ListConfig) else []  # type: ignore[return-value]


def _keys(entry: Any) -> list[str]:
    return [str(key) for key in entry] if isinstance(entry, dict) else []


def _groups(defaults: list[Any]) -> list[str]:
    """Groups that a defaults list composes, `group@package` as written."""
    return [key.removeprefix("optional ").lstrip("/") for entry in defaults for key in _keys(entry)]


def _inherited(defaults: list[Any]) -> list[str]:
    """Names of the top-level configs that a defaults list includes as a whole."""
    names = (entry.split("@", 1)[0].lstrip("/") for entry in defaults if isinstance(entry, str))
    return [name for name in names if name != "_self_"]
