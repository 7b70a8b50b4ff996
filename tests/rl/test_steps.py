"""Step marks from the reward loop to the actor's update: every path, every design, on verl's batches in memory."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from tests.rl.made import Queue, batch_of, hook_over, nested, objects
from verl_spark.rewards.credit import MarkedStep
from verl_spark.rewards.designs import DESIGNS
from verl_spark.rl.metrics import METRICS
from verl_spark.rl.row import STEPS_KEY, TRAINING_KEYS, empty_row, info_of, spans_of, steps_of
from verl_spark.settings import SparkSettings
from verl_spark.verification.kinds import Kind

RIGHT, WRONG = True, False


def info(reward, *steps):
    """What the reward loop hands on for a rollout; a reward of None is missing."""
    row = empty_row() | {"spark_reward": reward or 0.0, f"spark_{'missing' if reward is None else 'scored'}": 1.0}
    return info_of(row, [MarkedStep(*step) for step in steps] or None)


# One prompt's group, and a padding row as verl makes it: a copy of the first row's fields, with a mask of its own.
UIDS = ["a", "a", "a", "a", "pad"]
KEYS = [f"{uid}_{i}_0" for i, uid in enumerate(UIDS)]
LENGTHS = [6, 5, 4, 3, 1]
INFOS = [
    info(1.0, (1, 3, RIGHT), (3, 5, WRONG)),
    info(0.0, (0, 2, WRONG), (2, 4, RIGHT)),
    info(1.0),
    info(None, (0, 3, RIGHT)),
    info(1.0, (1, 3, RIGHT), (3, 5, WRONG)),
]
PADDING = {KEYS[-1]: {"is_padding": True}}
MASKS = [[1] * n for n in LENGTHS[:-1]] + [[0]]

HIGH, LOW = 0.577349, -1.154699  # (1 - 2/3) and (0 - 2/3), over their deviation of 0.577350 + 1e-6
PLAIN = [[HIGH] * 6, [LOW] * 5, [HIGH] * 4, [0.0] * 3, [0.0]]
Z = 0.2 * 0.866024  # four steps of +1/2, -1/2, -1/2 and +1/2
PLAIN_DESIGNS = ("orm", "process_aware", "step_augmented", "step_average", "composed", "format", "rlvr", "random")
PINNED = dict.fromkeys(PLAIN_DESIGNS, PLAIN) | {
    "selective": [[HIGH, HIGH, HIGH, 0, 0, HIGH], [LOW, LOW, 0, 0, LOW], *PLAIN[2:]],
    "selective_half": [
        [HIGH, HIGH, HIGH, HIGH / 2, HIGH / 2, HIGH],
        [LOW, LOW, LOW / 2, LOW / 2, LOW],
        *PLAIN[2:],
    ],
    "global_step": [
        [0.8 * HIGH] * 3 + [0.8 * HIGH - Z] * 2 + [0.8 * HIGH],
        [0.8 * LOW] * 2 + [0.8 * LOW + Z] * 2 + [0.8 * LOW],
        [0.8 * HIGH] * 4,
        *PLAIN[3:],
    ],
}
STEP_DESIGNS = [name for name, design in DESIGNS.items() if design.credit.reads_steps]


def settings(design, **more):
    kind = Kind.ORM if design == "orm" else Kind.PRM_COT
    return SparkSettings.model_validate({"design": design, "verifier": {"kind": kind}, "max_failed_share": 1, **more})


class Step:
    """One step of the trainer over the rollouts above, or over those given, in the order of `keys`."""

    def __init__(self, monkeypatch, spark, infos=INFOS, masks=MASKS, keys=KEYS, order=None, **algorithm):
        order = range(len(keys)) if order is None else order
        scores = [i["spark_reward"] for i in infos]
        columns = {
            "uid": [key.split("_")[0] for key in keys],
            "extra_fields": [{"reward_extra_info": i} for i in infos],
            "response_mask": masks,
            "rm_scores": [[0.0] * (len(m) - 1) + [s * any(m)] for m, s in zip(masks, scores, strict=True)],
        }
        columns["loss_mask"] = masks
        kinds = {"response_mask": torch.int64, "loss_mask": torch.int64, "rm_scores": torch.float32}
        self.keys = [keys[i] for i in order]
        self.queue = Queue(
            {
                name: nested([column[i] for i in order], kinds[name])
                if name in kinds
                else objects(column[i] for i in order)
                for name, column in columns.items()
            }
        )
        self.batch = batch_of(self.keys, [PADDING.get(key, {}) for key in self.keys])
        self.hook = hook_over(monkeypatch, self.queue, spark, **algorithm)
        self.metrics = {}

    def run(self):
        self.hook._compute_advantage(self.batch, self.metrics)
        return self

    def of(self, name):
        """A column by key."""
        return dict(zip(self.keys, self.queue.rows(name), strict=True))


# ---- advantages


@pytest.mark.parametrize("design", sorted(DESIGNS.keys() - {"majority"}))  # whose rewards the hook makes: test_votes
def test_every_design_has_its_advantages(monkeypatch, design):
    step = Step(monkeypatch, settings(design)).run()
    for name in ("advantages", "returns"):
        for key, expected in zip(KEYS, PINNED[design], strict=True):
            assert step.of(name)[key] == pytest.approx(expected, abs=1e-5), (name, key)
        assert all(row.dtype == torch.float32 for row in step.queue.columns[name].unbind())


@pytest.mark.parametrize("estimator", ["grpo", "grpo_vectorized"])
def test_either_grpo_is_replaced(monkeypatch, estimator):
    step = Step(monkeypatch, settings("selective"), adv_estimator=estimator).run()
    assert step.of("advantages")["a_0_0"] == pytest.approx(PINNED["selective"][0], abs=1e-5)


@pytest.mark.parametrize("design", STEP_DESIGNS)
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_arrival_changes_nothing(monkeypatch, design, seed):
    order = random.Random(seed).sample(range(len(KEYS)), len(KEYS))
    straight, mixed = (Step(monkeypatch, settings(design), order=o).run() for o in (None, order))
    assert mixed.of("advantages") == straight.of("advantages")
    assert mixed.metrics == straight.metrics


@pytest.mark.parametrize("design", STEP_DESIGNS)
def test_the_reward_is_the_rows_and_not_verls_rounded_one(monkeypatch, design):
    step = Step(monkeypatch, settings(design), infos=[info(0.6), info(0.6), info(0.6), info(0.6), info(0.6)]).run()
    assert not any(a for row in step.queue.rows("advantages") for a in row)


def test_without_division_by_the_deviation_when_verl_is_told_so(monkeypatch):
    step = Step(monkeypatch, settings("selective"), norm_adv_by_std_in_grpo=False).run()
    assert step.of("advantages")["a_1_0"] == pytest.approx([-2 / 3, -2 / 3, 0, 0, -2 / 3])


@pytest.mark.parametrize("design", STEP_DESIGNS)
def test_a_mask_with_holes_is_covered_and_stays(monkeypatch, design):
    masks = [[1, 0, 1, 1, 0, 1], *MASKS[1:]]
    step = Step(monkeypatch, settings(design), masks=masks).run()
    expected = [a * m for a, m in zip(PINNED[design][0], masks[0], strict=True)]
    assert step.of("advantages")["a_0_0"] == pytest.approx(expected, abs=1e-5)
    assert step.queue.rows("response_mask") == masks


def test_tokens_that_verls_rollout_correction_took_away_get_none(monkeypatch):
    from verl.trainer.ppo.v1 import trainer_base

    verls = trainer_base.PPOTrainer._compute_advantage
    step = Step(monkeypatch, settings("selective"))

    def rejecting(self, batch, metrics):
        step.queue.columns["response_mask"] = nested([[1, 1, 0, 1, 1, 1], *MASKS[1:]], torch.int64)
        return verls(self, batch, metrics)

    monkeypatch.setattr(trainer_base.PPOTrainer, "_compute_advantage", rejecting)
    assert step.run().of("advantages")["a_0_0"] == pytest.approx([HIGH, HIGH, 0, 0, 0, HIGH], abs=1e-5)


def test_all_missing_moves_nothing(monkeypatch):
    step = Step(monkeypatch, settings("global_step", max_unreadable_share=1), infos=[info(None)] * 5).run()
    assert not any(a for row in step.queue.rows("advantages") for a in row)


@pytest.mark.parametrize("design", STEP_DESIGNS)
def test_sessions_of_several_outputs_are_refused_with_the_cure(monkeypatch, design):
    keys = [*KEYS[:-1], "a_3_1"]
    with pytest.raises(ValueError, match=r"a_3_1.*single_turn_agent.*reward\.spark\.design=process_aware"):
        Step(monkeypatch, settings(design), keys=keys).run()


def test_other_designs_take_sessions_of_several_outputs(monkeypatch):
    Step(monkeypatch, settings("process_aware"), keys=[*KEYS[:-1], "a_3_1"]).run()


def test_metrics_say_what_the_marks_did(monkeypatch):
    metrics = Step(monkeypatch, settings("selective")).run().metrics
    assert metrics["spark/credit/rollouts"] == 2  # the missing one and the padding row do not count
    assert metrics["spark/credit/silenced"] == pytest.approx(4 / 18)
    assert set(metrics) <= set(METRICS)
    assert Step(monkeypatch, settings("selective_half")).run().metrics["spark/credit/silenced"] == 0
    assert "spark/credit/rollouts" not in Step(monkeypatch, settings("process_aware")).run().metrics


# ---- the update


def updated(monkeypatch, step, fails=False):
    """The masks that verl's update sees."""
    from verl.trainer.ppo.v1 import trainer_base

    seen = {}

    def update(self, batch, metrics):
        seen.update({name: step.of(name) for name in ("response_mask", "loss_mask")})
        if fails:
            raise RuntimeError("out of memory")
        return batch

    monkeypatch.setattr(trainer_base.PPOTrainer, "_update_actor", update)
    step.run().hook._update_actor(step.batch, {})
    return seen


SPARED = dict(zip(KEYS, [[1, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1], *MASKS[2:]], strict=True))
WHOLE = dict(zip(KEYS, MASKS, strict=True))


def test_silenced_tokens_stay_in_the_update_by_default(monkeypatch):
    assert updated(monkeypatch, Step(monkeypatch, settings("selective"))) == dict.fromkeys(
        ("response_mask", "loss_mask"), WHOLE
    )


def test_silenced_tokens_are_left_out_of_the_update_when_told_and_of_nothing_else(monkeypatch):
    step = Step(monkeypatch, settings("selective", zeroed_tokens="leave_out"))
    assert updated(monkeypatch, step) == dict.fromkeys(("response_mask", "loss_mask"), SPARED)
    assert step.of("response_mask") == step.of("loss_mask") == WHOLE


def test_the_masks_come_back_after_an_update_that_failed(monkeypatch):
    step = Step(monkeypatch, settings("selective", zeroed_tokens="leave_out"))
    with pytest.raises(RuntimeError, match="out of memory"):
        updated(monkeypatch, step, fails=True)
    assert step.of("response_mask") == step.of("loss_mask") == WHOLE


def test_a_rollout_keeps_its_tokens_if_none_would_be_left(monkeypatch):
    infos = [info(1.0, (0, 6, WRONG)), *INFOS[1:]]
    step = Step(monkeypatch, settings("selective", zeroed_tokens="leave_out"), infos=infos)
    assert updated(monkeypatch, step)["response_mask"] == SPARED | {"a_0_0": [1] * 6}


def test_designs_that_silence_nothing_leave_the_update_alone(monkeypatch):
    for design in ("process_aware", "selective_half", "global_step"):
        step = Step(monkeypatch, settings(design, zeroed_tokens="leave_out"))
        assert updated(monkeypatch, step)["response_mask"] == WHOLE


# ---- from the reward loop


class ByteTokenizer:
    """One token a byte; 0 is no text."""

    def __init__(self):
        self.pad_token_id = 0

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return bytes(i for i in ids if i).decode("utf-8", "replace")


BODIES = ["eins", "zwei é", "drei", "vier"]
RESPONSE = "<think>" + "".join(f"<step>{b}</step>\n" for b in BODIES) + "</think><answer>\\boxed{5}</answer>"
IDS = [*RESPONSE.encode(), 0]


def reward_manager(monkeypatch, marks, dump=None, **spark):
    """verl's reward manager of ours, with a judge that marks the steps so, in a run that dumps rollouts there."""
    import verl.experimental.reward_loop.reward_manager  # noqa: F401  first: it registers ours when it is loaded

    from tests.rl.test_scoring import Ask, judged
    from verl_spark.rl import reward_manager

    monkeypatch.setattr(reward_manager, "RemoteJudge", lambda: Ask(judged(marks, all(marks))))
    node = settings(**spark).to_node()
    config = OmegaConf.create({"reward": {"spark": node}, "trainer": {"rollout_data_dir": dump}})
    return reward_manager.SparkPrmCot(config, ByteTokenizer(), None)


def rollout(ids, width, validation=False):
    """A response of these ids as verl's reward loop gets it: padded, with its attention mask behind a prompt's."""
    from tensordict import TensorDict
    from verl import DataProto

    mask = [1, 1, *[1] * len(ids), *[0] * (width - len(ids))]
    batch = {
        "responses": torch.tensor([[*ids, *[0] * (width - len(ids))]]),
        "attention_mask": torch.tensor([mask]),
    }
    fields = {
        "extra_info": objects([{"spark_problem": "2 + 3?", "spark_validation": validation}]),
        "reward_model": objects([{"ground_truth": "5"}]),
    }
    return DataProto(batch=TensorDict(batch, batch_size=1), non_tensor_batch=fields)


async def test_the_reward_manager_finds_the_steps_on_the_rollouts_own_tokens(monkeypatch):
    manager = reward_manager(monkeypatch, [1, 0, 1, 1], design="selective")
    said = (await manager.run_single(rollout(IDS, len(IDS) + 7)))["reward_extra_info"]
    steps = steps_of(said)
    assert [bytes(IDS[s.start : s.end]).decode() for s in steps] == [f"<step>{body}</step>" for body in BODIES]
    assert [s.correct for s in steps] == [True, False, True, True]


@pytest.mark.parametrize("dump", [None, "rollouts"])
async def test_tokens_of_steps_that_no_design_needs_are_found_for_a_dump_alone(monkeypatch, dump):
    manager = reward_manager(monkeypatch, [1, 0, 1, 1], dump, design="process_aware")
    said = (await manager.run_single(rollout(IDS, len(IDS))))["reward_extra_info"]
    found = spans_of(said) or ()
    assert [bytes(IDS[start:end]).decode() for start, end in found] == [
        f"<step>{body}</step>" for body in (BODIES if dump else ())
    ]


async def test_validation_carries_the_same_keys_and_no_steps(monkeypatch):
    manager = reward_manager(monkeypatch, [1] * 4, design="selective")
    training = await manager.run_single(rollout(IDS, len(IDS)))
    validation = await manager.run_single(rollout(IDS, len(IDS), validation=True))
    assert list(training["reward_extra_info"]) == list(validation["reward_extra_info"])
    assert steps_of(validation["reward_extra_info"]) is None
    assert STEPS_KEY in TRAINING_KEYS  # verl averages nothing of it


def test_a_colocated_reward_model_brings_the_same_as_a_streaming_one(monkeypatch):
    from tensordict import TensorDict
    from verl import DataProto

    streaming = Step(monkeypatch, settings("global_step")).run()
    step = Step(monkeypatch, settings("global_step"))

    def compute_rm_score(data):  # as verl's reward loop puts it together
        fields = {key: np.array([i[key] for i in INFOS]) for key in INFOS[0]}
        scores = {"rm_scores": torch.zeros(len(data), max(LENGTHS))}
        meta = {"reward_extra_keys": list(fields)}
        return DataProto(TensorDict(scores, batch_size=len(data)), non_tensor_batch=fields, meta_info=meta)

    step.queue.columns |= {
        "prompts": nested([[7, 7]] * len(KEYS), torch.int64),
        "responses": nested([[7] * n for n in LENGTHS], torch.int64),
        "raw_prompt": objects([[{"role": "user", "content": "2 + 3?"}]] * len(KEYS)),
        "extra_fields": objects({"turns": 1} for _ in KEYS),
    }
    step.hook.tokenizer = ByteTokenizer()
    model = SimpleNamespace(wake_up=lambda: None)
    step.hook.reward_loop_manager = SimpleNamespace(compute_rm_score=compute_rm_score, reward_model_manager=model)
    step.hook._compute_reward_colocate(step.batch)
    step.run()
    assert step.of("advantages") == streaming.of("advantages")
    assert step.metrics == streaming.metrics
    stored = step.queue.columns["extra_fields"].tolist()
    assert [s["turns"] for s in stored] == [1] * len(KEYS)
    assert [s["reward_extra_info"][STEPS_KEY] for s in stored] == [i[STEPS_KEY] for i in INFOS]
