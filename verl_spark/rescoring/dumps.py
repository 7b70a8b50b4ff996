"""Rollouts as a training run dumped them: `trainer.rollout_data_dir`, one file for each training step.

A row that cannot be used is an error and never left out: advantages compare the rollouts of a group, and without one of
its members a group has others."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from verl_spark.rewards.chance import Place
from verl_spark.rewards.spans import TokenSpan
from verl_spark.rl.dump import (
    FORMAT_KEY,
    KIND_KEY,
    LENGTH_KEY,
    LONGEST_KEY,
    PADDING_KEY,
    PLACE_KEY,
    PROBLEM_KEY,
    REFERENCE_KEY,
    RUN_FILE,
    TOKENS_KEY,
)
from verl_spark.rl.rollout_key import RolloutKey
from verl_spark.rl.row import CAUSE_KEYS, MARKS_KEY, SPANS_KEY
from verl_spark.rl.scoring import Facts
from verl_spark.runs.problems import BadRowError
from verl_spark.runs.rows import BadRow, Row, SourceError, SourceSettings, read_rows
from verl_spark.settings import messages
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading
from verl_spark.verifier.outcome import Judged, Outcome, Undecided

NAMED = 20
"""Bad rows that an error names one by one."""

_Span = tuple[NonNegativeInt, NonNegativeInt]


class _Line(BaseModel):
    """The fields that are read; all have to be there."""

    model_config = ConfigDict(frozen=True)

    output: str
    step: int
    uid: str
    problem: Annotated[str, Field(alias=PROBLEM_KEY)]
    tokens: Annotated[tuple[_Span, ...], Field(alias=TOKENS_KEY)]
    spans: Annotated[tuple[_Span, ...] | None, Field(alias=SPANS_KEY)]
    marks: Annotated[tuple[Literal[0, 1], ...] | None, Field(alias=MARKS_KEY)]
    verdict: Annotated[float | None, Field(alias="spark_verdict")]
    reward: Annotated[float, Field(alias="spark_reward")]
    missing: Annotated[float, Field(alias="spark_missing")]
    kind: Annotated[Kind | None, Field(alias=KIND_KEY)]
    policy_format: Annotated[str, Field(alias=FORMAT_KEY)]
    length: Annotated[int, Field(alias=LENGTH_KEY)]
    longest: Annotated[int, Field(alias=LONGEST_KEY)]
    place: Annotated[tuple[int, str, int] | None, Field(alias=PLACE_KEY)]
    reference: Annotated[Any, Field(alias=REFERENCE_KEY)]


_COLUMNS = (*(field.alias or name for name, field in _Line.model_fields.items()), *CAUSE_KEYS.values(), PADDING_KEY)


@dataclass(frozen=True)
class Rollout:
    """One stored rollout of a training step."""

    place: str
    """File and line."""
    step: int
    uid: RolloutKey
    problem: str
    response: str
    written: tuple[TokenSpan, ...]
    """The tokens that the policy wrote, as runs."""
    spans: tuple[TokenSpan, ...] | None
    """The tokens of the steps in the format `policy_format`; None where nobody looked, or without step structure."""
    policy_format: str
    verification: Outcome | None
    """None: the run's design did not ask about it."""
    kind: Kind | None
    """Of the verifier that was asked."""
    reward: float | None
    """What training gave it; None: missing."""
    facts: Facts
    """What a reward may go by beside the text, as far as the run knew it."""

    @property
    def group(self) -> str:
        """The prompt's group in its training step."""
        return self.uid.prompt


def dump_files(paths: Iterable[Path]) -> list[Path]:
    """The files of dumps, those of a folder in the order of their steps. Raises `SourceError` where there is none."""
    found: list[Path] = []
    for path in paths:
        files = sorted(path.glob("*.jsonl"), key=lambda file: (len(file.stem), file.stem)) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise SourceError(f"{path}: no dumped rollouts; name a trainer.rollout_data_dir, or .jsonl files of one")
        found += files
    return list(dict.fromkeys(found))


def read_steps(files: Iterable[Path]) -> Iterator[list[Rollout]]:
    """The rollouts of one training step after another, each with all of its groups, without padding. A file is read as
    a whole.

    Raises `BadRowError`, which names each row that cannot be used, and `SourceError`."""
    for file in files:
        steps: dict[int, list[Rollout]] = {}
        faults: list[str] = []
        seen: set[tuple[int, RolloutKey]] = set()
        for row in read_rows(SourceSettings(path=str(file)), _COLUMNS):
            if isinstance(row, Row) and row.values.get(PADDING_KEY):
                continue
            try:
                rollout = _rollout(row)
                if (rollout.step, rollout.uid) in seen:
                    raise _Fault("the same rollout was there before; a file holds the dump of one run")
            except _Fault as fault:
                faults.append(f"{row.place}: {fault}")
                continue
            seen.add((rollout.step, rollout.uid))
            steps.setdefault(rollout.step, []).append(rollout)
        if faults:
            more = [f"and {len(faults) - NAMED} rows more"] if len(faults) > NAMED else []
            cure = (
                "A group without one of its rollouts has other advantages, so none is left out. Rows are read as this "
                "version dumps them, with reward_model=spark_… and trainer.rollout_data_dir=FOLDER"
            )
            raise BadRowError("\n".join([*faults[:NAMED], *more, cure]))
        yield from steps.values()


def stored_run(files: Iterable[Path]) -> Mapping[str, Any] | None:
    """What the runs wrote beside their dumps, nested as in verl's config; None where nothing lies there.

    Raises `SourceError` when the folders' runs differ, or one cannot be read."""
    found: dict[Path, Any] = {}
    for path in dict.fromkeys(file.parent / RUN_FILE for file in files):
        if path.is_file():
            try:
                found[path] = json.loads(path.read_bytes())
                dict(found[path]["reward"]["spark"])
            except (ValueError, TypeError, KeyError) as error:
                raise SourceError(
                    f"{path}: not what a run writes: {error!r}; delete it and give reward_model=…"
                ) from error
    runs = list(found.items())
    for path, run in runs[1:]:
        if run != runs[0][1]:
            raise SourceError(f"{runs[0][0]} and {path} are of different runs; score them one after the other")
    return dict(runs[0][1]) if runs else None


class _Fault(Exception):
    """Why a row cannot be used."""


def _rollout(row: Row | BadRow) -> Rollout:
    if isinstance(row, BadRow):
        raise _Fault(row.reason)
    try:
        line = _Line.model_validate(row.values)
    except ValidationError as error:
        raise _Fault("; ".join(messages(error, _Line))) from None
    try:
        uid = RolloutKey.parse(line.uid)
    except ValueError as error:
        raise _Fault(f"uid: {error}") from None
    if uid.output:
        raise _Fault(f"uid: {uid} is a later output of its session; a reward belongs to the last output alone")
    for name, spans in ((TOKENS_KEY, line.tokens), (SPANS_KEY, line.spans or ())):
        edges = [edge for span in spans for edge in span]
        if edges != sorted(edges) or any(end == 0 for _, end in spans):
            raise _Fault(f"{name}: not in order")
    return Rollout(
        place=row.place,
        step=line.step,
        uid=uid,
        problem=line.problem,
        response=line.output,
        written=tuple(TokenSpan(*span) for span in line.tokens),
        spans=None if line.spans is None else tuple(TokenSpan(*span) for span in line.spans),
        policy_format=line.policy_format,
        verification=_verification(line, row.values),
        kind=line.kind,
        reward=None if line.missing else line.reward,
        facts=Facts(line.length, line.longest, _reference(line), line.place and Place(*line.place)),
    )


def _reference(line: _Line) -> str | None:
    text = "" if line.reference is None else str(line.reference)
    return text if text.strip() else None


def _verification(line: _Line, values: Mapping[str, Any]) -> Outcome | None:
    if line.verdict is not None:
        return Judged(Reading(bool(line.verdict), line.marks))
    return next((Undecided(cause) for cause, key in CAUSE_KEYS.items() if values.get(key)), None)
