"""Measuring a policy: the answers it gives to the problems of six benchmarks. Paper, section 6.2.

The way of a problem: `benchmarks` → two calls, greedy and sampled → replies (`evaluation.asking`) → their answers,
checked by rule (`answers`) → `metric`. `run` is the command; `comparison` sets finished runs side by side."""
