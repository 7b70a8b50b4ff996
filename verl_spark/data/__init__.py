"""Stage I: synthetic verification data without ground truth.

The way of a problem: `problems` → solutions → verifications (`flow`, its calls kept by `journal`) → votes and picks
(`selection`) → `record` → SFT rows. References are read by `references` alone, for the one method that needs them
and for reports after the fact."""
