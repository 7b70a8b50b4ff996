"""Measuring models: statistics, and later ProcessBench and the math benchmarks."""
