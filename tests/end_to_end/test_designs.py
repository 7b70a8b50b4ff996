"""The reward designs in verl's own trainer, for real: two steps each, held against the re-scoring of their dumps.

Every pair of a design and a serving mode, not the full product with the trainer's modes: selective x external x sync
and global step x pool x colocate_async in `make test`; with `make test-full` all others, `leave_out` and the
baselines."""

import json
import math
from collections import defaultdict
from itertools import product
from statistics import mean
from typing import Any

import pandas as pd
import pytest

from benchmarks.mock_server import serving
from tests.end_to_end.command import verl_spark
from tests.end_to_end.taught import teach_prm
from tests.end_to_end.test_training import SMALL_VERIFIER, balance, external, rollouts, spark_keys
from verl_spark.rewards.designs import get_design
from verl_spark.rewards.majority import vote
from verl_spark.rl.metrics import METRICS
from verl_spark.settings import MANAGERS
from verl_spark.verification.policy_format import TAGS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

MARKING_VERIFIER = (*SMALL_VERIFIER, "reward.spark.verifier.max_tokens=160")
"""Marks take more room than a Yes; the last of two overrides counts."""


@pytest.fixture(scope="session")
def prm(tmp_path_factory):
    """Folder of a verifier that marks such solutions by rule."""
    return teach_prm(tmp_path_factory.mktemp("prm"))


def recipe(policy, folder) -> tuple[str, ...]:
    return (
        f"actor_rollout_ref.model.path={policy}",
        "actor_rollout_ref.actor.optim.lr=1e-5",  # it shall go on writing steps
        "data.max_response_length=192",
        "reward.spark.policy_prompt=as_is",
        "algorithm.adv_estimator=grpo",
        f"trainer.rollout_data_dir={folder}/rollouts",
    )


def check(run, folder, design) -> None:
    """A run that ended well, and whose dump says so."""
    assert run.returncode == 0, run.text()[-4000:]
    check_steps(run, folder, design)


def check_steps(run, folder, design) -> None:
    """Every step's logged rewards and advantages are those that `verl-spark score` finds for the dump."""
    steps = [metrics for metrics in run.metrics if metrics["step"] > 0]
    assert len(steps) == 2
    found = scored_again(folder)
    for metrics in steps:
        assert spark_keys(metrics) <= set(METRICS)
        balance(metrics)
        lines = found[metrics["step"]]
        assert len(lines) == metrics["spark/rollouts"]
        rewards = [line["reward"] for line in lines if line["reward"] is not None]
        assert metrics["spark/reward/mean"] == pytest.approx(mean(rewards), abs=1e-6)
        advantages = [value for line in lines for _, _, value in line["advantages"]]
        assert metrics["critic/advantages/max"] == pytest.approx(max(advantages), abs=1e-4)
        assert metrics["critic/advantages/min"] == pytest.approx(min(advantages), abs=1e-4)
        if design.credit.reads_steps:
            assert metrics["spark/credit/rollouts"] == sum(line["steps"] is not None for line in lines)
            assert 0 <= metrics["spark/credit/silenced"] < 1
    marked = [line["spark_step_marks"] for line in rollouts(folder / "rollouts") if line["spark_step_marks"]]
    assert bool(marked) == design.credit.reads_steps
    for steps_of_one in marked:
        assert len(steps_of_one) >= 3
        assert [start for start, _, _ in steps_of_one[1:]] >= [end for _, end, _ in steps_of_one[:-1]]
    # Else the equalities above hold between zeros.
    assert any(metrics["critic/advantages/max"] > 0 for metrics in steps)


def scored_again(folder) -> dict[int, list[dict[str, Any]]]:
    """What the re-scoring says of a run's dump, by step, under the run's own settings."""
    verl_spark("score", folder / "rollouts", f"output={folder / 'scored'}")
    found = defaultdict(list)
    for line in map(json.loads, (folder / "scored" / "rollouts.jsonl").open()):
        (scored,) = line["designs"].values()
        found[line["step"]].append(scored)
    return found


def test_selective_with_an_external_verifier_watched_by_probe_suspects_and_alarms(train, models, policy, tmp_path):
    """The alarm that stops goes off in the last step, of which nothing may be lost."""
    validation = pd.read_parquet(models.validation)
    for name, rows in (("held_out", validation[:4]), ("probe", validation[4:8])):
        rows.to_parquet(tmp_path / f"{name}.parquet")
    with serving() as url:
        run = train(
            "reward_model=spark_prmcot_selective",
            *external(url),
            *recipe(policy, tmp_path),
            f"data.val_files={tmp_path}/held_out.parquet",
            "data.val_max_samples=-1",
            f"reward.spark.probe_files=[{tmp_path}/probe.parquet]",
            f"reward.spark.suspects.folder={tmp_path}/suspects",
            "reward.spark.alarms="
            "{spark/rollouts: {above: 15, for_steps: 2, action: stop}, spark/steps/mean: {below: 5}}",
        )
    check_steps(run, tmp_path, get_design("selective"))
    assert "the advantages of grpo are replaced by those of selective" in run.text()
    assert sum(metrics.get("spark/credit/silenced", 0.0) for metrics in run.metrics) > 0

    first, last = (metrics for metrics in run.metrics if "spark/rollouts" in metrics)
    assert run.returncode != 0
    assert "AlarmStop" in run.text()
    assert (first["spark/alarms"], last["spark/alarms"]) == (1, 2)  # the steps are four throughout
    assert last["spark/probe/rollouts"] == 4
    assert last["spark/probe/accuracy"] + last["spark/probe/gap"] == pytest.approx(last["spark/probe/reward"])
    assert "spark/probe/rollouts" not in first

    dumped = {line["uid"]: line for line in rollouts(tmp_path / "rollouts")}
    suspects = rollouts(tmp_path / "suspects")
    assert {suspect["step"] for suspect in suspects} == {1, 2}
    for suspect in suspects:
        assert suspect["reasons"]
        assert suspect["output"] == dumped[suspect["uid"]]["output"]


def test_global_step_rewards_with_a_pool_of_its_own(train, policy, prm, tmp_path):
    run = train(
        "reward_model=spark_prm",
        "reward.spark.design=global_step",
        f"reward.reward_model.model_path={prm}",
        *MARKING_VERIFIER,
        *recipe(policy, tmp_path),
        "reward.num_workers=2",
        "trainer.v1.trainer_mode=colocate_async",
    )
    check(run, tmp_path, get_design("global_step"))


@pytest.mark.full
def test_selective_with_half_discount_colocated_with_the_policy(train, policy, prm, tmp_path):
    run = train(
        "reward_model=spark_prm",
        "reward.spark.design=selective_half",
        "reward.spark.serving=colocate",
        f"reward.reward_model.model_path={prm}",
        *MARKING_VERIFIER,
        *recipe(policy, tmp_path),
    )
    check(run, tmp_path, get_design("selective_half"))


@pytest.mark.full
@pytest.mark.parametrize("design", ["step_augmented", "step_average"])
def test_shares_of_steps_as_rewards(train, policy, tmp_path, design):
    with serving() as url:
        run = train(f"reward_model=spark_prmcot_{design}", *external(url), *recipe(policy, tmp_path))
    check(run, tmp_path, get_design(design))
    scored = [line for line in rollouts(tmp_path / "rollouts") if line["spark_scored"]]
    share, verdict = (0.4, 0.6) if design == "step_augmented" else (1.0, 0.0)
    for line in scored:
        reward = share * line["spark_steps_correct"] + verdict * line["spark_verdict"]
        assert math.isclose(line["spark_reward"], reward)


@pytest.mark.full
@pytest.mark.parametrize(("preset", "kind"), [("spark_orm", "orm"), ("spark_thinkprm", "think_prm")])
def test_verifiers_of_other_kinds_on_a_server(train, policy, tmp_path, preset, kind):
    with serving(f"--kind={kind}", "--wrong-every=2") as url:
        run = train(f"reward_model={preset}", *external(url), *recipe(policy, tmp_path))
    check(run, tmp_path, get_design(MANAGERS[preset].design))
    assert {line["spark_kind"] for line in rollouts(tmp_path / "rollouts")} == {kind}


@pytest.mark.full
@pytest.mark.parametrize("design", ["selective_half", "global_step"])
def test_the_other_step_designs_with_an_external_verifier(train, policy, tmp_path, design):
    with serving() as url:
        run = train(
            f"reward_model=spark_prmcot_{design}",
            *external(url),
            *recipe(policy, tmp_path),
            "trainer.v1.trainer_mode=colocate_async",
        )
    check(run, tmp_path, get_design(design))


@pytest.mark.full
@pytest.mark.parametrize(
    ("design", "where"),
    [
        ("selective", "pool"),
        ("selective_half", "pool"),
        ("global_step", "colocate"),
        *product(("step_augmented", "step_average", "composed"), ("pool", "colocate")),
        ("process_aware", "colocate"),
    ],
)
def test_the_other_pairs_of_a_design_and_a_place_to_serve(train, policy, prm, tmp_path, design, where):
    run = train(
        "reward_model=spark_prm",
        f"reward.spark.design={design}",
        f"reward.spark.serving={where}",
        f"reward.reward_model.model_path={prm}",
        *MARKING_VERIFIER,
        *recipe(policy, tmp_path),
    )
    check(run, tmp_path, get_design(design))


@pytest.mark.full
def test_silenced_tokens_are_left_out_of_the_update(train, policy, prm, tmp_path):
    run = train(
        "reward_model=spark_prm",
        "reward.spark.design=selective",
        "reward.spark.zeroed_tokens=leave_out",
        "reward.spark.serving=colocate",
        f"reward.reward_model.model_path={prm}",
        *MARKING_VERIFIER,
        *recipe(policy, tmp_path),
    )
    check(run, tmp_path, get_design("selective"))


@pytest.mark.full
def test_a_step_design_and_an_estimator_that_reads_no_steps_are_refused_before_anything_starts(train):
    nobody = external("http://127.0.0.1:9/v1")
    run = train("reward_model=spark_prmcot_selective", *nobody, "algorithm.adv_estimator=rloo")
    assert run.returncode != 0
    assert "algorithm.adv_estimator=grpo" in run.text()
    assert run.metrics == []


@pytest.mark.full
def test_a_composed_reward_with_the_overlong_penalty(train, policy, tmp_path):
    with serving() as url:
        run = train(
            "reward_model=spark_prmcot_composed",
            "reward.spark.overlong_buffer.enable=True",
            "reward.spark.overlong_buffer.len=96",
            *external(url),
            *recipe(policy, tmp_path),
        )
    check(run, tmp_path, get_design("composed"))
    for line in rollouts(tmp_path / "rollouts"):
        if not line["spark_missing"]:
            parts = [line[f"spark_part_{part}"] for part in ("format", "process", "outcome")]
            assert math.isclose(line["spark_reward"], sum(parts) + line["spark_overlong"], abs_tol=1e-9)
            assert math.isclose(line["score"], line["spark_reward"], abs_tol=1e-6)


# ---- baselines


def without_verifier(run, folder) -> list[dict[str, object]]:
    """The dumped rollouts of a run of two whole steps that asked nobody, with verl's scores as ours."""
    assert run.returncode == 0, run.text()[-4000:]
    steps = [metrics for metrics in run.metrics if metrics["step"] > 0]
    assert len(steps) == 2
    for metrics in steps:
        assert spark_keys(metrics) <= set(METRICS)
        balance(metrics | {"spark/called": metrics["spark/scored"] + metrics["spark/missing"]})
        assert metrics["spark/called"] == metrics["spark/cached"] == 0
    lines = rollouts(folder / "rollouts")
    assert len(lines) == sum(metrics["spark/rollouts"] for metrics in steps)
    for line in lines:
        assert line["score"] == line["spark_reward"]
        assert line["spark_gated"] == (not TAGS.check(line["output"]).valid)
    assert "val-core/sums/acc/mean@1" in run.metrics[-1]
    return lines


@pytest.mark.full
def test_format_alone(train, policy, tmp_path):
    run = train("reward_model=spark_format", *recipe(policy, tmp_path))
    for line in without_verifier(run, tmp_path):
        assert line["spark_reward"] == (not line["spark_gated"])


@pytest.mark.full
@pytest.mark.parametrize("preset", ["spark_rlvr", "spark_rlvr_ungated"])
def test_the_rule_based_check_as_reward(train, policy, tmp_path, preset):
    run = train(f"reward_model={preset}", *recipe(policy, tmp_path))
    if preset == "spark_rlvr_ungated":
        assert all(metrics["spark/gated"] == 0 for metrics in run.metrics if metrics["step"] > 0)
        assert run.returncode == 0, run.text()[-4000:]
        lines = rollouts(tmp_path / "rollouts")
    else:
        lines = without_verifier(run, tmp_path)
    boxed = [line for line in lines if TAGS.answer(line["output"]) is not None]
    assert boxed
    for line in boxed:
        assert line["spark_reward"] == (TAGS.answer(line["output"]) == line["gts"])


@pytest.mark.full
def test_a_random_reward_falls_the_same_in_a_second_run(train, policy, tmp_path):
    found = []
    for name in ("first", "second"):
        run = train("reward_model=spark_random", "data.seed=1", *recipe(policy, tmp_path / name), name=name)
        lines = without_verifier(run, tmp_path / name)
        # Responses differ from run to run and verl's names do; the problem and the rollout's number do not.
        coins = {
            (line["step"], line["input"], line["uid"].rsplit("_", 2)[1]): line["spark_reward"]
            for line in lines
            if not line["spark_gated"]
        }
        assert set(coins.values()) == {0.0, 1.0}
        found.append(coins)
    both = found[0].keys() & found[1].keys()
    assert both
    assert all(found[0][place] == found[1][place] for place in both)


@pytest.mark.full
@pytest.mark.parametrize("mode", ["sync", "colocate_async"])
def test_a_majority_of_the_whole_group(train, policy, tmp_path, mode):
    run = train("reward_model=spark_majority", *recipe(policy, tmp_path), f"trainer.v1.trainer_mode={mode}")
    groups = defaultdict(list)
    for line in without_verifier(run, tmp_path):
        groups[line["uid"].rsplit("_", 2)[0]].append(line)
    for lines in groups.values():
        result = vote(line["spark_answer"] or None for line in lines)
        for line in lines:
            assert line["spark_missing"] == (result.label is None and not line["spark_gated"])
            assert line["spark_reward"] == (result.label is not None and line["spark_answer"] == result.label)
