"""The study's config: which runs there are, and how large."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from omegaconf import OmegaConf
from pydantic import Field, NonNegativeInt, PositiveInt

from verl_spark.settings import Node
from verl_spark.verification.kinds import Kind

HERE = Path(__file__).parent
TaskName = Literal["arithmetic", "clock"]
"""A task of `examples.tasks`; all but the first have a file of their own, which is put over `config.yaml`."""
SINGLE_AT_COST = "single_at_cost"
"""Data set of question (b): the method `single`, for as many verifications as the other methods need."""


class Labels(Node):
    """Stage I."""

    problems: PositiveInt
    verifications: PositiveInt
    methods: tuple[str, ...]


class PolicyName(str, Enum):
    """Where an arm starts."""

    CARELESS = "careless"
    """Forgets to carry and to borrow."""
    APPENDING = "appending"
    """Has learned to put a second, solved problem behind a share of its answers."""


class Arm(Node):
    """A way of rewarding."""

    overrides: tuple[str, ...]
    verifier: Kind | None = None
    """Kind of the reward model; null asks none."""
    policy: PolicyName = PolicyName.CARELESS
    core: bool = False


def variant(quick: bool, task: TaskName) -> list[str]:
    """What the study is beside the whole one of the first task: names of the files that are put over `config.yaml`."""
    return [task] * (task != "arithmetic") + ["quick"] * quick


class RunId(NamedTuple):
    """A run of the study, and the name of its result file."""

    what: str
    """`labels`, `prm` or `arm`."""
    name: str
    seed: int

    @property
    def file(self) -> str:
        """Of the result."""
        return f"{self.what}-{self.name}-{self.seed}.json"


class StudyConfig(Node):
    """The study: `recipes/miniature/config.yaml`."""

    task: TaskName
    seeds: PositiveInt
    seeds_of_others: NonNegativeInt
    labels: Labels
    reward_models: Annotated[tuple[tuple[str, Kind], ...], Field(min_length=1)]
    steps: PositiveInt
    held_out: PositiveInt
    at_once: PositiveInt
    arms: dict[str, Arm]

    @classmethod
    def load(cls, quick: bool = False, task: TaskName = "arithmetic") -> "StudyConfig":
        """The whole study of a task, or the quick one."""
        files = [HERE / f"{name}.yaml" for name in ("config", *variant(quick, task))]
        return cls.model_validate(OmegaConf.to_container(OmegaConf.merge(*map(OmegaConf.load, files))))

    def runs(self) -> Iterator[RunId]:
        """All runs, seed by seed, so that a study that is stopped early has whole seeds."""
        for seed in range(self.seeds):
            yield RunId("labels", "all", seed)
            for data, kind in self.reward_models:
                yield RunId("prm", f"{data}-{kind.value}", seed)
            for name, arm in self.arms.items():
                if arm.core or seed < self.seeds_of_others:
                    yield RunId("arm", name, seed)

    def sizes(self, run: RunId) -> dict[str, object]:
        """What decides the run beside its seed; a result made with other sizes is no result of this study."""
        taught = self.model_dump(mode="json", include={"labels", "reward_models"})  # the models' equal rows hang on all
        if run.what == "labels":
            return {"task": self.task, **taught["labels"]}
        if run.what == "prm":
            return {"task": self.task, **taught}
        arm = self.arms[run.name].model_dump(mode="json")
        return {
            "task": self.task,
            "steps": self.steps,
            "held_out": self.held_out,
            **arm,
            **(taught if arm["verifier"] else {}),
        }
