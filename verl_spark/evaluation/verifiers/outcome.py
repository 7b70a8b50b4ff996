"""ORM: a verdict on the answer and no step, so there is no F1, but a share of right verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass

from verl_spark.evaluation.items import Item
from verl_spark.evaluation.prediction import Prediction, unread
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.runs.journal import Sample
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import is_cut, read


@dataclass(frozen=True)
class OutcomeVerifier(StepVerifier):
    """A No names no step: to guess one would be our prediction and not the model's."""

    kind: Kind = Kind.ORM
    locates: bool = False

    def predict(self, item: Item, replies: Sequence[Sample]) -> Prediction:
        """The verdict alone."""
        reply = replies[0]
        verdict = read(reply.text, self.kind, reply.finish_reason).outcome
        if verdict is None:
            return unread(is_cut(reply.finish_reason))
        return Prediction(None, None, verdict)
