"""Data for Stage III: RL prompts out of problems, and SFT data that teaches a policy its text format."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from verl_spark.data.parquet import MESSAGES, RowFile, SplitFiles
from verl_spark.files import is_writable
from verl_spark.runs.problems import Problem
from verl_spark.verification.policy_format import TAGS, write_tags
from verl_spark.verification.steps import answer_of, numbered_steps

_RL_SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("index", pa.int64()), ("id", pa.string()), ("source", pa.string())])),
    ]
)
_FORMAT_SCHEMA = pa.schema([("messages", MESSAGES), ("problem_id", pa.string())])


@dataclass
class Counts:
    """What was written and what was left out."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows by split, or under `train` where there is no split."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Left out, by reason."""


@dataclass(frozen=True)
class Solved:
    """A problem and one solution in numbered steps."""

    problem_id: str
    problem: str
    solution: str


class NotTaggable(ValueError):
    """A solution cannot be said in the tag format; the message is the reason, one word."""


def write_rl_prompts(
    problems: Iterable[Problem], path: Path, data_source: str, references: Mapping[str, str] | None = None
) -> Counts:
    """Writes verl's RL parquet: the problems as they are; the format instruction is added when they are used.

    `reward_model.ground_truth` is empty, which training without references does not mind. With `references` (problem
    id to answer), for validation, it is the answer, and problems without one are left out as `no_reference`."""
    counts = Counts()
    with RowFile(path, _RL_SCHEMA) as file:
        for index, problem in enumerate(problems):
            reference = "" if references is None else references.get(problem.id)
            if reference is None:
                counts.dropped["no_reference"] += 1
                continue
            file.add(
                {
                    "data_source": data_source,
                    "prompt": [{"role": "user", "content": problem.text}],
                    "ability": "math",
                    "reward_model": {"style": "rule", "ground_truth": reference},
                    "extra_info": {"index": index, "id": problem.id, "source": problem.source},
                }
            )
            counts.rows["train"] += 1
    return counts


def write_format_sft(solved: Iterable[Solved], folder: Path, seed: int, validation_share: float) -> Counts:
    """Writes `train.parquet` and `validation.parquet` below `folder`: the prompt as in RL, the solution in tags.

    Columns: `messages` (one user and one assistant turn) and `problem_id`. Left out is every solution that does not
    become a response with the same steps and answer, by the gate's reason or `no_steps`, `no_answer`, `not_utf8`,
    `other_steps`."""
    counts = Counts()
    with SplitFiles(folder, _FORMAT_SCHEMA, seed, validation_share) as files:
        for item in solved:
            try:
                response = tagged_response(item.solution)
                if not is_writable(item.problem_id, item.problem, response):
                    raise NotTaggable("not_utf8")
            except NotTaggable as fault:
                counts.dropped[str(fault)] += 1
                continue
            messages = [
                {"role": "user", "content": f"{item.problem}\n\n{TAGS.instruction()}"},
                {"role": "assistant", "content": response},
            ]
            counts.rows[files.add(item.problem_id, {"messages": messages, "problem_id": item.problem_id})] += 1
    return counts


def tagged_response(solution: str) -> str:
    """The response in the tag format that says what a solution in numbered steps says.

    Text before the first step goes into it, text after the answer line is left out. Raises `NotTaggable`."""
    spans, answer = numbered_steps(solution), answer_of(solution)
    if spans is None:
        raise NotTaggable("no_steps")
    if answer is None:
        raise NotTaggable("no_answer")
    bodies = [span.body.strip() for span in spans]
    bodies[0] = f"{solution[: spans[0].start].strip()}\n{bodies[0]}".strip()
    response = write_tags(bodies, answer)
    gate = TAGS.check(response)
    if not gate.valid:
        raise NotTaggable(gate.reason.value)
    if TAGS.step_bodies(response) != bodies or TAGS.answer(response) != answer:
        raise NotTaggable("other_steps")
    return response
