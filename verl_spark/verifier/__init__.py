"""Asking a verifier model and getting a typed outcome: judged, or undecided with its cause."""
