"""The config of a Stage I run: every key, its default with its source, and what may change in an output folder.

Loaded from YAML with dotted overrides; unknown keys are refused. [P] is the paper (arXiv 2512.03244), [C] the authors'
released code, [D] decided here."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from verl_spark.data.methods import METHODS, Method, get_method
from verl_spark.data.references import ReferenceSettings
from verl_spark.runs.config import RunConfig
from verl_spark.runs.problems import ProblemSettings
from verl_spark.settings import Node, Share, Temperature
from verl_spark.verifier.engine import EngineSettings


class RoleSettings(Node):
    """A model and how it is sampled."""

    engine: EngineSettings
    """The model, and where and how it runs. Roles with equal engines share one."""
    temperature: Temperature = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus of the sampling [P, C]."""
    max_tokens: PositiveInt = 8192
    """Longest reply [C]. A reply cut there is kept in the journal, but never read."""


class GeneratorSettings(RoleSettings):
    """Who writes solutions; Qwen2.5-14B-Instruct in the paper."""

    temperature: Temperature = 0.7
    """Of the generator [P, C]."""
    n: PositiveInt = 8
    """Solutions per problem, M in the paper [P]."""


class VerifierSettings(RoleSettings):
    """Who verifies solutions; Qwen3-32B in thinking mode in the paper."""

    temperature: Temperature = 0.8
    """Of the verifier, with and without references [P, C]."""
    n: PositiveInt = 16
    """Verifications per solution, N in the paper [P]."""
    examples: bool = True
    """Whether the prompt shows two worked examples; a verifier taught the format can do without."""


class CriticSettings(Node):
    """Who criticises a verification and merges the criticism into it, for the meta methods."""

    engine: EngineSettings | None = None
    """Null is the verifier's engine [C]."""
    temperature: Temperature = 0.0
    """Of critique and merge [C]."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Of no effect at temperature 0."""
    max_tokens: PositiveInt = 8192
    """Longest critique or merged verification [C]."""


class PriceSettings(Node):
    """What the work costs, in any currency; keys left out cost nothing."""

    per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    per_million_completion_tokens: float = Field(default=0.0, ge=0)
    """Price of a million generated tokens."""
    per_gpu_second: float = Field(default=0.0, ge=0)
    """Price of one GPU for one second."""
    gpus: PositiveInt = 1
    """GPUs that are paid for while a run works."""


class DataConfig(RunConfig):
    """A Stage I run."""

    problems: ProblemSettings
    """Where the problems are read."""
    generator: GeneratorSettings
    """Who writes solutions."""
    verifier: VerifierSettings
    """Who verifies them."""
    critic: CriticSettings = CriticSettings()
    """Who criticises and merges."""
    references: ReferenceSettings | None = None
    """Reference answers, for the method `reference` alone."""
    methods: tuple[str, ...] = Field(default=("step",), min_length=1)
    """Data sets to select, each by one method; several share their verifications."""
    balance: bool = False
    """Whether as many Yes as No examples are kept, by consensus label; never by a reference [D]."""
    seed: int = 0
    """Decides every sample and every pick."""
    validation_share: Share = 0.1
    """Share of the problems whose SFT rows are for validation [D]."""
    window: PositiveInt = 64
    """Problems in flight: bounds memory, and must be large enough to keep the engines busy."""
    prices: PriceSettings = PriceSettings()
    """For the cost account and `--dry-run`."""

    @property
    def critic_engine(self) -> EngineSettings:
        """The critic's engine, with the default resolved."""
        return self.critic.engine or self.verifier.engine

    @property
    def chosen(self) -> tuple[Method, ...]:
        """The methods named in `methods`."""
        return tuple(get_method(name) for name in self.methods)

    @model_validator(mode="after")
    def _relations(self) -> "DataConfig":
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        for name in self.methods:
            if name not in METHODS:
                yield f"methods: there is no method {name!r}; there are: {', '.join(METHODS)}"
            elif METHODS[name].reference and self.references is None:
                yield f"methods: {name} shows the verifier the reference answers; set references.field=COLUMN"
        if len(set(self.methods)) < len(self.methods):
            yield "methods: a name stands twice"
        counts = {"generator": self.generator.n, "verifier": self.verifier.n}
        if self.references is not None:
            counts["references"] = self.references.n
        for name, n in counts.items():
            role = self.generator if name == "generator" else self.verifier
            if role.temperature == 0 and n > 1:
                yield f"{name}.n: {n} samples at temperature 0 are one and the same; set {name}.n=1 or raise it"
        yield from self.generator.engine.cramped("generator.engine", "generator.max_tokens", self.generator.max_tokens)
        yield from self.verifier.engine.cramped("verifier.engine", "verifier.max_tokens", self.verifier.max_tokens)
        if any(METHODS[name].refined for name in self.methods if name in METHODS):
            own = "critic.engine" if self.critic.engine else "verifier.engine"
            yield from self.critic_engine.cramped(own, "critic.max_tokens", self.critic.max_tokens)

    def binding(self) -> dict[str, Any]:
        """The keys that a restart in the same folder must repeat, as nested plain values.

        A key is binding if it takes part in what is asked, of which model, or in which records are kept. Free are
        those that only say where and how fast the work runs (of an engine all but the model and its vLLM arguments)
        or what becomes of records, and three that the calls account for themselves: a higher `problems.limit` adds to
        what is there, `methods` choose among it, and a call that shows a reference carries it in its key."""
        plain = self.model_dump(mode="json", exclude=_FREE)
        engines = {"generator": self.generator.engine, "verifier": self.verifier.engine, "critic": self.critic.engine}
        for role, engine in engines.items():
            if engine:
                plain[role]["engine"] = engine.binding()
        return plain


_FREE: dict[str, Any] = {
    "output": True,
    "methods": True,
    "validation_share": True,
    "references": True,
    "window": True,
    "prices": True,
    "problems": {"limit", "on_bad_row"},
}
