"""The config of a re-scoring, and the settings under which it scores: as on verl's command line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import Field, PositiveInt, model_validator

from verl_spark.rewards.credit import REPLACEABLE
from verl_spark.rl.dump import RUN_FILE
from verl_spark.runs.config import RunConfig
from verl_spark.settings import COMPOSED, NODE, Node, SettingsError, SparkSettings, differences, without_watching
from verl_spark.verifier.engine import EngineSettings

_PRESETS = Path(__file__).parents[1] / "conf" / "reward_model"


class RewardKeys(Node):
    """verl's node `reward`, of which only our part is read."""

    spark: dict[str, Any] = Field(default_factory=dict)
    """Settings over those of the preset or the run."""


class AlgorithmKeys(Node):
    """verl's node `algorithm`, as far as a re-scoring knows it."""

    norm_adv_by_std_in_grpo: bool | None = None
    """Whether advantages are divided by their group's deviation; null is as in the run, and yes where none is known."""


class ScoreConfig(RunConfig):
    """A re-scoring."""

    output: Path = Path("outputs/score")
    """Folder for everything the run writes."""
    designs: tuple[str, ...] = ()
    """Designs to compare; empty is the one of the settings."""
    reward_model: str | None = None
    """Preset, as in training; null takes the settings of the run, which lie beside its dump."""
    reward: RewardKeys = RewardKeys()
    algorithm: AlgorithmKeys = AlgorithmKeys()
    engine: EngineSettings | None = None
    """With `--ask`: the verifier, and where and how it runs."""
    seed: int = 0
    """Decides sampled replies."""
    window: PositiveInt = 256
    """Rollouts in flight: bounds memory, and must be large enough to keep the engine busy."""
    ask: bool = False
    """Whether `engine` is asked; else the stored verifications count."""

    @model_validator(mode="after")
    def _relations(self) -> "ScoreConfig":
        if self.ask and self.engine is None:
            raise ValueError("engine: --ask needs a verifier; set engine.model=NAME and where it runs")
        if self.engine is not None and not self.ask:
            raise ValueError("engine: is asked with --ask only; add it, or leave engine out")
        return self

    def binding(self) -> dict[str, Any]:
        """The model that was asked, and its vLLM arguments; calls are known by all else that decides them."""
        return {"engine": self.engine.binding()} if self.engine else {}

    def settings(self, run: Mapping[str, Any] | None) -> dict[str, SparkSettings]:
        """Design to its settings; `run` is what lies beside the dump. Raises `SettingsError` with the cure."""
        if self.reward_model is not None:
            node = _preset(self.reward_model)
        elif run is not None:
            node = run["reward"]["spark"]
        else:
            raise SettingsError(
                [f"reward_model: no {RUN_FILE} lies beside the dump; name the preset of the run, reward_model=spark_…"]
            )
        plain: Any = OmegaConf.to_container(OmegaConf.merge(node, self.reward.spark))
        own = str(plain.get("design"))
        designs = self.designs or (own,)
        # Those of a composed reward say nothing of the designs beside it; without one among them they are refused.
        theirs = {"weights"} if COMPOSED in (own, *designs) else set()
        nodes = {
            name: {key: value for key, value in plain.items() if name == COMPOSED or key not in theirs}
            for name in designs
        }
        found = {name: SparkSettings.from_config({**node, "design": name}) for name, node in nodes.items()}
        if problems := list(self._cramped(found)):
            raise SettingsError(problems)
        return found

    def _cramped(self, settings: Mapping[str, SparkSettings]) -> Iterator[str]:
        """Why replies as long as these settings allow have no room in the engine; once, for they differ in design."""
        asking = next((one.verifier for one in settings.values() if one.asks_verifier), None)
        if self.engine and asking:
            yield from self.engine.cramped("engine", f"{NODE}.verifier.max_tokens", asking.token_limit)

    def by_deviation(self, run: Mapping[str, Any] | None) -> bool:
        """Whether advantages are divided by their group's deviation."""
        given = self.algorithm.norm_adv_by_std_in_grpo
        stored = (run or {}).get("algorithm", {}).get("norm_adv_by_std_in_grpo")
        return next((bool(value) for value in (given, stored) if value is not None), True)

    def remarks(self, run: Mapping[str, Any] | None, settings: Mapping[str, SparkSettings]) -> Iterator[str]:
        """What sets this scoring apart from the run that made the dump, designs aside."""
        if run is None:
            return
        first = next(iter(settings.values())).to_node()
        own = {"design", "weights"} if first["design"] != COMPOSED else {"design"}
        old, new = (
            {key: value for key, value in without_watching(node).items() if key not in own}
            for node in (run["reward"]["spark"], first)
        )
        if changes := differences(old, new, NODE):
            yield f"The run had other settings: {'; '.join(changes)}"
        estimator = run.get("algorithm", {}).get("adv_estimator")
        if estimator not in REPLACEABLE:
            yield f"The run's estimator was {estimator}; advantages here are those of grpo."


def _preset(name: str) -> dict[str, Any]:
    """`reward.spark` of a preset, composed as verl composes it."""
    from hydra import compose, initialize_config_module

    names = sorted(path.stem for path in _PRESETS.glob("*.yaml"))
    if name not in names:
        raise SettingsError([f"reward_model: there is no preset {name}; there are: {', '.join(names)}"])
    with initialize_config_module("verl_spark.conf", version_base=None):
        plain: Any = OmegaConf.to_container(compose(f"reward_model/{name}").reward.spark, resolve=True)
    return dict(plain)
