"""The config of a ProcessBench run: every key and its default, and what may change in an output folder."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from verl_spark.evaluation.items import ItemSettings
from verl_spark.evaluation.verifiers import Verifier
from verl_spark.evaluation.verifiers.contract import StepVerifier
from verl_spark.evaluation.verifiers.critic import Critic
from verl_spark.evaluation.verifiers.instruct import InstructVerifier
from verl_spark.evaluation.verifiers.outcome import OutcomeVerifier
from verl_spark.evaluation.verifiers.token_scores import ScorerSettings, TokenScorer, TokenScores
from verl_spark.runs.config import RunConfig
from verl_spark.settings import Node, SettingsError, Temperature
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.client import Sampling
from verl_spark.verifier.engine import Engine, EngineSettings, open_engine


class VerifierKind(str, Enum):
    """Who is measured."""

    ORM = Kind.ORM.value
    PRM = Kind.PRM.value
    PRM_COT = Kind.PRM_COT.value
    THINK_PRM = Kind.THINK_PRM.value
    INSTRUCT = "instruct"
    CRITIC = "critic"
    TOKEN_SCORES = "token_scores"


class JudgeSettings(Node):
    """The model that is measured and how it is asked."""

    kind: VerifierKind
    """`prm_cot`, `prm`, `think_prm`, `orm`: what a model of ours was trained to write. `instruct`: any model, with the
    verifier prompt of Stage I. `critic`: any model, asked for the index of the first wrong paragraph. `token_scores`: a
    discriminative PRM."""
    engine: EngineSettings | None = None
    """The model, and where and how it runs; of `token_scores` see `scorer`."""
    scorer: ScorerSettings | None = None
    """The model of `token_scores`."""
    n: PositiveInt = 1
    """Replies of which a critic's prediction is voted; the others are asked once."""
    temperature: Temperature = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of no effect at temperature 0."""
    max_tokens: PositiveInt | None = None
    """Longest reply; null is 4096, and 8192 for `think_prm` and `critic`."""
    examples: bool = True
    """Whether the prompt of `instruct` shows two worked examples."""

    def make(self) -> Verifier:
        """The verifier of these settings."""
        if self.kind is VerifierKind.INSTRUCT:
            return InstructVerifier(examples=self.examples)
        if self.kind is VerifierKind.CRITIC:
            return Critic()
        if self.kind is VerifierKind.TOKEN_SCORES:
            return TokenScores(self.scorer or ScorerSettings(model=""))
        kind = Kind(self.kind.value)
        return OutcomeVerifier() if kind is Kind.ORM else StepVerifier(kind)

    def sampling(self) -> Sampling:
        """How replies are drawn, with the default length resolved."""
        return Sampling(self.max_tokens or self.make().max_tokens, self.temperature, self.top_p)

    @property
    def model(self) -> str | None:
        """Name of the model; None where only recorded replies are read."""
        settings = self.scorer if self.kind is VerifierKind.TOKEN_SCORES else self.engine
        return settings.model if settings else None

    def open(self) -> Engine:
        """The engine, to be entered with `async with`. Raises `SettingsError` where a secret is missing."""
        if self.kind is VerifierKind.TOKEN_SCORES:
            assert self.scorer is not None, "the config refuses it without"
            return TokenScorer(self.scorer)
        assert self.engine is not None, "the config refuses it without"
        return open_named(self.engine, "verifier.engine")


def open_named(settings: EngineSettings, key: str) -> Engine:
    """The engine of the settings under `key`. Raises `SettingsError` where a secret is missing."""
    try:
        return open_engine(settings)
    except ValueError as error:
        raise SettingsError([f"{key}.{error}"]) from None


class EvalConfig(RunConfig):
    """A ProcessBench run."""

    verifier: JudgeSettings
    """Who is measured."""
    data: ItemSettings = ItemSettings()
    """What it judges."""
    replies: Path | None = None
    """JSONL file of recorded replies, `id` and `replies` (texts, or objects with `text` and `finish_reason`), with
    `subset` where ids repeat. No model is asked then. `items.jsonl` of another run is such a file."""
    training_data: tuple[str, ...] = ()
    """Files (or hub data sets) that the verifier was trained on: items whose problem is in them are named, and the
    score is given without them as well."""
    training_field: str | None = None
    """Column of the training data with the problem; null is `problem`, `prompt` or `messages`, the first there is."""
    seed: int = 0
    """Decides sampled replies and the bootstrap."""
    window: PositiveInt = 256
    """Items in flight: bounds memory, and must be large enough to keep the engines busy."""

    @model_validator(mode="after")
    def _relations(self) -> "EvalConfig":
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        judge = self.verifier
        scores = judge.kind is VerifierKind.TOKEN_SCORES
        if scores and judge.engine is not None:
            yield "verifier.engine: a model of kind=token_scores is named by verifier.scorer.model; leave engine out"
        if not scores and judge.scorer is not None:
            yield f"verifier.scorer: is read with kind=token_scores only, and kind={judge.kind.value}; leave it out"
        if self.replies is None and judge.model is None:
            name = "verifier.scorer.model" if scores else "verifier.engine.model"
            yield f"{name}: no model to ask; name it, or give recorded replies with replies=FILE"
        if judge.engine is not None and self.replies is None:
            longest = judge.sampling().max_tokens
            yield from judge.engine.cramped("verifier.engine", "verifier.max_tokens", longest)
        if judge.n > 1:
            if not judge.make().votes:
                yield f"verifier.n: votes are for kind=critic only, and kind={judge.kind.value}; set verifier.n=1"
            elif judge.temperature == 0 and self.replies is None:
                yield f"verifier.n: {judge.n} replies at temperature 0 are one and the same; raise verifier.temperature"

    def binding(self) -> dict[str, Any]:
        """The keys that a restart in the same folder must repeat, as nested plain values.

        Free are those that say where and how fast the work runs (of an engine all but the model and its vLLM
        arguments), and which items are looked at: a call is known by its texts."""
        free: dict[str, Any] = {
            **dict.fromkeys(("output", "window", "training_data", "training_field"), True),
            "data": {"subsets", "limit"},
        }
        plain = self.model_dump(mode="json", exclude=free)
        if self.verifier.engine:
            plain["verifier"]["engine"] = self.verifier.engine.binding()
        return plain
