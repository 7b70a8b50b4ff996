"""SPARK for verl: reference-free reinforcement learning with generative process reward models."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("verl-spark")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"
