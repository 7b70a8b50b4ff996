"""Folders of small RL runs, as verl and the trainer hook write them, and their results."""

import json

from tests.rescoring.made import dump, settings
from verl_spark.report.groups import group
from verl_spark.report.result import RunResult
from verl_spark.report.rollouts import Shown
from verl_spark.rl.metrics import step_metrics
from verl_spark.rl.row import KEYS

HOSTILE = [
    "<script>window.fired = 1</script>",
    "</script><img src=x onerror='window.fired = 1'>",
    "turned \u202eround\u202c, zero\u200bwidth, nul\x00, \u2028 line",
    "half \ud800 of a pair",
    "$\\frac{1}{2}$ & \\boxed{3} {{ 7 * 7 }} <!-- ",
    "long " + "x" * 100_000,
]


async def run(folder, steps=(1, 2), design="process_aware", accuracies=None, log=True):
    """A run of eight rollouts a step, with validations at the steps of `accuracies`; the folder."""
    (folder / "rollouts").mkdir(parents=True)
    for step in steps:
        await dump(folder / "rollouts", settings(design), step)
    for step, values in (accuracies or {}).items():
        validation(folder / "held_out" / f"{step}.jsonl", step, values)
    if log:
        logged(folder / "log.jsonl", {step: more(folder, step) for step in steps})
    return folder


def more(folder, step):
    """What verl logs for a dumped step."""
    return {**step_metrics(rows(folder / "rollouts" / f"{step}.jsonl")), "timing_s/step": 2.5, "actor/lr": 1e-6}


def rows(file):
    """The numbers of dumped rollouts."""
    return [
        {key: float("nan") if line[key] is None else line[key] for key in KEYS}
        for line in map(json.loads, file.read_text().splitlines())
    ]


def logged(file, metrics):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in metrics.items()))


def validation(file, step, values, **fields):
    """A validation dump: item number to the accuracies of its responses."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"input": f"problem {item}", "output": "so", "step": step, "acc": value, **fields}
        for item, found in values.items()
        for value in found
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def change(file, edit):
    """Rewrites the lines of a dump; `edit` gets each with its number and changes it."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for number, line in enumerate(lines):
        edit(number, line)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


async def hostile_run(folder, **more):
    """A run in which problems, responses and verifications are hostile."""
    await run(folder, **more)

    def edit(number, line):
        text = HOSTILE[number % len(HOSTILE)]
        line["spark_problem"] += " " + text
        line["output"] = line["output"].replace("<step>", f"<step>{text} ", 1)
        if line["spark_verification"]:
            line["spark_verification"] = text + "\n" + line["spark_verification"]

    for file in (folder / "rollouts").glob("*.jsonl"):
        change(file, edit)
    return folder


def result(arm="a", seed=0, steps=(), evaluations=None, **more):
    """A result with these metrics of steps 1, 2, …; `evaluations` are step to item to accuracies."""
    numbered = [{"step": float(number), **metrics} for number, metrics in enumerate(steps, 1)]
    made = {"settings": {}, "rollouts": [], "seconds": None, "evaluations": evaluations or {}, **more}
    return RunResult(arm=arm, seed=seed, steps=numbered, **made)


def grouped(*results):
    """The only group of these results."""
    (found,) = group([(f"file {number}", one) for number, one in enumerate(results)])
    return found


def shown(**fields):
    plain = {"step": 1, "problem": "p", "response": (("r", None),), "verdict": True, "reward": 1.0, "missing": None}
    return Shown(**{**plain, "gate": None, "flags": (), "accuracy": None, "verification": None, **fields})
