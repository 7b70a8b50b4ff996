"""Who can be measured: anything that asks one text about an item and makes a prediction of the replies.

A verifier of your own needs the four attributes and two methods of `Verifier`; give it to `asking.evaluate`."""

from collections.abc import Sequence
from typing import Protocol

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.prediction import Prediction
from verl_spark.runs.journal import Sample


class Verifier(Protocol):
    """How one kind of verifier is asked and understood. It waits for nobody: asking is the engine's."""

    @property
    def prompt_hash(self) -> str:
        """Identifies the wording of its requests; part of every result."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longest reply where no other limit is set."""
        ...

    @property
    def locates(self) -> bool:
        """Whether it says which step is wrong; without that there is no F1."""
        ...

    @property
    def votes(self) -> bool:
        """Whether it makes one prediction of several replies."""
        ...

    def request(self, item: Item) -> str:
        """The text that is sent, as the engine takes it: a user turn for a language model."""
        ...

    def predict(self, item: Item, replies: Sequence[Sample]) -> Prediction:
        """What the replies come to, at least one, in their order. Never raises for what a model can write."""
        ...
