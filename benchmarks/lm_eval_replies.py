"""Replies with known answers for lm-evaluation-harness, without a model and without a hub: see `lm_eval_check.py`.

It writes task files over the harness's own, with the problems of local files, and serves a reply to each problem: its
official answer, the same in another spelling, or the answer of the next problem, in turn. HARNESS is the folder of the
installed harness, FOLDER a new one:

    python -m benchmarks.lm_eval_replies DATA FOLDER HARNESS --port 8000
    HF_HUB_OFFLINE=1 lm_eval --model local-chat-completions --include_path FOLDER --apply_chat_template \\
        --tasks spark_math500,spark_aime24,spark_aime25 --log_samples --output_path harness \\
        --model_args model=known,base_url=http://127.0.0.1:8000/v1/chat/completions,tokenizer_backend=None
    python -m benchmarks.lm_eval_check harness/known/samples_*.jsonl
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
import yaml
from aiohttp import web

from verl_spark.evaluation.policy.benchmarks import BenchmarkSettings, Task, read_tasks

TASKS = {"math500": "hendrycks_math/hendrycks_math500", "aime24": "aime/aime24", "aime25": "aime/aime25"}
"""The harness's task of a benchmark, in its folder `tasks`."""
COLUMNS = {"math500": ("problem", "solution"), "aime24": ("Problem", "Answer"), "aime25": ("problem", "answer")}
"""Where it looks for the problem, and for the answer: that of MATH-500 in a box."""


def spellings(tasks: list[Task]) -> dict[str, str]:
    """An answer by problem: right, right in another spelling, and that of the next problem, in turn."""
    found = {}
    for number, task in enumerate(tasks):
        other = task.reference.replace(r"\frac", r"\dfrac").replace("(", r"\left(").replace(")", r"\right)")
        following = tasks[(number + 1) % len(tasks)].reference
        found[task.problem] = (task.reference, other, following)[number % 3]
    return found


def write_tasks(tasks: list[Task], folder: Path, harness: Path) -> None:
    """A task file for each benchmark, which takes all from the harness's but the data."""
    folder.mkdir(parents=True, exist_ok=True)
    name = tasks[0].subset
    rows = folder / f"{name}.jsonl"
    problem, answer = COLUMNS[name]
    with rows.open("w") as file:
        for task in tasks:
            said = f"\\boxed{{{task.reference}}}" if answer == "solution" else task.reference
            file.write(json.dumps({problem: task.problem, answer: said}) + "\n")
    over = {
        "include": str(harness / "tasks" / f"{TASKS[name]}.yaml"),
        "task": f"spark_{name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"train": str(rows), "test": str(rows)}},
    }
    (folder / f"spark_{name}.yaml").write_text(yaml.safe_dump(over))


def app_of(answers: dict[str, str]) -> web.Application:
    """The server. The harness takes what stands between dollars for the answer, `eval math` what stands in the box."""

    async def reply(request: web.Request) -> web.Response:
        asked = (await request.json())["messages"][-1]["content"]
        known = max((problem for problem in answers if problem in asked), key=len)
        text = f"So the value is $ {answers[known]} $ and that is all. \\boxed{{{answers[known]}}}"
        return web.json_response({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", reply)
    return app


def main(
    data: Annotated[Path, typer.Argument(help="Folder with the benchmarks' files.", exists=True)],
    folder: Annotated[Path, typer.Argument(help="The task files go here.")],
    harness: Annotated[Path, typer.Argument(help="The installed package lm_eval.", exists=True)],
    port: Annotated[int, typer.Option(help="Where replies are served.")] = 8000,
) -> None:
    """Write the task files and serve replies until stopped."""
    by_name = defaultdict(list)
    for task in read_tasks(BenchmarkSettings(path=str(data), benchmarks=tuple(TASKS))).items:
        by_name[task.subset].append(task)
    answers: dict[str, str] = {}
    for tasks in by_name.values():
        write_tasks(tasks, folder.resolve(), harness.resolve())
        answers |= spellings(tasks)
    web.run_app(app_of(answers), host="127.0.0.1", port=port)


if __name__ == "__main__":
    typer.run(main)
