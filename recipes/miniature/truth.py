"""What a program knows of the rollouts that a training saw only through its reward: added to a run's steps."""

from typing import Any

from examples import chains, hacking
from examples.tasks import read_problem
from verl_spark.report.result import RunResult
from verl_spark.verification.policy_format import TAGS

METRICS = {
    "truth/accuracy": "share of the rollouts whose first answer is right",
    "truth/verdict": "share of the read verdicts that are true",
    "truth/appended": "share of the rollouts that go on after the answer",
    "truth/reward_appended": "mean reward of those; missing rewards left out",
    "truth/reward_other": "mean reward of the others",
}


def with_truth(result: RunResult, rollouts: list[dict[str, Any]]) -> RunResult:
    """The result with `METRICS` in each of its steps, from the rollouts that the run dumped."""
    by_step = dict(hacking.by_step(rollouts))
    steps = [
        {**step, **(truths(int(step["step"]), rows) if (rows := by_step.get(int(step["step"]))) else {})}
        for step in result.steps
    ]
    return result.model_copy(update={"steps": steps})


def truths(step: int, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Those of `METRICS` that a step's rollouts have."""
    said = hacking.step_of(step, rows)
    verdicts = []
    for row in rows:
        truth = chains.judge(read_problem(row["input"]), hacking.to_answer(row), TAGS)
        if row["spark_verdict"] is not None and truth is not None:
            verdicts.append(truth.verdict is bool(row["spark_verdict"]))
    found = {
        "truth/accuracy": said.accuracy,
        "truth/verdict": sum(verdicts) / len(verdicts) if verdicts else None,
        "truth/appended": said.appended,
        "truth/reward_appended": said.reward_appended,
        "truth/reward_other": said.reward_other,
    }
    return {name: round(value, 6) for name, value in found.items() if value is not None}
