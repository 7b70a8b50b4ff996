"""The config of a run over the six benchmarks: every key and its default, and what may change in an output folder."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from verl_spark.evaluation.config import open_named
from verl_spark.evaluation.policy.benchmarks import BENCHMARKS, BenchmarkSettings
from verl_spark.runs.calls import digest
from verl_spark.runs.config import RunConfig
from verl_spark.settings import Node, Temperature
from verl_spark.verification import prompts
from verl_spark.verifier.client import Sampling
from verl_spark.verifier.engine import Engine, EngineSettings

_AS_IS = "as_is"


class PolicySettings(Node):
    """The model that is measured and how it is asked."""

    engine: EngineSettings
    """The model, and where and how it runs."""
    prompt: Literal["tags", "plain", "boxed", "as_is"] = "tags"
    """What stands behind each problem. `tags` and `plain`: the instruction of that policy format, as in RL. `boxed`: a
    plain request for a box, for models of others. `as_is`: nothing."""
    max_tokens: PositiveInt = 2048
    """Longest reply; the default is the paper's response length in RL."""

    @property
    def instruction(self) -> str:
        """The text behind each problem."""
        return "" if self.prompt == _AS_IS else prompts.policy_instruction(self.prompt)

    @property
    def prompt_hash(self) -> str:
        """Identifies the instruction."""
        return digest([]) if self.prompt == _AS_IS else prompts.prompt_hash(f"policy_{self.prompt}")

    def open(self) -> Engine:
        """The engine, to be entered with `async with`. Raises `SettingsError` where a secret is missing."""
        return open_named(self.engine, "policy.engine")


class SampledSettings(Node):
    """The replies that are drawn beside the greedy one."""

    n_contest: NonNegativeInt = 32
    """To each problem of AIME24, AIME25 and AMC23; 0 leaves them out. More may be drawn later in the same folder."""
    n: NonNegativeInt = 4
    """The same for the other benchmarks."""
    temperature: Temperature = 0.6
    """Of their sampling."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus of their sampling."""

    def size(self, benchmark: str) -> int:
        """Replies to each problem of a benchmark."""
        return self.n_contest if BENCHMARKS[benchmark].contest else self.n


class MathConfig(RunConfig):
    """A run over the six benchmarks."""

    policy: PolicySettings
    """Who is measured."""
    data: BenchmarkSettings = BenchmarkSettings()
    """What it is asked."""
    sampled: SampledSettings = SampledSettings()
    """What is drawn beside the greedy reply."""
    training_data: tuple[str, ...] = ()
    """Files (or hub data sets) that the policy was trained on: problems that are in them are named, and the score is
    given without them as well."""
    training_field: str | None = None
    """Column of the training data with the problem; null is `problem`, `prompt` or `messages`, the first there is."""
    seed: int = 0
    """Decides sampled replies and the bootstrap."""
    window: PositiveInt = 256
    """Calls in flight: bounds memory, and must be large enough to keep the engines busy."""
    checkers: PositiveInt = 4
    """Processes that check answers."""

    @model_validator(mode="after")
    def _relations(self) -> "MathConfig":
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        yield from self.policy.engine.cramped("policy.engine", "policy.max_tokens", self.policy.max_tokens)
        if self.sampled.temperature == 0 and max(self.sampled.n, self.sampled.n_contest) > 1:
            yield (
                "sampled.temperature: at 0 all replies are one and the same; raise it, or draw none with sampled.n=0 "
                "sampled.n_contest=0"
            )

    @property
    def greedy(self) -> Sampling:
        """How the greedy reply is drawn."""
        return Sampling(self.policy.max_tokens)

    @property
    def drawn(self) -> Sampling:
        """How the sampled replies are drawn."""
        return Sampling(self.policy.max_tokens, self.sampled.temperature, self.sampled.top_p)

    def binding(self) -> dict[str, Any]:
        """The keys that a restart in the same folder must repeat, as nested plain values.

        Free are those that say where and how fast the work runs, which problems are asked, and how many replies are
        drawn: a call is known by its texts."""
        free: dict[str, Any] = {
            **dict.fromkeys(("output", "window", "checkers", "training_data", "training_field"), True),
            "data": {"benchmarks", "limit"},
            "sampled": {"n", "n_contest"},
        }
        plain = self.model_dump(mode="json", exclude=free)
        plain["policy"]["engine"] = self.policy.engine.binding()
        return plain
