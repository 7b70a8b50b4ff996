"""What a dumped training rollout says beside verl's own fields, so that it can be scored again without the run.

verl writes `input`, `output`, `gts`, `score`, `step` and `uid` into `trainer.rollout_data_dir`, one file a step. The
trainer hook adds the rollout's row and texts, its problem, which of its tokens the policy wrote and what a reward may
go by beside the text; and, once for a folder, `RUN_FILE` with the settings of the run. Token ids are not written: the
tokens of every step and of the response are all that an advantage depends on. `verl_spark.rescoring` reads it."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from verl_spark.files import replacing
from verl_spark.rewards.spans import TokenSpan
from verl_spark.rl.row import (
    ANSWER_KEY,
    MARKS_KEY,
    SPANS_KEY,
    STEPS_KEY,
    VERIFICATION_KEY,
    Info,
    known,
    marks_of,
    row_of,
    spans_of,
    steps_of,
)
from verl_spark.rl.scoring import Facts
from verl_spark.settings import SparkSettings

PROBLEM_KEY = "spark_problem"
"""The problem as the verifier sees it."""
TOKENS_KEY = "spark_tokens"
"""Tokens of the response that the policy wrote and whose advantage counts, as runs `[[start, end], ...]`."""
KIND_KEY = "spark_kind"
"""Kind of the verifier; null for a design that asks nobody."""
FORMAT_KEY = "spark_policy_format"
"""Text format in which the steps were found."""
LENGTH_KEY, LONGEST_KEY = "spark_length", "spark_longest"
"""Tokens of the response, and of the longest one that the policy could write."""
PLACE_KEY = "spark_place"
"""Step for which the prompt was taken from the data, its dataset index and the rollout's number; null without index."""
PADDING_KEY = "spark_padding"
"""Whether this is no rollout, but one of those with which verl fills a batch."""
REFERENCE_KEY = "gts"
"""verl's own: the reference answer of the data, null without one."""

RUN_FILE = "spark_run.json"
"""In the dump's folder: `reward.spark` and what of `algorithm` decides advantages, nested as in verl's config."""

ALGORITHM_KEYS = ("adv_estimator", "norm_adv_by_std_in_grpo")


def dumped(
    settings: SparkSettings, info: Info, problem: str, mask: Sequence[int], facts: Facts, padding: bool = False
) -> dict[str, Any]:
    """The fields of one rollout; null is "not known". `mask` is its response mask. verl writes the reference."""
    return {
        **known(row_of(info)),
        STEPS_KEY: steps_of(info),
        MARKS_KEY: marks_of(info),
        SPANS_KEY: spans_of(info),
        PROBLEM_KEY: problem,
        TOKENS_KEY: runs(mask),
        KIND_KEY: settings.verifier.kind.value if settings.asks_verifier else None,
        FORMAT_KEY: settings.policy_format,
        ANSWER_KEY: info[ANSWER_KEY] or None,
        VERIFICATION_KEY: info[VERIFICATION_KEY] or None,
        LENGTH_KEY: facts.n_tokens,
        LONGEST_KEY: facts.most_tokens,
        PLACE_KEY: facts.place,
        PADDING_KEY: padding,
    }


def runs(mask: Sequence[int]) -> list[TokenSpan]:
    """The runs of tokens whose mask is not 0."""
    edges = [place for place, (a, b) in enumerate(pairwise([0, *mask, 0])) if bool(a) != bool(b)]
    return [TokenSpan(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def write_run(folder: Path, settings: SparkSettings, algorithm: Mapping[str, Any]) -> None:
    """Puts the settings of the run beside its dump."""
    run = {"reward": {"spark": settings.to_node()}, "algorithm": {key: algorithm.get(key) for key in ALGORITHM_KEYS}}
    with replacing(folder / RUN_FILE) as file:
        json.dump(run, file, indent=2)
