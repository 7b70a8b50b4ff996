"""Flags, suspects and alarms: from the rows and metrics of a step to what a user is told."""

import json
import logging
import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rl.made import Queue, batch_of, hook_over, nested
from tests.rl.test_metrics import CACHED, CUT, FAILED, GATED, SCORED, row
from verl_spark.rl.alarms import Alarms, AlarmStop
from verl_spark.rl.flags import raised, reasons
from verl_spark.rl.metrics import METRICS
from verl_spark.rl.row import info_of
from verl_spark.rl.suspects import most_suspicious
from verl_spark.settings import Alarm, SparkSettings

CONTRADICTED = row(scored=1, called=1, reward=1, verdict=1, steps=4, steps_correct=0.5, steps_marked=4, inconsistent=1)
REFUSED = row(scored=1, called=1, reward=0, verdict=0, steps=5, steps_correct=0.8, steps_marked=5, inconsistent=0)
MISMATCHED = row(
    missing=1, called=1, step_mismatch=1, verdict=1, steps=4, steps_marked=5, steps_correct=1, inconsistent=0
)


def test_flags_from_marks():
    assert raised(CONTRADICTED) == ("contradiction",)
    assert raised(REFUSED) == ("steps_without_verdict",)
    assert raised(MISMATCHED) == ("marks_mismatch",)
    assert raised({**REFUSED, "spark_verdict": 1.0}) == ()


def test_reasons_are_called_like_their_metrics():
    assert "missing/step_mismatch" in reasons(MISMATCHED)
    assert "missing/cut" in reasons(CUT)
    assert "gate/box_count" in reasons(GATED)
    assert not any(name.startswith("missing/") for name in reasons(FAILED))  # the network's fault
    for one in (CONTRADICTED, REFUSED, MISMATCHED, CUT, GATED):
        assert {f"spark/{name}" for name in reasons(one)} <= set(METRICS)


def test_the_most_suspicious_come_first_and_blameless_ones_not_at_all():
    blameless = row(scored=1, called=1, reward=1, verdict=1, steps=4)
    worse = {**CONTRADICTED, "spark_neutralised": 1.0}
    rows = {"a": REFUSED, "b": blameless, "c": worse, "d": CONTRADICTED}
    assert [suspect.key for suspect in most_suspicious(rows, 9)] == ["c", "d", "a"]  # of one reason: the reward
    assert [suspect.key for suspect in most_suspicious(rows, 1)] == ["c"]


@given(st.lists(st.sampled_from([SCORED, CACHED, GATED, CUT, CONTRADICTED, REFUSED, MISMATCHED])), st.randoms())
def test_the_order_of_arrival_plays_no_part(rows, chance):
    named = {f"u_{i}_0": row for i, row in enumerate(rows)}
    mixed = dict(chance.sample(list(named.items()), len(named)))
    assert most_suspicious(mixed, 5) == most_suspicious(named, 5)


# ---- alarms


def fired(alarm, values, name="spark/flags/few_steps"):
    alarms = Alarms({name: Alarm.model_validate(alarm)})
    return [bool(alarms.check({} if v is None else {name: v}, step)) for step, v in enumerate(values)]


@pytest.mark.parametrize(
    ("alarm", "values", "expected"),
    [
        ({"above": 0.5}, [0.5, 0.51, 0.2], [False, True, False]),
        ({"below": 0.5}, [0.5, 0.49, 0.7], [False, True, False]),
        ({"above": 0.8, "below": 0.2}, [0.1, 0.5, 0.9], [True, False, True]),
        ({"above": 0, "for_steps": 2}, [1, 1, 1, 0, 1, 1], [False, True, True, False, False, True]),
        ({"above": 0, "for_steps": 2}, [1, None, None, 1], [False, False, False, True]),
    ],
)
def test_an_alarm_goes_off_out_of_bounds_and_long_enough(alarm, values, expected):
    assert fired(alarm, values) == expected


def test_an_alarm_names_metric_value_threshold_and_step():
    (alarm,) = Alarms({"spark/flags/few_steps": Alarm(above=0.5)}).check({"spark/flags/few_steps": 0.75}, 12)
    for part in ("step 12", "spark/flags/few_steps", "0.75", "above 0.5", "reward.spark.alarms"):
        assert part in alarm.text


# ---- in the trainer


def watched(monkeypatch, rows, **settings):
    """The hook after a step with these rows; returns it with the step's metrics."""
    from verl.trainer.ppo.v1 import trainer_base

    monkeypatch.setattr(trainer_base.PPOTrainer, "_compute_metrics", lambda self, batch, metrics, *a, **k: None)
    monkeypatch.setattr(trainer_base.PPOTrainer, "_shutdown_dump_executor", lambda self: None)
    queue = Queue({"prompts": nested([[1, 2]], int), "responses": nested([[3, 4, 5]], int)})
    chosen = []

    def get(keys, partition_id, select_fields):
        chosen.append(keys)
        queue.columns |= {"prompts": nested([[1, 2]] * len(keys)), "responses": nested([[3, 4, 5]] * len(keys))}
        return Queue.kv_batch_get(queue, keys, partition_id, select_fields)

    queue.kv_batch_get = get
    hook = hook_over(monkeypatch, queue, SparkSettings.model_validate(settings))
    hook._alarms, hook.global_steps = Alarms(hook.spark.alarms or {}), 3
    hook.tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: f"{len(ids)} tokens")
    keys = [f"u_{i}_0" for i in range(len(rows))]
    hook._infos = {key: info_of(one) for key, one in zip(keys, rows, strict=True)}
    metrics = {"spark/flags/few_steps": 0.75}
    tags = [{} for _ in keys[:-1]] + [{"is_padding": True}]
    hook._compute_metrics(batch_of(keys, tags), metrics, {}, global_steps=3, epoch=0)
    return hook, metrics, chosen


def test_a_warning_is_logged_and_counted_and_training_goes_on(monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        hook, metrics, _ = watched(monkeypatch, [SCORED], alarms={"spark/flags/few_steps": {"above": 0.5}})
    assert "spark/flags/few_steps is 0.75, above 0.5" in caplog.text
    assert metrics["spark/alarms"] == 1
    hook.on_step_begin()


def test_a_stop_ends_training_after_the_step_with_the_reason(monkeypatch):
    alarm = {"above": 0.5, "action": "stop"}
    hook, _, _ = watched(monkeypatch, [SCORED], alarms={"spark/flags/few_steps": alarm})
    with pytest.raises(AlarmStop, match=r"alarm in step 3: spark/flags/few_steps is 0\.75, above 0\.5"):
        hook.on_step_begin()


def trained(monkeypatch, action, values, logged):
    """A training by verl's own loop, of a step for each value; `logged` gets the steps that reach the tracker."""
    from verl.trainer.ppo.v1 import trainer_base

    monkeypatch.setattr(trainer_base.PPOTrainer, "_compute_metrics", lambda self, batch, metrics, *a, **k: None)
    monkeypatch.setattr(trainer_base, "SkipManager", SimpleNamespace(init=id, set_step=id))
    tracker = SimpleNamespace(log=lambda data, step: logged.append(step))
    monkeypatch.setattr(trainer_base, "Tracking", lambda **_: tracker)
    queue = Queue({})
    queue.kv_clear = lambda keys, partition_id: None
    alarms = {"spark/flags/few_steps": {"above": 0.5, "action": action}}
    hook = hook_over(monkeypatch, queue, SparkSettings.model_validate({"alarms": alarms}))
    trainer = {"project_name": "p", "experiment_name": "e", "logger": [], "val_before_train": False, "total_epochs": 1}
    hook.config.trainer = trainer | {"save_freq": -1, "test_freq": -1}
    hook.config.global_profiler = {"steps": None, "profile_continuous_steps": False}
    hook._alarms, hook.trainer_mode, hook.global_steps = Alarms(hook.spark.alarms), "sync", 0
    hook.steps_per_epoch = hook.total_training_steps = len(values)
    hook.on_step_end = lambda: None

    def step(metrics, timing):
        metrics["spark/flags/few_steps"] = values[hook.global_steps - 1]
        return batch_of(["a_0_0"])

    hook.step = step
    hook._init_dump_executor()
    hook.fit(None)


@pytest.mark.parametrize("values", [[0.1, 0.9, 0.1], [0.1, 0.9]], ids=["steps left", "last step"])
def test_a_stop_is_the_error_of_the_run_in_whichever_step(monkeypatch, values):
    logged = []
    with pytest.raises(AlarmStop, match=r"alarm in step 2: spark/flags/few_steps is 0\.9, above 0\.5"):
        trained(monkeypatch, "stop", values, logged)
    assert logged == [1, 2]


@pytest.mark.parametrize(("action", "values"), [("warn", [0.9, 0.9]), ("stop", [0.1, 0.1])])
def test_without_a_stop_a_run_ends_without_an_error(monkeypatch, action, values):
    trained(monkeypatch, action, values, logged := [])
    assert logged == [1, 2]


def test_without_alarms_no_metric_is_added(monkeypatch):
    assert set(watched(monkeypatch, [SCORED])[1]) == {"spark/flags/few_steps"}


def test_suspects_are_kept_with_their_reasons_and_texts(monkeypatch, tmp_path):
    rows = [SCORED, CONTRADICTED, {**REFUSED, "spark_neutralised": 2.0}, GATED, CONTRADICTED]  # the last one is padding
    _, _, chosen = watched(monkeypatch, rows, suspects={"folder": str(tmp_path), "per_step": 2})
    lines = [json.loads(line) for line in (tmp_path / "3.jsonl").open()]
    assert [line["uid"] for line in lines] == ["u_2_0", "u_3_0"] == chosen[0]
    assert lines[0]["reasons"] == ["flags/steps_without_verdict", "flags/markers"]
    assert (lines[0]["input"], lines[0]["output"], lines[0]["step"]) == ("2 tokens", "3 tokens", 3)
    assert lines[0]["spark_neutralised"] == 2
    assert lines[1]["spark_verdict"] is None


def test_without_a_folder_no_text_is_fetched(monkeypatch):
    assert watched(monkeypatch, [CONTRADICTED, CUT])[2] == []


def test_a_step_that_is_repeated_replaces_its_file(monkeypatch, tmp_path):
    for _ in range(2):
        watched(monkeypatch, random.sample([CUT, REFUSED, GATED], 3), suspects={"folder": str(tmp_path)})
    assert [path.name for path in tmp_path.iterdir()] == ["3.jsonl"]


def test_alarms_may_change_when_a_training_is_resumed_and_the_design_may_not(monkeypatch, tmp_path):
    from verl.trainer.ppo.v1 import trainer_base

    monkeypatch.setattr(trainer_base.PPOTrainer, "_load_checkpoint", lambda self: None)
    hook = hook_over(monkeypatch, Queue({}), SparkSettings(alarms={"spark/no_verdict": Alarm(above=0.5)}))
    hook.global_steps, hook.config.trainer = 3, {"resume_mode": "auto", "default_local_dir": str(tmp_path)}
    stored = tmp_path / "global_step_3" / "spark.json"
    stored.parent.mkdir()
    before = SparkSettings().to_node()
    for node in (
        before,
        {key: value for key, value in before.items() if key != "alarms"},
    ):  # an older one has no alarms
        stored.write_text(json.dumps(node))
        hook._load_checkpoint()
    stored.write_text(json.dumps(before | {"design": "selective"}))
    with pytest.raises(ValueError, match=r"reward\.spark\.design"):
        hook._load_checkpoint()
