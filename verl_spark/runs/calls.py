"""One call of a model, with the key by which it is known.

A call is known by what determines its samples: texts, prompt, model and sampling. Order, time, paths and the machines
that answer play no part."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from verl_spark.verifier.client import Sampling

_SEEDS = 2**30  # leaves room below 2**31 for the index of a sample


@dataclass(frozen=True)
class Call:
    """One call: N samples of one message from one model."""

    stage: str
    """Kind of call; each has its own journal."""
    key: str
    """SHA-256 (hex) of all that determines the samples but their number."""
    n: int
    """Samples that are wanted."""
    sampling: Sampling
    """With the seed of sample 0; sample i has that seed plus i."""
    message: Callable[[], str]
    """Writes the user turn."""

    def sampling_from(self, index: int) -> Sampling:
        """Sampling of a request for the samples from `index` on."""
        return replace(self.sampling, seed=(self.sampling.seed or 0) + index)


def make_call(
    stage: str,
    n: int,
    sampling: Sampling,
    seed: int,
    message: Callable[[], str],
    *parts: object,
    prompt: str,
    model: str,
) -> Call:
    """The call for `n` samples of a message that is made of `parts` with the prompt of this hash.

    Its seed comes from the run's `seed` and its key, so it depends on nothing that was called before."""
    key = digest([stage, prompt, model, sampling.max_tokens, sampling.temperature, sampling.top_p, *parts])
    own = int(digest([seed, key])[:8], 16) % _SEEDS
    return Call(stage, key, n, replace(sampling, seed=own), message)


def digest(parts: Sequence[object]) -> str:
    """SHA-256 (hex) of plain values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()  # JSON, so that no two lists join to one text
