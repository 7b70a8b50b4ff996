"""Measuring models: ProcessBench, overlap with training data, and the statistics of every result.

The way of an item: `items` → a verifier's request (`verifiers`) → replies (`asking`, or `recorded`) → prediction →
`metric`. `run` is the command, `asking.evaluate` the same for items of any other task."""
