"""SPARK in miniature: the paper's claims, tested with tiny models on the real engine. README.md beside it says how."""
