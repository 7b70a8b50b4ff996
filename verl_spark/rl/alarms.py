"""Alarms on the metrics of a training step: a value outside its bounds, long enough, warns or ends the training.

A step without the metric (a probe between two validations) neither counts nor breaks a run of bad values. The runs
start anew when a training is resumed."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from verl_spark.settings import NODE, Alarm

COUNT = "spark/alarms"
"""The metric that counts the alarms of a step."""


class AlarmStop(RuntimeError):
    """An alarm with `action: stop` has ended the training after a step."""


class Fired(NamedTuple):
    """An alarm that goes off in a step."""

    text: str
    stop: bool


class Alarms:
    """The alarms of a run; remembers for how many values in a row each metric was out of bounds."""

    def __init__(self, alarms: Mapping[str, Alarm]) -> None:
        self._alarms = alarms
        self._in_a_row: Counter[str] = Counter()

    def check(self, metrics: Mapping[str, float], step: int) -> list[Fired]:
        """The alarms that go off with the metrics of `step`; to be called once for each step."""
        return [fired for name in self._alarms if name in metrics and (fired := self._one(name, metrics[name], step))]

    def _one(self, name: str, value: float, step: int) -> Fired | None:
        alarm = self._alarms[name]
        broken = alarm.broken(value)
        self._in_a_row[name] = self._in_a_row[name] + 1 if broken else 0
        if broken is None or self._in_a_row[name] < alarm.for_steps:
            return None
        lasting = f", {self._in_a_row[name]} values in a row" if alarm.for_steps > 1 else ""
        text = f"alarm in step {step}: {name} is {value:g}, {broken}{lasting} ({NODE}.alarms)"
        return Fired(text, alarm.action == "stop")
