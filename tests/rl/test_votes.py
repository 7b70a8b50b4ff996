"""Majority votes in the trainer hook: counted when the whole group is there, in whatever order it came."""

import random

import pytest

from tests.rl.made import objects
from tests.rl.test_steps import Step, settings
from verl_spark.rewards import rule
from verl_spark.rl.metrics import METRICS
from verl_spark.rl.rollout_key import RolloutKey
from verl_spark.rl.row import ANSWER_KEY, empty_row, info_of, row_of
from verl_spark.rl.votes import Votes
from verl_spark.verification.policy_format import TAGS


class Checker:
    """The answer check without processes: numbers are equal by value, and `?` by nobody's knowledge."""

    def __init__(self, processes=1):
        self.asked = []

    def compare_all(self, pairs):
        self.asked += pairs
        return [None if "?" in answer else answer.strip("+") == label for answer, label in pairs]

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def checker(monkeypatch):
    made = Checker()
    monkeypatch.setattr("verl_spark.rl.votes.AnswerChecker", lambda processes: made)
    return made


def waiting(answer, overlong=0.0):
    """What the reward loop hands on of a rollout that passed the gate."""
    return info_of({**empty_row(), "spark_missing": 1.0, "spark_overlong": overlong}, answer=answer)


REFUSED = info_of({**empty_row(), "spark_gated": 1.0, "spark_gate_box_count": 1.0})


def counted(groups):
    """Rows by group after the vote; a group is a list of infos."""
    keys = [RolloutKey(group, i, 0) for group, infos in groups.items() for i in range(len(infos))]
    infos = Votes().counted(keys, [info for infos in groups.values() for info in infos])
    found = {}
    for key, info in zip(keys, infos, strict=True):
        found.setdefault(key.prompt, []).append(row_of(info))
    return found


def rewards(rows):
    return [None if row["spark_missing"] else row["spark_reward"] for row in rows]


def test_who_agrees_with_the_winner_gets_one_in_every_group_apart():
    rows = counted({"a": [waiting("5"), waiting("5"), waiting("6")], "b": [waiting("6"), waiting("6"), waiting("5")]})
    assert rewards(rows["a"]) == [1, 1, 0]
    assert rewards(rows["b"]) == [1, 1, 0]
    assert {row["spark_vote_share"] for row in rows["a"]} == {2 / 3}
    assert all(row["spark_scored"] for row in rows["a"])


def test_the_checker_finds_what_the_count_cannot_and_is_asked_once_a_pair(checker):
    rows = counted({"a": [waiting(answer) for answer in ("5", " 5", "+5", "+5", "5.", "7")]})
    assert rewards(rows["a"]) == [1, 1, 1, 1, 1, 0]
    assert checker.asked == [("+5", "5"), ("7", "5")]


@pytest.mark.parametrize("answers", [["5", "6"], ["5", "5", "6", "6"], [None, None]])
def test_without_a_winner_there_is_no_label_and_no_reward(answers):
    rows = counted({"a": [*map(waiting, answers), REFUSED], "b": [waiting("1")] * 3})
    assert rewards(rows["a"]) == [None] * len(answers) + [0]
    assert [row["spark_no_label"] for row in rows["a"]] == [1] * len(answers) + [0]
    assert rewards(rows["b"]) == [1, 1, 1]


def test_an_answer_that_the_check_cannot_decide_is_missing():
    (_, _, row) = counted({"a": [waiting("5"), waiting("5"), waiting("?")]})["a"]
    assert (row["spark_missing"], row["spark_unchecked"]) == (1, 1)


def test_a_rollout_without_an_answer_agrees_with_nobody():
    assert rewards(counted({"a": [waiting("5"), waiting("5"), waiting(None)]})["a"]) == [1, 1, 0]


def test_the_overlong_penalty_is_added_when_the_vote_is_known():
    rows = counted({"a": [waiting("5", -0.25), waiting("5"), waiting("6", -0.5)]})["a"]
    assert rewards(rows) == [0.75, 1.0, -0.5]
    assert [row["spark_part_outcome"] for row in rows] == [1, 1, 0]


def test_several_outputs_of_a_rollout_have_one_vote():
    keys = [RolloutKey("a", *place) for place in ((0, 0), (0, 1), (0, 2), (1, 0), (2, 0))]
    infos = Votes().counted(keys, [waiting(answer) for answer in ("6", "6", "6", "5", "5")])
    assert rewards(map(row_of, infos)) == [0, 0, 0, 1, 1]


# ---- in the hook

INFOS = [waiting("5"), waiting("6"), waiting("5"), REFUSED, waiting("5")]  # the last is padding
DEVIATION = 1 / 3**0.5  # of four rewards 1, 0, 1, 0


def step(monkeypatch, infos=INFOS, order=None, **spark):
    return Step(monkeypatch, settings("majority", **spark), infos=infos, order=order).run()


def test_the_hook_gives_the_reward_to_verls_estimator_and_to_its_metrics(monkeypatch):
    found = step(monkeypatch)
    sums = {key: sum(row) for key, row in found.of("rm_scores").items()}
    assert sums == {"a_0_0": 1, "a_1_0": 0, "a_2_0": 1, "a_3_0": 0, "pad_4_0": 0}
    assert [row[-1] for row in found.queue.rows("rm_scores")] == [1, 0, 1, 0, 0]
    expected = 0.5 / (DEVIATION + 1e-6)
    for key, sign in (("a_0_0", 1), ("a_1_0", -1), ("a_2_0", 1), ("a_3_0", -1), ("pad_4_0", 0)):
        assert found.of("advantages")[key] == pytest.approx([sign * expected] * len(found.of("advantages")[key]))
    assert set(found.metrics) <= set(METRICS)
    assert found.metrics["spark/vote/share/mean"] == 0.5
    assert (found.metrics["spark/scored"], found.metrics["spark/gated"]) == (3, 1)
    assert found.metrics["spark/called"] == found.metrics["spark/missing"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_changes_nothing(monkeypatch, seed):
    order = random.Random(seed).sample(range(len(INFOS)), len(INFOS))
    straight, mixed = (step(monkeypatch, order=o) for o in (None, order))
    assert mixed.metrics == straight.metrics
    assert mixed.of("advantages") == straight.of("advantages")
    assert mixed.of("rm_scores") == straight.of("rm_scores")


def test_a_tie_moves_nothing(monkeypatch):
    found = step(monkeypatch, [waiting("5"), waiting("6"), waiting("5"), waiting("6"), waiting("5")])
    assert not any(a for row in found.queue.rows("advantages") for a in row)
    assert found.metrics["spark/missing"] == found.metrics["spark/missing/no_label"] == 4


def test_dumped_rollouts_carry_their_answer_and_reward(monkeypatch, tmp_path):
    from verl.trainer.ppo.v1 import trainer_base

    def log(self, batch, timing, folder):
        self._dump_generations([], [], [], [], {"uid": batch.keys}, folder)

    dumped = {}
    monkeypatch.setattr(trainer_base.PPOTrainer, "_log_rollout_data", log)
    monkeypatch.setattr(trainer_base.PPOTrainer, "_dump_generations", lambda *args: dumped.update(args[-2]))
    found = step(monkeypatch)
    found.hook.config.trainer.rollout_data_dir = str(tmp_path)
    found.queue.columns["extra_info"] = objects([{"spark_problem": "?", "spark_validation": False}] * len(INFOS))
    found.hook._log_rollout_data(found.batch, {}, str(tmp_path))
    assert dumped[ANSWER_KEY][:4] == ["5", "6", "5", None]
    assert dumped["spark_reward"][:4] == [1, 0, 1, 0]
    assert dumped["spark_padding"] == [False] * 4 + [True]


def test_other_designs_count_no_votes(monkeypatch):
    assert Step(monkeypatch, settings("random")).hook._votes is None


def test_the_checks_processes_end_with_the_training(monkeypatch, checker):
    from verl.trainer.ppo.v1 import trainer_base

    monkeypatch.setattr(trainer_base.PPOTrainer, "_shutdown_dump_executor", lambda self: None)
    step(monkeypatch).hook._shutdown_dump_executor()
    assert checker.closed


def test_an_answer_goes_into_the_check_as_it_was_boxed():
    text = "<answer>\\boxed{\\frac{1}{2}}</answer>"
    assert rule._equal(f"\\boxed{{{TAGS.answer(text)}}}", "0.5")
