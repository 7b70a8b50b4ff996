"""Hydra plugins of verl-spark; Hydra imports every module of this package when it starts, so they stay light."""
