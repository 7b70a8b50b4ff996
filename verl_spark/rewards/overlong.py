"""The soft penalty for long responses, as verl's reward manager `dapo` gives it (DAPO, soft overlong punishment)."""


def overlong_penalty(n_tokens: int, most: int, buffer: int, factor: float) -> float:
    """0 up to `most` - `buffer` tokens, from there down in a straight line to -`factor` at `most` tokens.

    `most` is the longest response that the policy may write; `buffer` > 0.
    """
    return min((most - buffer - n_tokens) / buffer * factor, 0.0)
