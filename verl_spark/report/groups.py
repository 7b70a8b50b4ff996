"""The runs of one task and arm together: means over seeds, with intervals. Numbers only; how they look is elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from verl_spark.evaluation.statistics import Estimate, estimate, estimate_seeds, paired_seeds
from verl_spark.report.reading import HIGH, LOW
from verl_spark.report.result import RunResult
from verl_spark.runs.rows import SourceError

REWARD = "spark/reward/mean"
_Items = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Point:
    """A value at a training step, with its 95 % interval where there is one."""

    step: int
    mean: float
    low: float | None = None
    high: float | None = None


Curve = tuple[Point, ...]


@dataclass(frozen=True)
class Gain:
    """What was gained from the first to the last evaluation, over the items of both."""

    first: tuple[int, Estimate]
    """Training step and accuracy."""
    last: tuple[int, Estimate]
    difference: Estimate | None
    """Paired. None with a single evaluation, or where no item is in both."""
    left_out: int
    """Items, counted in each seed, that are not in both with as many responses, and so in no difference."""


@dataclass(frozen=True)
class Group:
    """The runs of one task and arm, by seed."""

    task: str
    arm: str
    results: tuple[RunResult, ...]

    @property
    def name(self) -> str:
        """What it is called on the page."""
        return f"{self.task}: {self.arm}" if self.task else self.arm

    @property
    def spark(self) -> Mapping[str, Any]:
        """`reward.spark` of the first seed; empty where it is not known."""
        return dict(self.results[0].settings.get("reward", {}).get("spark", {}))

    @property
    def n_steps(self) -> int:
        """Training steps, validation before the first one left out."""
        return max((int(step["step"]) for run in self.results for step in run.steps if len(step) > 1), default=0)

    @property
    def seconds(self) -> float | None:
        """Time of a run, averaged over seeds; None where a seed does not know it."""
        known = [run.seconds for run in self.results if run.seconds is not None]
        return sum(known) / len(known) if len(known) == len(self.results) else None

    def total(self, metric: str) -> float | None:
        """Sum of a metric over all steps, averaged over seeds; None if no step has it."""
        sums = [[step[metric] for step in run.steps if metric in step] for run in self.results]
        return sum(map(sum, sums)) / len(sums) if any(sums) else None

    def curve(self, metric: str, banded: bool = True) -> Curve:
        """A metric step by step. The band: over seeds, and for the reward of a single one over its prompts."""
        return self.derived(lambda step: step.get(metric), banded, (LOW, HIGH) if metric == REWARD else None)

    def derived(
        self,
        value: Callable[[Mapping[str, float]], float | None],
        banded: bool = True,
        known: tuple[str, str] | None = None,
    ) -> Curve:
        """What `value` makes of the metrics of a step, likewise; None is left out. `known`: metrics with the band of a
        single seed."""
        found: dict[int, list[float]] = {}
        bands: dict[int, tuple[float | None, float | None]] = {}
        for run in self.results:
            for step in run.steps:
                if (number := value(step)) is not None:
                    found.setdefault(int(step["step"]), []).append(number)
                    bands[int(step["step"])] = (step.get(known[0]), step.get(known[1])) if known else (None, None)
        points = []
        for step_number, values in sorted(found.items()):
            low, high = bands[step_number]
            if len(self.results) > 1:
                over = estimate(values) if banded and len(values) > 1 else None
                low, high = (over.low, over.high) if over else (None, None)
            points.append(Point(step_number, sum(values) / len(values), low, high))
        return tuple(points)

    @cached_property
    def accuracies(self) -> dict[int, Estimate]:
        """Accuracy at each evaluated training step, over the items that all seeds evaluated."""
        return {step: estimate_seeds(self._common(items)) for step, items in self._evaluations.items()}

    @cached_property
    def gain(self) -> Gain | None:
        """None without an evaluation."""
        if not self._evaluations:
            return None
        first, last = min(self._evaluations), max(self._evaluations)
        before, after = self._evaluations[first], self._evaluations[last]
        pairs = [
            {item for item in old.keys() & new.keys() if len(old[item]) == len(new[item])}
            for old, new in zip(before, after, strict=True)
        ]
        left_out = sum(
            len((old.keys() | new.keys()) - both) for old, new, both in zip(before, after, pairs, strict=True)
        )
        difference = None
        shared = set.intersection(*pairs)
        if first != last and shared:
            left_out += sum(len(both - shared) for both in pairs)
            old, new = ([{item: one[item] for item in shared} for one in each] for each in (before, after))
            difference = paired_seeds(old, new)
        ends = [(step, self.accuracies[step]) for step in (first, last)]
        return Gain(ends[0], ends[1], difference, left_out if first != last else 0)

    def accuracy_curve(self) -> tuple[Curve, str]:
        """Accuracy on held-out problems, and what it rests on; empty without any.

        Per-item results where they are stored, else what verl logged (`val-core`), averaged over data sources."""
        if self.accuracies:
            points = (Point(step, each.mean, each.low, each.high) for step, each in self.accuracies.items())
            return tuple(points), "per-item results"
        return self.derived(_logged_accuracy), "verl's val-core metrics"

    def against_accuracy(self) -> tuple[Curve, Curve, Curve, str]:
        """Reward, accuracy and their gap, and what they rest on: the probe set where there is one.

        Else the reward of training and the accuracy of validation, which are of other problems, at the steps with
        both."""
        probe = tuple(self.curve(f"spark/probe/{name}") for name in ("reward", "accuracy", "gap"))
        if probe[1]:
            return probe[0], probe[1], probe[2], "on the probe set"
        reward, (accuracy, _) = self.curve(REWARD), self.accuracy_curve()
        rewards = {point.step: point.mean for point in reward}
        gap = tuple(Point(p.step, rewards[p.step] - p.mean) for p in accuracy if p.step in rewards)
        return reward, accuracy, gap, "reward of training, accuracy of validation: no probe set"

    @cached_property
    def _evaluations(self) -> dict[int, list[_Items]]:
        """The items of all seeds, by training steps at which every seed was evaluated."""
        steps = set.intersection(*(set(run.evaluations) for run in self.results))
        return {step: [run.evaluations[step] for run in self.results] for step in sorted(steps)}

    def _common(self, items: Sequence[_Items]) -> list[_Items]:
        shared = set.intersection(*(set(one) for one in items))
        if not shared:
            raise SourceError(f"{self.name}: its seeds were evaluated on different problems; report them apart")
        return [{item: one[item] for item in shared} for one in items]


def group(results: Sequence[tuple[str, RunResult]]) -> list[Group]:
    """The results by task and arm, in the order in which they come; the text beside each says where it is from.

    Raises `SourceError` for two that are of one task, arm and seed."""
    found: dict[tuple[str, str], dict[int, tuple[str, RunResult]]] = {}
    for place, result in results:
        seeds = found.setdefault((result.task, result.arm), {})
        if result.seed in seeds:
            raise SourceError(
                f"{seeds[result.seed][0]} and {place} are both arm {result.arm}, seed {result.seed}; take one away, or "
                "give them different seeds"
            )
        seeds[result.seed] = place, result
    return [
        Group(task, arm, tuple(result for _, (_, result) in sorted(seeds.items())))
        for (task, arm), seeds in found.items()
    ]


def _logged_accuracy(step: Mapping[str, float]) -> float | None:
    values = [value for name, value in step.items() if name.startswith("val-core/") and "/acc/mean@" in name]
    return sum(values) / len(values) if values else None
