"""Which charts a page has: the arms against each other, and one arm in detail."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from verl_spark.report.charts import Chart, Series, lines, stacked
from verl_spark.report.groups import REWARD, Curve, Group, Point
from verl_spark.report.reading import TRAIN_LOSS, VAL_LOSS, Metrics
from verl_spark.report.tables import asked, timed
from verl_spark.rl.metrics import METRICS
from verl_spark.verifier.outcome import Cause

_MOST = 6
"""Lines of a chart with one for each finding."""
_YES, _NO, _NOT_ASKED, _OTHERS = 2, 1, 7, (0, 3, 4, 5, 6)
"""Colours of verdicts, and of what is none."""


@dataclass(frozen=True)
class Comparison:
    """The arms of one task against each other."""

    task: str
    arms: Sequence[tuple[str, int]]
    """With the place of each in the order of all arms, which decides its colour."""
    charts: Sequence[Chart]


def compared(groups: Sequence[Group]) -> list[Comparison]:
    """A comparison for each task; an arm has the same colour in all of them."""
    places = {arm: place for place, arm in enumerate(dict.fromkeys(group.arm for group in groups))}
    tasks = dict.fromkeys(group.task for group in groups)
    found = []
    for number, task in enumerate(tasks):
        arms = {places[group.arm]: group for group in groups if group.task == task}
        entries = [(group.arm, place) for place, group in arms.items()]
        found.append(Comparison(task, entries, _comparison(arms, f"task{number}-")))
    return found


def _comparison(groups: Mapping[int, Group], id: str) -> list[Chart]:
    """A line for each arm, by its place; what no arm knows has no chart."""
    accuracy = {place: group.accuracy_curve() for place, group in groups.items()}
    gaps = {place: group.against_accuracy()[2:] for place, group in groups.items()}
    on = " or ".join(dict.fromkeys(on for _, on in gaps.values()))
    sources = " or ".join(dict.fromkeys(source for curve, source in accuracy.values() if curve))
    charts = [
        lines(id + "reward", "Mean reward", _each(groups, REWARD), note=_reward_note(groups.values())),
        lines(
            id + "accuracy",
            "Accuracy on held-out problems",
            [Series(groups[place].name, curve, place) for place, (curve, _) in accuracy.items()],
            "%",
            f"By the rule-based checker, from {sources}",
        ),
        lines(
            id + "gap",
            "Reward less accuracy",
            [Series(groups[place].name, curve, place) for place, (curve, _) in gaps.items() if len(curve) > 1],
            note=f"Growing, it is the sign of hacking. {_sentence(on)}",
        ),
    ]
    if len(groups) > 1:
        charts += [
            lines(id + "yes", "Verdicts that are Yes", _each(groups, "spark/verdict_yes"), "%", "Of the read verdicts"),
            lines(id + "missing", "Missing rewards", _some(groups, "missing"), "%", "Of the rollouts", True),
            lines(id + "gated", "Refused before a call", _some(groups, "gated"), "%", "Of the rollouts", True),
            lines(
                id + "steps", "Steps of a solution", _each(groups, "spark/steps/mean"), "", "Mean, of those in steps"
            ),
        ]
    charts += [
        lines(id + "length", "Length of a response", _each(groups, "response_length/mean"), "tokens", "Mean"),
        lines(id + "calls", "Calls to the verifier", _each(groups, "spark/called"), "", "In a training step", True),
        lines(id + "time", "Time of a training step", _each(groups, "timing_s/step"), "s", "", True),
    ]
    return [chart for chart in charts if chart.series]


def detailed(group: Group, place: int) -> list[Chart]:
    """One arm, the `place`-th of the page."""
    id = f"arm{place}-"
    reward, accuracy, gap, on = group.against_accuracy()
    charts = []
    if accuracy:
        names = zip(("reward", "accuracy", "reward less accuracy"), (reward, accuracy, gap), strict=True)
        series = [Series(name, curve, colour) for colour, (name, curve) in enumerate(names)]
        charts.append(lines(id + "against", "Reward against accuracy", series, note=_sentence(on)))
    if asked(group):
        title, note = "What became of the rollouts", "Share of Yes and No, no verdict by its cause, and not asked about"
        charts.append(stacked(id + "verdicts", title, _verdicts(group), "%", note))
    found = {"gate": "Gate findings", "flags": "Flags", "missing": "Missing rewards by cause"}
    for kind, title in found.items():
        series, left = _findings(group, kind)
        note = "Share of the rollouts" + (f"; {left} rarer ones are in the table below" if left else "")
        charts.append(lines(id + kind, title, series, "%", note, zero=True))
    charts += [
        lines(
            id + "steps",
            "Steps of a solution",
            [Series("mean", _spread(group), 0)],
            "",
            "Mean; band: 5 % to 95 %",
            True,
        ),
        lines(id + "tokens", "Tokens of the calls", _tokens(group), "tokens", "In a training step", True),
        stacked(id + "seconds", "Time of a training step", _seconds(group), "s", "Parts that verl times"),
    ]
    return [chart for chart in charts if chart.series]


def training(name: str, metrics: Metrics, place: int) -> Chart:
    """The loss of an SFT training, the `place`-th of the page."""
    series = []
    for colour, (words, key) in enumerate((("training", TRAIN_LOSS), ("validation", VAL_LOSS))):
        curve = tuple(Point(step, metrics[step][key]) for step in sorted(metrics) if key in metrics[step])
        series.append(Series(words, curve, colour))
    last = ", ".join(f"{one.name} {one.curve[-1].mean:.4g}" for one in series if one.curve)
    return lines(f"training{place}", f"Loss: {name}", series, note=f"Last: {last}")


def _each(groups: Mapping[int, Group], metric: str | Callable[[Mapping[str, float]], float | None]) -> list[Series]:
    curves = {p: each.curve(metric) if isinstance(metric, str) else each.derived(metric) for p, each in groups.items()}
    return [Series(groups[place].name, curve, place) for place, curve in curves.items()]


def _some(groups: Mapping[int, Group], count: str) -> list[Series]:
    """A count as a share of the rollouts; no arm where it is 0 in all of them."""
    series = _each(groups, _per_rollout(count))
    return series if any(point.mean for one in series for point in one.curve) else []


def _per_rollout(name: str) -> Callable[[Mapping[str, float]], float | None]:
    """A count as a share of the rollouts of its step."""

    def value(step: Mapping[str, float]) -> float | None:
        rollouts, count = step.get("spark/rollouts"), step.get(f"spark/{name}")
        return count / rollouts if rollouts and count is not None else None

    return value


def _verdicts(group: Group) -> list[Series]:
    """Shares of the rollouts that add up to 1."""

    def read(step: Mapping[str, float]) -> float:
        """Rollouts with a verdict."""
        wanted = step["spark/called"] + step["spark/cached"] + step["spark/missing/too_long"]
        return wanted * (1 - step.get("spark/no_verdict", 0.0))

    def verdict(yes: bool) -> Callable[[Mapping[str, float]], float | None]:
        def value(step: Mapping[str, float]) -> float | None:
            if not step.get("spark/rollouts"):
                return None
            share = step.get("spark/verdict_yes", 0.0)
            return (share if yes else 1 - share) * read(step) / step["spark/rollouts"]

        return value

    def not_asked(step: Mapping[str, float]) -> float | None:
        if not step.get("spark/rollouts"):
            return None
        wanted = step["spark/called"] + step["spark/cached"] + step["spark/missing/too_long"]
        return 1 - wanted / step["spark/rollouts"]

    return [
        Series("Yes", group.derived(verdict(True), banded=False), _YES),
        Series("No", group.derived(verdict(False), banded=False), _NO),
        *(
            Series(cause.value.replace("_", " "), group.derived(_per_rollout(f"missing/{cause.value}"), False), colour)
            for cause, colour in zip(Cause, _OTHERS, strict=False)
        ),
        Series("not asked", group.derived(not_asked, banded=False), _NOT_ASKED),
    ]


def _findings(group: Group, kind: str) -> tuple[list[Series], int]:
    """The most frequent findings of a kind, and the number of others that occurred."""
    names = [name for name in METRICS if name.startswith(f"spark/{kind}/")]
    tops, curves = {}, {}
    for name in names:  # flags are shares already
        count = _per_rollout(name.removeprefix("spark/"))
        curve = group.curve(name, banded=False) if kind == "flags" else group.derived(count, banded=False)
        tops[name], curves[name] = max((point.mean for point in curve), default=0.0), curve
    ranked = sorted((name for name in names if tops[name]), key=lambda name: (-tops[name], name))
    series = [
        Series(name.rpartition("/")[2].replace("_", " "), curves[name], place)
        for place, name in enumerate(ranked[:_MOST])
    ]
    return series, len(ranked[_MOST:])


def _spread(group: Group) -> Curve:
    """Mean number of steps, with the percentiles of one step's solutions as its band."""
    means, low, high = (group.curve(f"spark/steps/{name}", banded=False) for name in ("mean", "p5", "p95"))
    if not len(means) == len(low) == len(high):
        return means
    return tuple(Point(m.step, m.mean, lo.mean, hi.mean) for m, lo, hi in zip(means, low, high, strict=True))


def _tokens(group: Group) -> list[Series]:
    if not asked(group):
        return []
    kinds = {"prompt": "prompt_tokens", "generated": "completion_tokens"}
    return [
        Series(name, group.curve(f"spark/verifier/{key}"), place) for place, (name, key) in enumerate(kinds.items())
    ]


def _seconds(group: Group) -> list[Series]:
    parts = timed([group])[:_MOST]
    return [
        Series(part.replace("_", " "), group.curve(f"timing_s/{part}", banded=False), place)
        for place, part in enumerate(parts)
    ]


def _reward_note(groups: Iterable[Group]) -> str:
    seeds = {len(group.results) > 1 for group in groups}
    over = {True: "over seeds", False: "over the prompts of a step, where rollouts were dumped"}
    return "Of the rollouts that have one. Band: 95 %, " + "; ".join(over[several] for several in sorted(seeds))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
