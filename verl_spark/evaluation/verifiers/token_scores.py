"""A discriminative PRM: a model that gives each step a number instead of a text, read where the step ends.

Two layouts of such models: a classification head on the separator after each step, or a language model's two tokens
for right and wrong there. The scores travel as a JSON list where other engines give a text, so that they are kept,
resumed and recorded in the same way. A model with another prompt needs a verifier and an engine of its own."""

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

from pydantic import Field

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.prediction import Prediction, of_marks, unread
from verl_spark.runs.calls import digest
from verl_spark.runs.journal import Sample
from verl_spark.settings import Node, SettingsError, Share
from verl_spark.verifier.client import PromptTooLong, Reply, Sampling


class ScorerSettings(Node):
    """A token-scoring PRM, run by transformers in this process."""

    model: str
    """Folder or Hugging Face name."""
    head: Literal["token_classification", "two_tokens"] = "token_classification"
    """Where the score comes from: a classification head, or the logits of `right` and `wrong` of a language model."""
    right: str = "1"
    """Right steps: the index of the head's label, or the token."""
    wrong: str = "0"
    """The same for wrong steps."""
    separator: str = Field(default="\n", min_length=1)
    """Ends every step; the score is read at its last token. May be a special token of the model."""
    threshold: Share = 0.5
    """A step whose probability of being right is below is wrong."""
    dtype: str = "auto"
    """Of the weights."""
    device: str | None = None
    """Such as `cuda:0`; null is an accelerator if there is one."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""


@dataclass(frozen=True)
class TokenScores:
    """Steps below the threshold are wrong."""

    settings: ScorerSettings
    max_tokens: int = 1  # nothing is generated
    locates: bool = True
    votes: bool = False

    @property
    def prompt_hash(self) -> str:
        """Of what decides the scores beside the model."""
        return digest([self.settings.head, self.settings.right, self.settings.wrong, self.settings.separator])

    def request(self, item: Item) -> str:
        """Problem and steps as JSON, for `TokenScorer`."""
        return json.dumps([item.problem, *item.steps])

    def predict(self, item: Item, replies: Sequence[Sample]) -> Prediction:
        """The first step whose score is below the threshold."""
        try:
            scores = json.loads(replies[0].text)
        except ValueError:
            scores = None
        if not isinstance(scores, list) or not all(isinstance(score, float | int) for score in scores):
            return unread(cut=False)
        return of_marks([int(score >= self.settings.threshold) for score in scores], len(item.steps))


class TokenScorer:
    """The engine of `TokenScores`: the score of every step, one item at a time."""

    def __init__(self, settings: ScorerSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()

    async def __aenter__(self) -> "TokenScorer":
        """Loads the model. Raises `SettingsError` for one that cannot be loaded, or not with these settings."""
        try:
            self._load()
        except (OSError, ValueError) as error:  # what transformers raises
            raise SettingsError([f"verifier.scorer: {self._settings.model}: {error}"]) from error
        return self

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

        chosen = self._settings
        heads = {"token_classification": AutoModelForTokenClassification, "two_tokens": AutoModelForCausalLM}
        options = {"trust_remote_code": chosen.trust_remote_code}
        device = chosen.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(chosen.model, **options)
        model = heads[chosen.head].from_pretrained(chosen.model, dtype=chosen.dtype, **options)
        self._model: Any = model.to(device).eval()
        self._columns = [self._column(name) for name in (chosen.wrong, chosen.right)]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model = None

    async def sample(self, message: str, sampling: Sampling, n: int, /) -> list[Reply]:
        """One reply, the JSON list of the steps' probabilities of being right. `sampling` and `n` are of no effect."""
        return [await asyncio.to_thread(self._score, json.loads(message))]

    def _score(self, texts: Sequence[str]) -> Reply:
        with self._lock:  # neither tokenizer nor model may be used from two threads at once
            return self._scored(*texts)

    def _scored(self, problem: str, *steps: str) -> Reply:
        import torch

        ids, ends = self._tokens(f"{problem}\n"), []
        for step in steps:
            ids += self._tokens(step) + self._tokens(self._settings.separator, special=True)
            ends.append(len(ids) - 1)
        room = getattr(self._model.config, "max_position_embeddings", len(ids))
        if len(ids) > room:
            raise PromptTooLong(f"the item's {len(ids)} tokens do not fit the {room} of the model")
        start = time.monotonic()
        with torch.inference_mode():
            logits = self._model(input_ids=torch.tensor([ids], device=self._model.device)).logits[0]
            scores = logits[ends][:, self._columns].float().softmax(-1)[:, 1].tolist()
        return Reply(json.dumps(scores), "stop", len(ids), 0, time.monotonic() - start, 1)

    def _tokens(self, text: str, special: bool = False) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"]
        return ids

    def _column(self, name: str) -> int:
        if self._settings.head == "token_classification":
            if not name.isdecimal() or int(name) >= self._model.config.num_labels:
                raise ValueError(f"{name!r} is none of the head's labels, 0 to {self._model.config.num_labels - 1}")
            return int(name)
        ids = self._tokens(name, special=True)
        if len(ids) != 1:
            raise ValueError(f"{name!r} is {len(ids)} tokens of this model; right and wrong are one token each")
        return ids[0]
