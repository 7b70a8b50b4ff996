"""The same replies marked twice: by lm-evaluation-harness, which made them, and by `verl-spark eval math`'s checker.

The harness covers three of the six benchmarks: MATH-500 (`hendrycks_math500`, `minerva_math500`), AIME24 (`aime24`) and
AIME25 (`aime25`). Its prompts are its own, so its scores are not those of `eval math`; what can be compared is how the
same replies are marked. In an environment of its own (`pip install "lm-eval[api]"`), against the server that
`eval math` asks (harness 0.4):

    lm_eval --model local-chat-completions --tasks hendrycks_math500,aime24,aime25 --apply_chat_template \\
        --model_args model=NAME,base_url=http://localhost:8000/v1/chat/completions --log_samples --output_path harness
    python -m benchmarks.lm_eval_check harness/*/samples_*.jsonl

It prints how often both agree, and every reply on which they do not. Without a model, `lm_eval_replies.py` serves
replies with known answers; on which of them both agreed is in `benchmarks/reports/lm_eval.md`."""

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from verl_spark.evaluation.policy.answers import Marker
from verl_spark.verification.boxes import last_box


class Reply(NamedTuple):
    """A reply as the harness kept it."""

    place: str
    answer: str | None
    target: str
    right: bool
    """By the harness."""


def read(path: Path) -> list[Reply]:
    """The replies of a samples file."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Reply(f"{path.name}/{row['doc_id']}", last_box(row["resps"][0][0]), row["target"], row["exact_match"] > 0)
        for row in rows
    ]


def main(
    samples: Annotated[list[Path], typer.Argument(help="Files that lm_eval wrote with --log_samples.", exists=True)],
    processes: Annotated[int, typer.Option(help="Processes that check answers.")] = 2,
) -> None:
    """Compare the harness's marks with ours."""
    replies = [reply for path in samples for reply in read(path)]
    marker = Marker([(reply.answer, reply.target) for reply in replies], processes)
    console = Console(highlight=False, markup=False)
    agree = 0
    for reply in replies:
        ours = marker.verdict(reply.answer, reply.target).correct
        if ours is reply.right:
            agree += 1
        else:
            console.print(
                f"{reply.place}: answer {reply.answer!r}, target {reply.target!r}: harness {reply.right}, ours {ours}"
            )
    console.print(f"{agree} of {len(replies)} replies are marked alike")


if __name__ == "__main__":
    typer.run(main)
