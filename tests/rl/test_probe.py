"""The probe set: validation rows that the training reward judges as well, and that training never sees."""

import json
import random

import pytest
from omegaconf import OmegaConf

from tests.rl.made import Queue, hook_over
from tests.rl.test_metrics import row
from tests.rl.test_prompts import ROW
from tests.rl.test_scoring import APPENDED, GOOD, PROBLEM, Ask, judged, scorer
from verl_spark.rl.metrics import METRICS, probe_metrics
from verl_spark.rl.prompts import PromptPreparer, note_of, same_problem
from verl_spark.rl.row import KEYS, TEXT_KEYS, reported_score, row_of
from verl_spark.rl.scoring import Facts
from verl_spark.settings import SparkSettings

PROBE = frozenset({same_problem(ROW["raw_prompt"][1]["content"])})


def prepared(validation, probe=PROBE, text="What is  2 + 3?\n"):
    rows = [{**ROW, "raw_prompt": [{"role": "user", "content": text}]}]
    return PromptPreparer(list, SparkSettings(), validation, probe)(rows)[0]


def test_a_validation_row_is_a_probe_by_its_problem():
    assert note_of(prepared(True)).probe
    assert not note_of(prepared(True, text="What is 2 + 4?")).probe
    assert not note_of(prepared(True, frozenset())).probe


def test_a_training_row_that_stands_in_the_probe_is_refused_by_name():
    with pytest.raises(ValueError, match=r"training row with index 7.*probe_files.*2 \+ 3"):
        prepared(False)
    assert not note_of(prepared(False, text="What is 2 + 4?")).probe


@pytest.mark.parametrize(("reference", "correct"), [("5", 1.0), ("6", 0.0)])
@pytest.mark.parametrize("design", ["process_aware", "selective", "step_augmented"])
async def test_a_probe_has_the_training_reward_and_the_checkers_word(reference, correct, design):
    ask = Ask(judged([1, 1], True))
    solution = GOOD.replace("So 5.", "So 5.</step><step>Really.</step><step>Done.")
    ask.answer = ask.answer if design == "process_aware" else type(ask.answer)(judged([1] * 4, True))
    info = await scorer(ask, design=design).probe(solution, PROBLEM, reference)
    assert (info["acc"], info["spark_reward"], len(ask.questions)) == (correct, 1.0, 1)
    assert (info["spark_probe"], info["spark_validation"]) == (1, 1)
    assert reported_score(info) == correct  # validation stays the checker's
    assert tuple(info) == (*KEYS, *TEXT_KEYS)
    assert not any(info[key] for key in TEXT_KEYS)


@pytest.mark.parametrize("design", ["random", "majority"])
async def test_what_only_training_decides_is_missing_and_no_gap(design):
    arm = scorer(Ask(judged([1, 1], True)), design=design)
    rows = [row_of(await arm.probe(text, PROBLEM, "5")) for text in (GOOD, APPENDED)]  # the gate refuses one
    assert [(one["acc"], one["spark_missing"], one["spark_gated"]) for one in rows] == [(1, 1, 0)] * 2
    assert set(probe_metrics(rows)) == {f"spark/probe/{name}" for name in ("rollouts", "missing", "accuracy")}


async def test_the_gap_of_rlvr_is_that_of_its_gate_and_of_the_overlong_penalty():
    buffer = {"enable": True, "len": 20, "penalty_factor": 0.4}
    arm = scorer(Ask(judged([1, 1], True)), design="rlvr", overlong_buffer=buffer)
    rows = [row_of(await arm.probe(text, PROBLEM, "5", Facts(90, 100))) for text in (GOOD, APPENDED)]
    assert [one["spark_reward"] for one in rows] == pytest.approx([0.8, -0.2])
    assert probe_metrics(rows)["spark/probe/gap"] == pytest.approx(0.3 - 1)


async def test_training_reports_its_reward():
    assert reported_score(await scorer(Ask(judged([1, 1], True))).train(GOOD, PROBLEM)) == 1


def probed(acc, reward, verdict):
    states = {"missing": 1} if reward is None else {"scored": 1, "reward": reward}
    return row(acc=0, validation=1, probe=1, **states, **({} if verdict is None else {"verdict": verdict})) | {
        "acc": float(acc)
    }


RIGHT_YES, RIGHT_NO, WRONG_YES, WRONG_NO = (probed(a, v, v) for a in (1, 0) for v in (1, 0))
CUT, GATED = probed(1, None, None), probed(1, 0, None)
ROWS = [RIGHT_YES, RIGHT_YES, RIGHT_NO, WRONG_YES, WRONG_NO, WRONG_NO, WRONG_NO, CUT, GATED]


def test_reward_and_checker_side_by_side():
    metrics = probe_metrics(ROWS)
    assert metrics == {
        "spark/probe/rollouts": 9,
        "spark/probe/missing": 1,
        "spark/probe/accuracy": pytest.approx(5 / 9),
        "spark/probe/reward": pytest.approx(3 / 8),
        "spark/probe/gap": pytest.approx(3 / 8 - 4 / 8),
        "spark/probe/false_yes": pytest.approx(1 / 4),
        "spark/probe/false_no": pytest.approx(1 / 3),
    }
    assert set(metrics) <= set(METRICS)


def test_what_is_not_known_is_left_out_and_order_plays_no_part():
    assert probe_metrics([]) == {}
    assert set(probe_metrics([CUT])) == {f"spark/probe/{name}" for name in ("rollouts", "missing", "accuracy")}
    assert probe_metrics(random.sample(ROWS, len(ROWS))) == probe_metrics(ROWS)


def test_validation_metrics_gain_the_probes_and_keep_verls(monkeypatch):
    plain = row(validation=1) | {"acc": 1.0}
    rows = [plain, WRONG_YES, {**plain, "acc": 0.0}, RIGHT_NO]
    columns = {key: [one[key] for one in rows] for key in KEYS} | {"reward": [1.0, 0.0, 0.0, 1.0]}
    hook = hook_over(monkeypatch, Queue({}), SparkSettings())
    metrics = hook._val_metrics_update(["s"] * 4, list("abcd"), columns, [])
    assert metrics["spark/probe/rollouts"] == 2
    assert metrics["spark/probe/gap"] == 0
    assert (metrics["spark/probe/false_yes"], metrics["spark/probe/false_no"]) == (1, 1)
    (accuracy,) = (value for name, value in metrics.items() if name.startswith("val-core/s/acc/mean"))
    assert accuracy == 0.5
    assert not any("spark_" in name for name in metrics if "gate" not in name)


def loaded(monkeypatch, tmp_path, training):
    """The trainer's data loaders over files of problems, the probe's among them."""
    from verl.trainer.ppo.v1 import trainer_base

    def write(name, problems):
        rows = [
            {
                "prompt": [{"role": "user", "content": problem}],
                "data_source": "s",
                "reward_model": {"ground_truth": "5"},
                "extra_info": {"index": index},
            }
            for index, problem in enumerate(problems)
        ]
        (tmp_path / name).write_text("".join(json.dumps(one) + "\n" for one in rows))
        return str(tmp_path / name)

    class Loader:
        def __init__(self, dataset):
            self.dataset, self.collate_fn = dataset, list

    def init(self):
        data = self.config.data
        self.train_dataset = trainer_base.create_rl_dataset(data.train_files, data, self.tokenizer, None)
        self.val_dataset = trainer_base.create_rl_dataset(data.val_files, data, self.tokenizer, None, is_train=False)
        self.train_dataloader, self.val_dataloader = Loader(self.train_dataset), Loader(self.val_dataset)

    monkeypatch.setattr(trainer_base.PPOTrainer, "_init_dataloader", init)
    probe = write("probe.jsonl", ["What is 2 + 3?", "What is 3 + 4?"])
    hook = hook_over(monkeypatch, Queue({}), SparkSettings(probe_files=(probe,)))
    data = {
        "train_files": [write("train.jsonl", training)],
        "val_files": [write("val.jsonl", ["What is 1 + 1?"]), probe],
        "max_prompt_length": 1000,
        "filter_overlong_prompts": False,
        "cache_dir": str(tmp_path / "cache"),
    }
    hook.config = OmegaConf.create({"data": data, "trainer": {}})
    hook.tokenizer, hook.processor = (lambda text: {"input_ids": text.split()}), None
    hook._init_dataloader()
    return hook


def test_the_probe_is_found_among_the_validation_rows(monkeypatch, tmp_path):
    hook = loaded(monkeypatch, tmp_path, ["What is 9 + 9?"])
    loader = hook.val_dataloader
    rows = loader.collate_fn([loader.dataset[index] for index in range(3)])
    assert [note_of(one).probe for one in rows] == [False, True, True]


def test_before_the_first_step_a_shared_problem_is_refused(monkeypatch, tmp_path):
    with pytest.raises(
        ValueError, match=r"training row with index 1: its problem is also in reward\.spark\.probe_file"
    ):
        loaded(monkeypatch, tmp_path, ["What is 9 + 9?", "What is  3 + 4?"])
