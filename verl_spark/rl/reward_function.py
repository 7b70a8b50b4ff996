"""The door for those who only swap the reward function: `reward.custom_reward_function.path=pkg://verl_spark.rl.reward_function`.

It works under verl's own reward managers. Our presets name it too, because verl takes the discriminative route
when a reward model is enabled and no reward function is set."""

from typing import Any

from verl_spark.rl.judge_actor import RemoteJudge
from verl_spark.rl.prompts import note_of
from verl_spark.rl.row import Info, reported_score
from verl_spark.rl.scoring import Scorer

_scorer: Scorer | None = None


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any],
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **_: Any,
) -> Info:
    """The reward of one rollout under verl's reward-function signature: `{"score": ..., **info}`.

    A missing reward is 0 here, since verl wants a number; the trainer hook reads `spark_missing` from the row and
    takes the rollout out of its group. Designs that credit steps are refused here: verl hands over no token ids.
    """
    scorer = await _run_scorer(reward_model_tokenizer)
    note = note_of({"extra_info": extra_info})
    if note.probe:
        info = await scorer.probe(solution_str, note.problem, str(ground_truth))
    elif note.validation:
        info = await scorer.validate(solution_str, str(ground_truth))
    else:
        info = await scorer.train(solution_str, note.problem)
    return {"score": reported_score(info), **info}


async def _run_scorer(tokenizer: Any) -> Scorer:
    """The scorer of this worker process; verl gives a reward function no place of its own to keep one."""
    global _scorer
    if _scorer is None:
        judge = RemoteJudge()
        _scorer = Scorer(await judge.settings(), judge, tokenizer)
    return _scorer
