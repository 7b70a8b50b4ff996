"""A critic in the manner of ProcessBench's own protocol: tagged paragraphs, the index in the last box, votes.

The prompt is ours, so its scores are not comparable with those published for critics; the reading is the official one,
so that the same replies give the official number. That includes replies that were cut: the protocol looks for a box in
them as well."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.prediction import Prediction, unread
from verl_spark.runs.journal import Sample
from verl_spark.verification import prompts
from verl_spark.verification.boxes import flat_boxes
from verl_spark.verification.reading import is_cut

MAX_TOKENS = 8192
"""Of a critic's reply. Paper, section 6.1."""


@dataclass(frozen=True)
class Critic:
    """Names the first wrong paragraph itself."""

    max_tokens: int = MAX_TOKENS
    locates: bool = True
    votes: bool = True

    @property
    def prompt_hash(self) -> str:
        """Of the critic's prompt."""
        return prompts.prompt_hash("critic")

    def request(self, item: Item) -> str:
        """Problem and tagged paragraphs."""
        return prompts.critic_message(item.problem, item.steps)

    def predict(self, item: Item, replies: Sequence[Sample]) -> Prediction:
        """The number in the most frequent last box; of equally frequent ones the first that was seen."""
        boxes = [found[-1].strip() for reply in replies if (found := flat_boxes(reply.text))]
        if boxes:
            text, _ = Counter(boxes).most_common(1)[0]
            try:
                return Prediction(int(text))
            except ValueError:
                return unread(cut=False)
        return unread(all(is_cut(reply.finish_reason) for reply in replies))
