"""Stock verl on the CPU platform, without any of our rewards."""

from pathlib import Path

import pytest

RULE = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    return sum(c.isdigit() for c in solution_str) / max(1, len(solution_str))
"""


@pytest.mark.e2e
@pytest.mark.full  # every run of `test_training.py` shows the same on the way
@pytest.mark.timeout(900)
def test_grpo_steps_reach_the_engine(train, tmp_path: Path) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)
    run = train(f"reward.custom_reward_function.path={rule}", "actor_rollout_ref.rollout.calculate_log_probs=True")
    assert run.returncode == 0, run.text()[-4000:]
    first, second = (metrics for metrics in run.metrics if metrics["step"] > 0)
    assert first["actor/grad_norm"] > 0
    # The engine starts on dummy weights: a small difference shows that the trainer's weights arrived, twice.
    assert max(first["training/rollout_probs_diff_mean"], second["training/rollout_probs_diff_mean"]) < 0.01
