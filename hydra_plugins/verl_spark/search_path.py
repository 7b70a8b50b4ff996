"""Adds verl-spark's configs to the search path of every Hydra application.

The `hydra_plugins` namespace is Hydra's own way of finding this: it works whatever verl does with its plugins."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from hydra_plugins.verl_spark.config_source import SCHEME


class SparkSearchPath(SearchPathPlugin):
    """Our presets at the end of the path; the source that makes them a choice before the main one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Changes `search_path` in place. An application without a primary config folder is left alone."""
        main = next((element.path for element in search_path.get_path() if element.provider == "main"), None)
        if main is None:
            return
        search_path.prepend(provider=SCHEME, path=f"{SCHEME}://{main}", anchor="main")
        search_path.append(provider=SCHEME, path="pkg://verl_spark.conf")
