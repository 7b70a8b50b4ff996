"""The demonstration: a task whose truth a program knows, tiny models taught on it, and the run of `make demo`."""
