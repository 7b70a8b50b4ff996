"""Stage I: synthetic verification data without ground truth.

The way of a problem: `runs.problems` → solutions → verifications (`flow`; `runs` asks and keeps) → votes and picks
(`selection`) → `record` → SFT rows. References are read by `references` alone, for the one method that needs them
and for reports after the fact."""
