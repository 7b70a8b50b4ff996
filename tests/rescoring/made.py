"""Rollouts of one training step with their verifications, and the dump that a run makes of them."""

import json
from functools import partial

from tests.rl.test_scoring import Ask, judged
from verl_spark.rewards.chance import Place
from verl_spark.rewards.spans import step_spans
from verl_spark.rl.dump import dumped, write_run
from verl_spark.rl.scoring import Facts, Scorer
from verl_spark.settings import SparkSettings
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import write_tags
from verl_spark.verifier.outcome import Cause, Undecided

PROBLEM = "What is two and three?"
FOUR = ["2 + 3 = 5", "5 é odd", "So 5", "Done"]
FIVE = [*FOUR, "Really"]


REFERENCE = "5"
FROM_STEP, LONGEST = 2, 200  # the step that took the prompts from the data, and the longest response


def response(bodies, more="", answer=REFERENCE):
    return write_tags(bodies, answer) + more


ROLLOUTS = [
    (response(FOUR), [1, 1, 1, 1], True),
    (response(FOUR[::-1], answer="6"), [1, 0, 1, 1], False),
    (response(FIVE), [1, 1, 1, 1, 0], False),
    (response(FOUR, "\nAnd 1 + 1 = 2."), [1, 1, 1, 1], True),  # refused by the gate
    (response(FOUR[:2]), [1, 1], True),  # fewer steps than selective and global_step allow
    (response([*FOUR, "cut"]), None, Cause.CUT),
    (response(["again", *FOUR]), [1, 1, 1, 1, 1, 1], False),  # more marks than steps
    (response(["é", *FOUR[1:]]), [0, 0, 1, 1], False),
]
"""Response, the verifier's marks, and its verdict or the cause why there is none; two groups of four."""
KEYS = [f"{uid}_{session}_0" for uid in ("a", "b") for session in range(4)]
IDS = [list(text.encode()) for text, _, _ in ROLLOUTS]
MASKS = [[1] * len(ids) for ids in IDS]
MASKS[1][20:30] = [0] * 10  # what a tool said
GATED, SHORT, CUT = 3, 4, 5
FACTS = [
    Facts(len(ids), LONGEST, REFERENCE, Place(FROM_STEP, key[0], int(key[2])))
    for key, ids in zip(KEYS, IDS, strict=True)
]


def decode(ids, skip_special_tokens=True):
    """One token a byte; 0 is no text."""
    return bytes(i for i in ids if i).decode("utf-8", "replace")


def settings(design, **more):
    kind = Kind.ORM if design == "orm" else Kind.PRM_COT
    return SparkSettings.model_validate({"design": design, "verifier": {"kind": kind}, "max_failed_share": 1, **more})


def outcome(index, kind=Kind.PRM_COT):
    _, marks, verdict = ROLLOUTS[index]
    if isinstance(verdict, Cause):
        return Undecided(verdict)
    return judged(marks, verdict, kind)


async def infos(spark):
    """What the reward loop hands on for each rollout in a run that dumps them."""
    return [
        await Scorer(spark, Ask(outcome(index, spark.verifier.kind)), dumped=True).train(
            text, PROBLEM, partial(step_spans, ids, text, decode=decode), facts
        )
        for index, ((text, _, _), ids, facts) in enumerate(zip(ROLLOUTS, IDS, FACTS, strict=True))
    ]


async def dump(folder, spark, step=1, keys=KEYS, **algorithm):
    """The dump of a training step as the trainer hook writes it; the folder."""
    write_run(folder, spark, {"adv_estimator": "grpo", **algorithm})
    lines = [
        {"input": "?", "output": text, "gts": REFERENCE, "score": 0.0, "step": step, "uid": key}
        | dumped(spark, info, PROBLEM, mask, facts)
        for key, (text, _, _), info, mask, facts in zip(keys, ROLLOUTS, await infos(spark), MASKS, FACTS, strict=True)
    ]
    (folder / f"{step}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def rows(folder):
    """The rows that `verl-spark score` wrote."""
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def by_token(runs, length):
    """Advantages of runs, token by token."""
    values = [0.0] * length
    for start, end, advantage in runs:
        values[start:end] = [advantage] * (end - start)
    return values
