"""Public data sets as the files that a recipe reads.

    python recipes/problems.py DATASET FILE [--count N] [--skip N] [--references] [--source FILE]

A FILE that ends in .jsonl gets ids and problems, for Stage I; one that ends in .parquet is verl's RL file. Reference
answers are read and written only where `--references` asks for them. The problems of a data set come in the order of a
hash of their text, each once: parts with other `--skip` and `--count` are disjoint, and the same in every run. Columns
are those of the data sets on the hub, also in a local `--source`."""

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from verl_spark.cli.terminal import refusals
from verl_spark.data.builders import write_rl_prompts
from verl_spark.files import replacing
from verl_spark.runs.problems import Problem, ProblemSettings, problem_of
from verl_spark.runs.rows import BadRow, Row, SourceSettings, read_rows
from verl_spark.settings import SettingsError

Values = Mapping[str, Any]

_TEXT = ProblemSettings(path="-", text_field="text")  # the id is then a hash of the text


@dataclass(frozen=True)
class DataSet:
    """Where a data set is, and what of a row is the problem (None leaves it out) and the reference answer."""

    source: SourceSettings
    columns: tuple[str, ...]
    """Those of the problem."""
    problem: Callable[[Values], str | None]
    answer: str | None = None
    """The column of the reference, which is read only where references are asked for; None: there are none."""
    reference: Callable[[Any], str | None] = str
    """Of that column's value."""


def _skywork_reference(reward_model: Values) -> str | None:
    """A list of accepted answers, written down as a text; the first counts."""
    text = reward_model["ground_truth"]
    try:
        answers = json.loads(text)
    except ValueError:
        answers = ast.literal_eval(text)
    return str(answers[0]) if answers else None


def _eurus_problem(row: Values) -> str | None:
    """The first turn of a mathematics dialogue, without its request for a box: ours asks for another answer line."""
    if row["task"] != "Math":
        return None
    text: str = row["conversations"][0]["value"]
    return text.partition("\n\nPresent the answer in LaTex format")[0]


def _plain(path: str, split: str) -> DataSet:
    return DataSet(SourceSettings(path=path, split=split), ("problem",), lambda row: row["problem"], "answer")


def _gsm8k(split: str) -> DataSet:
    return DataSet(
        SourceSettings(path="openai/gsm8k", subset="main", split=split),
        ("question",),
        lambda row: row["question"],
        "answer",
        lambda answer: answer.rpartition("####")[2].strip().replace(",", ""),
    )


DATA_SETS: Mapping[str, DataSet] = {
    "skywork": DataSet(
        SourceSettings(path="Skywork/Skywork-OR1-RL-Data", split="math"),
        ("prompt",),
        lambda row: row["prompt"][-1]["content"],
        "reward_model",
        _skywork_reference,
    ),
    "eurus": DataSet(SourceSettings(path="PRIME-RL/Eurus-2-SFT-Data"), ("task", "conversations"), _eurus_problem),
    "gsm8k": _gsm8k("train"),
    "gsm8k_test": _gsm8k("test"),
    "math500": _plain("HuggingFaceH4/MATH-500", "test"),
    "aime24": _plain("HuggingFaceH4/aime_2024", "train"),
    "aime25": _plain("math-ai/aime25", "test"),
}


def main(
    name: Annotated[str, typer.Argument(metavar="DATASET", help=f"One of: {', '.join(DATA_SETS)}.")],
    file: Annotated[Path, typer.Argument(help="Ends in .jsonl (Stage I) or .parquet (verl's RL file).")],
    count: Annotated[int | None, typer.Option(min=1, help="So many problems; all of them if left out.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many problems before them.")] = 0,
    references: Annotated[bool, typer.Option("--references", help="Also write the reference answers.")] = False,
    source: Annotated[Path | None, typer.Option(help="Local file instead of the hub.", exists=True)] = None,
) -> None:
    """Write a part of a data set."""
    with refusals():
        written = write(name, file, count, skip, references, source)
    typer.echo(f"{file}: {written} problems")


def write(name: str, file: Path, count: int | None, skip: int, references: bool, source: Path | None) -> int:
    """Does it, and returns the number of problems written; one without a reference is left out where one is asked for.

    Raises `SettingsError` for what cannot be done."""
    if name not in DATA_SETS:
        raise SettingsError([f"there is no data set {name}; there are: {', '.join(DATA_SETS)}"])
    data = DATA_SETS[name]
    if file.suffix not in (".jsonl", ".parquet"):
        raise SettingsError([f"{file}: the file ends in .jsonl (problems) or .parquet (verl's RL file)"])
    if references and data.answer is None:
        raise SettingsError([f"{name} has no references; leave --references out"])
    found = sorted(_rows(data, source, references), key=lambda pair: pair[0].id)
    part = found[skip : None if count is None else skip + count]
    if not part or (count is not None and len(part) < count):
        wanted = "more" if count is None else f"{count} more"
        raise SettingsError([f"{name} has {len(found)} problems, and {wanted} are wanted behind {skip}; ask for fewer"])
    if file.suffix == ".parquet":
        answers = {problem.id: answer for problem, answer in part if answer} if references else None
        return write_rl_prompts((problem for problem, _ in part), file, name, answers).rows["train"]
    with replacing(file) as lines:
        for problem, answer in part:
            row = {"id": problem.id, "problem": problem.text, **({"answer": answer} if references else {})}
            lines.write(json.dumps(row) + "\n")
    return len(part)


def _rows(data: DataSet, source: Path | None, references: bool) -> Iterator[tuple[Problem, str | None]]:
    """Each problem once, with its reference where it is asked for."""
    settings = data.source if source is None else SourceSettings(path=str(source))
    column = data.answer if references else None
    columns = (*data.columns, *([column] if column else []))
    seen: set[str] = set()
    for row in read_rows(settings, columns):
        if isinstance(row, BadRow):
            raise SettingsError([f"{row.place}: {row.reason}"])
        if missing := [name for name in columns if row.values.get(name) is None]:
            raise SettingsError([f"{row.place}: {', '.join(missing)}: missing; is this the data set that was named?"])
        found = problem_of(Row(row.place, {"text": data.problem(row.values)}), _TEXT)
        if isinstance(found, Problem) and found.id not in seen:
            seen.add(found.id)
            yield found, data.reference(row.values[column]) if column else None


if __name__ == "__main__":
    typer.run(main)
