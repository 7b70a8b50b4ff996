"""Taking in the files of one RL run: metrics by step, accuracies of validation, rollouts to show.

Files are read line by line, a dump one training step after another: at full scale one is gigabytes. A last line that is
cut short is left out, since a run may be under way or was killed; anything else that cannot be read is an error."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from verl_spark.evaluation.statistics import estimate
from verl_spark.report.rollouts import Shown, key_of, pick, question, shown, told
from verl_spark.rl.dump import PADDING_KEY
from verl_spark.rl.metrics import step_metrics
from verl_spark.rl.rollout_key import RolloutKey
from verl_spark.rl.row import KEYS, NAN, Row, is_missing
from verl_spark.runs.rows import SourceError

LOW, HIGH = "report/reward/low", "report/reward/high"
"""Metrics that are ours: the 95 % interval of a step's mean reward, by a bootstrap over its prompts."""
KEPT = ("spark/", "report/", "val-core/", "timing_s/", "critic/advantages/")
KEPT_NAMES = ("response_length/mean", "actor/grad_norm", "actor/ppo_kl", "actor/pg_loss")
"""Metrics of verl and ours that are kept, by their beginning or by name."""
TRAIN_LOSS, VAL_LOSS = "train/loss", "val/loss"
"""Metrics of verl's SFT trainer."""

Metrics = dict[int, dict[str, float]]


class Dump(NamedTuple):
    """What is taken from a dump of rollouts."""

    metrics: Metrics
    rollouts: list[Shown]


class _Line(NamedTuple):
    """A line that was read, and where it begins in its file."""

    place: str
    offset: int
    values: dict[str, Any]


def read_log(files: Iterable[Path]) -> Metrics:
    """Metrics by step of verl's `file` logger; those of a later file, or line, replace earlier ones."""
    found: Metrics = defaultdict(dict)
    for file in files:
        for line in _lines(file):
            try:
                step, data = int(line.values["step"]), dict(line.values["data"])
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{line.place}: no line of verl's `file` logger: {error!r}; delete it") from error
            found[step].update({name: float(value) for name, value in data.items() if _is_known(value)})
    return dict(found)


def read_validations(files: Iterable[Path]) -> dict[int, dict[str, list[float]]]:
    """By training step: of each validation input, named by the start of its SHA-256, the accuracies of its responses.

    Responses without one are left out, and those to probe problems where there are others."""
    found: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        rows: list[tuple[int, str, float, bool]] = []
        for line in _lines(file):
            try:
                step, text, accuracy = int(line.values["step"]), str(line.values["input"]), line.values.get("acc")
            except (KeyError, TypeError, ValueError) as error:
                raise SourceError(f"{line.place}: no line of a validation dump: {error!r}; delete it") from error
            if accuracy is not None and _is_known(accuracy):
                item = sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
                rows.append((step, item, float(accuracy), line.values.get("spark_probe") == 1))
        only_probes = all(probe for *_, probe in rows)
        for step, item, value, probe in rows:
            if only_probes or not probe:
                found[step][item].append(value)
    return {step: {item: sorted(values) for item, values in items.items()} for step, items in found.items()}


def read_dump(folder: Path, most: int, report: Callable[[int], None] = lambda _: None) -> Dump:
    """The metrics of each dumped step, with the interval of its reward, and at most `most` rollouts: one half the most
    suspicious ones, the other a sample, both spread over the steps. `report` gets each step that was read."""
    files = sorted(folder.glob("*.jsonl"), key=lambda file: (len(file.stem), file.stem))
    metrics: Metrics = {}
    chosen: dict[str, tuple[Row, _Line]] = {}
    half = most // 2
    for file in files:
        rows: dict[int, dict[str, Row]] = defaultdict(dict)
        groups: dict[str, str] = {}
        offsets: dict[str, int] = {}
        for line in _lines(file):
            if line.values.get(PADDING_KEY):
                continue
            step, key, group, row = _rollout(line, len(offsets))
            rows[step][key], groups[key], offsets[key] = row, group, line.offset
        for step, found in rows.items():
            metrics[step] = step_metrics(list(found.values())) | _reward_band(found, groups)
            report(step)
            keys = pick(found, *(-(-share // len(files)) for share in (half, most - half)))
            kept = _lines_at(file, {offsets[key]: key for key in keys})
            chosen |= {key: (found[key], line) for key, line in kept.items()}
    chosen = {key: chosen[key] for key in pick({key: row for key, (row, _) in chosen.items()}, half, most - half)}
    replies = _replies(files, [line.values for _, line in chosen.values()])
    return Dump(metrics, [_shown(row, line, replies) for row, line in chosen.values()])


def kept(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are kept, sorted, with six digits."""
    return {name: float(f"{metrics[name]:.6g}") for name in sorted(metrics) if is_kept(name)}


def is_kept(name: str) -> bool:
    """Whether a metric is kept; every line that verl logs in RL has one that is."""
    return name.startswith(KEPT) or name in KEPT_NAMES


def _rollout(line: _Line, number: int) -> tuple[int, str, str, Row]:
    """Step, key, prompt group and row of a dumped rollout."""
    values = line.values
    try:
        row = {name: NAN if values[name] is None else float(values[name]) for name in KEYS}
        return int(values["step"]), key_of(values, number), RolloutKey.parse(values["uid"]).prompt, row
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{line.place}: no rollout as this version dumps it: {error!r}; delete the file, or report the run with "
            "the version that trained it"
        ) from error


def _shown(row: Row, line: _Line, replies: Mapping[bytes, str]) -> Shown:
    try:
        return shown(row, line.values, told(line.values) or replies.get(question(line.values)))
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{line.place}: no rollout as this version dumps it: {error!r}") from error


def _replies(files: Sequence[Path], lines: Iterable[Mapping[str, Any]]) -> dict[bytes, str]:
    """The verifier's replies about rollouts that got a known verdict: they are with those that were asked about."""
    owed = {question(line) for line in lines if line["spark_cached"] == 1 and told(line) is None}
    found: dict[bytes, str] = {}
    for file in files:
        for line in _lines(file) if owed else ():
            reply = told(line.values)
            if reply is not None and (asked := question(line.values)) in owed:
                owed.remove(asked)
                found[asked] = reply
    return found


def _reward_band(rows: Mapping[str, Row], groups: Mapping[str, str]) -> dict[str, float]:
    known = [key for key, row in rows.items() if not is_missing(row)]
    if not known:
        return {}
    band = estimate([rows[key]["spark_reward"] for key in known], problems=[groups[key] for key in known])
    return {LOW: band.low, HIGH: band.high}


def _lines(file: Path) -> Iterator[_Line]:
    offset, torn = 0, None
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if torn is not None:
                raise torn
            try:
                values = json.loads(raw)
                if not isinstance(values, dict):
                    raise ValueError("no JSON object")
                yield _Line(f"{file}:{number}", offset, values)
            except ValueError as error:
                torn = SourceError(f"{file}:{number}: not readable: {error}; delete the line or name another folder")
            offset += len(raw)


def _lines_at(file: Path, places: Mapping[int, str]) -> dict[str, _Line]:
    """The lines that begin at these offsets, by their keys."""
    found = {}
    with file.open("rb") as lines:
        for offset, key in places.items():
            lines.seek(offset)
            found[key] = _Line(f"{file} at byte {offset}", offset, json.loads(lines.readline()))
    return found


def _is_known(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
