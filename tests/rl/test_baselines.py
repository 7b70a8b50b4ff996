"""Baselines and composed rewards in the reward loop: the gate is everyone's, nobody is asked, every part is logged."""

import asyncio
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rl.made import objects
from tests.rl.test_prompts import ROW, prepare
from tests.rl.test_scoring import APPENDED, GOOD, PROBLEM, Ask, judged, scorer, states
from tests.rl.test_steps import IDS, reward_manager, rollout
from verl_spark.rewards.chance import Place, coin
from verl_spark.rewards.rule import AnswerChecker
from verl_spark.rl.metrics import METRICS, step_metrics
from verl_spark.rl.prompts import place_of
from verl_spark.rl.row import ANSWER_KEY, GATE_KEYS, KEYS, TEXT_KEYS, row_of
from verl_spark.rl.scoring import Facts
from verl_spark.verifier.outcome import Cause, Undecided

NOBODY = Ask(judged([1, 1], True))
BASELINES = ("format", "rlvr", "random", "majority")
FACTS = Facts(n_tokens=10, most_tokens=100, reference="5", place=Place(1, "7", 0))
TEXTS = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<step>2</step>", "<answer>", "</answer>", "\\boxed{5}", "\\boxed{6}", "x"]
    ),
    max_size=8,
).map("".join) | st.sampled_from([GOOD, APPENDED])


@pytest.fixture
def by_text(monkeypatch):
    """The answer check without its processes: equal is what is spelt alike."""

    async def compare(self, response, reference, answer=None):
        return f"\\boxed{{{reference}}}" in response

    monkeypatch.setattr(AnswerChecker, "compare", compare)


# ---- the gate


@pytest.mark.usefixtures("by_text")
@pytest.mark.parametrize("design", BASELINES)
@pytest.mark.parametrize("format_gate", [True, False])
def test_the_gate_of_a_baseline_is_that_of_spark(design, format_gate):
    if design == "format" and not format_gate:
        return  # refused: it would reward everything

    @given(TEXTS)
    def same(response):
        rows = [
            asyncio.run(scorer(NOBODY, design=name, format_gate=format_gate).train(response, PROBLEM, facts=FACTS))
            for name in ("process_aware", design)
        ]
        for key in ("spark_gated", "spark_steps", "spark_neutralised", *GATE_KEYS.values()):
            assert rows[0][key] == rows[1][key] or (math.isnan(rows[0][key]) and math.isnan(rows[1][key])), key

    same()


@pytest.mark.usefixtures("by_text")
@pytest.mark.parametrize("design", BASELINES)
async def test_a_baseline_asks_nobody_and_has_the_same_keys(design):
    ask = Ask(judged([1, 1], True))
    for response in (GOOD, APPENDED, "x"):
        info = await scorer(ask, design=design).train(response, PROBLEM, facts=FACTS)
        assert tuple(info) == (*KEYS, *TEXT_KEYS)
        assert (info["spark_called"], info["spark_cached"]) == (0, 0)
    assert ask.questions == []


# ---- what each goes by


@pytest.mark.usefixtures("by_text")
@pytest.mark.parametrize(
    ("response", "gated", "ungated"),
    [
        (GOOD, (1, 0, 0, 1.0), (1, 0, 0, 1.0)),
        (GOOD.replace("boxed{5}", "boxed{6}"), (1, 0, 0, 0.0), (1, 0, 0, 0.0)),
        (APPENDED, (0, 0, 1, 0.0), (1, 0, 0, 1.0)),
    ],
)
async def test_rlvr_is_the_rule_based_check_with_and_without_the_gate(response, gated, ungated):
    for format_gate, expected in ((True, gated), (False, ungated)):
        row = await scorer(NOBODY, design="rlvr", format_gate=format_gate).train(response, PROBLEM, facts=FACTS)
        assert (*states(row), row["spark_reward"]) == expected


async def test_an_answer_that_the_check_cannot_decide_is_missing_and_not_wrong(monkeypatch):
    async def undecided(self, response, reference, answer=None):
        return None

    monkeypatch.setattr(AnswerChecker, "compare", undecided)
    row = await scorer(NOBODY, design="rlvr").train(GOOD, PROBLEM, facts=FACTS)
    assert states(row) == (0, 1, 0)
    assert row["spark_unchecked"] == 1


@pytest.mark.parametrize("seed", [0, 1])
async def test_a_random_reward_is_the_coin_of_the_rollouts_place(seed):
    for number in range(16):
        place = Place(2, "7", number)
        row = await scorer(NOBODY, design="random", seed=seed).train(GOOD, PROBLEM, facts=Facts(place=place))
        assert row["spark_reward"] == coin(seed, place)
        assert states(await scorer(NOBODY, design="random").train(APPENDED, PROBLEM, facts=FACTS)) == (0, 0, 1)


@pytest.mark.parametrize(
    ("design", "more", "missing"),
    [
        ("rlvr", {}, "a reference answer"),
        ("random", {}, "place in the run"),
        ("format", {"overlong_buffer": {"enable": True, "len": 5}}, "number of tokens"),
    ],
)
async def test_what_a_caller_did_not_give_is_named(design, more, missing):
    with pytest.raises(ValueError, match=missing):
        await scorer(NOBODY, design=design, **more).train(GOOD, PROBLEM)


@pytest.mark.parametrize(
    ("response", "format_gate", "answer"),
    [(GOOD, True, "5"), (APPENDED, True, ""), (APPENDED, False, "5"), ("\\boxed{1} \\boxed{2}", False, "2")],
)
async def test_a_vote_waits_for_its_group_with_the_answer(response, format_gate, answer):
    info = await scorer(NOBODY, design="majority", format_gate=format_gate).train(response, PROBLEM)
    assert info[ANSWER_KEY] == answer
    assert states(info) == ((0, 0, 1) if format_gate and not answer else (0, 1, 0))  # no advantage if never counted


async def test_only_a_vote_carries_an_answer():
    for design in ("format", "process_aware"):
        assert (await scorer(NOBODY, design=design).train(GOOD, PROBLEM))[ANSWER_KEY] == ""


# ---- from the data to the reward


@pytest.mark.parametrize(
    ("design", "row", "says"),
    [
        ("random", {**ROW, "extra_info": {}, "index": 0}, r"What is 2 \+ 3.*no extra_info\.index.*design=random"),
        ("random", {**ROW, "extra_info": None}, "no extra_info"),
        ("rlvr", ROW, r"What is 2 \+ 3.*no reward_model\.ground_truth.*design=rlvr"),
        ("rlvr", {**ROW, "reward_model": {"ground_truth": " "}}, "no reward_model"),
    ],
)
def test_a_row_without_what_the_reward_goes_by_is_refused_by_name(design, row, says):
    with pytest.raises(ValueError, match=says):
        prepare(row, design=design)
    prepare(row, design="process_aware")
    prepare(row, design=design, validation=True)  # there the checker says itself what it lacks


@pytest.mark.parametrize("design", BASELINES)
def test_a_baselines_prompts_are_those_of_spark(design):
    row = {**ROW, "reward_model": {"ground_truth": "5"}}
    assert prepare(row, design=design) == prepare(row, design="process_aware")


def test_an_agent_loop_that_loses_the_place_is_told():
    fields = {"extra_info": {"index": 7}, "session_id": 3}
    with pytest.raises(KeyError, match="global_steps"):
        place_of(fields)
    assert place_of({**fields, "global_steps": np.int64(2)}) == Place(2, "7", 3)


def placed(ids, number):
    """A rollout as verl's streaming path hands it to a reward manager."""
    data = rollout(ids, len(ids) + 3)
    (info,) = data.non_tensor_batch["extra_info"]
    data.non_tensor_batch |= {
        "extra_info": objects([{**info, "index": 7}]),
        "global_steps": np.array([2]),
        "session_id": np.array([number]),
        "uid": np.array([f"random-{number}"]),
    }
    return data


async def test_the_reward_manager_gives_a_coin_its_place_and_never_verls_uid(monkeypatch):
    manager = reward_manager(monkeypatch, [1] * 4, design="random")
    results = [await manager.run_single(placed(IDS, number)) for number in range(8)]
    assert [result["reward_score"] for result in results] == [coin(0, Place(2, "7", number)) for number in range(8)]


@pytest.mark.usefixtures("by_text")
async def test_the_reward_manager_gives_the_check_its_reference(monkeypatch):
    assert (await reward_manager(monkeypatch, [1] * 4, design="rlvr").run_single(placed(IDS, 0)))["reward_score"] == 1


async def test_the_reward_manager_counts_the_responses_own_tokens(monkeypatch):
    buffer = {"enable": True, "len": 100, "penalty_factor": 0.5}
    manager = reward_manager(monkeypatch, [1] * 4, design="format", overlong_buffer=buffer)
    manager.config["data"] = {"max_response_length": len(IDS) + 25}
    result = await manager.run_single(placed(IDS, 0))
    assert result["reward_score"] == pytest.approx(1 - 0.75 * 0.5)
    assert result["reward_extra_info"]["spark_overlong"] == pytest.approx(-0.75 * 0.5)


# ---- parts

COMPOSED = {"design": "composed", "weights": {"format": 0.2, "process": 0.3, "outcome": 0.5}}
LONG = {"overlong_buffer": {"enable": True, "len": 20, "penalty_factor": 0.4}}


@pytest.mark.parametrize(
    ("response", "outcome", "parts", "reward"),
    [
        (GOOD, judged([1, 0], False), (0.2, 0.15, 0.0), 0.15),
        (GOOD, judged([1, 1], True), (0.2, 0.3, 0.5), 0.8),
        (APPENDED, judged([1, 1], True), (0.0, 0.0, 0.0), -0.2),
        (GOOD, judged([1], True), None, None),
        (GOOD, Undecided(Cause.CUT), None, None),
    ],
    ids=["wrong", "right", "refused", "other steps", "no verdict"],
)
async def test_the_parts_of_a_reward_are_logged_apart_and_add_up(response, outcome, parts, reward):
    facts = Facts(n_tokens=90, most_tokens=100)
    row = await scorer(Ask(outcome), **COMPOSED, **LONG).train(response, PROBLEM, facts=facts)
    found = [row[f"spark_part_{part}"] for part in ("format", "process", "outcome")]
    assert row["spark_overlong"] == pytest.approx(-0.2)
    if reward is None:
        assert states(row) == (0, 1, 0)
        assert all(map(math.isnan, found))
    else:
        assert found == pytest.approx(parts)
        assert row["spark_reward"] == pytest.approx(reward)


async def test_the_metrics_of_the_parts_add_up_to_the_mean_reward():
    facts = Facts(n_tokens=85, most_tokens=100)
    rows = [
        row_of(await scorer(Ask(outcome), **COMPOSED, **LONG).train(response, PROBLEM, facts=facts))
        for outcome in (judged([1, 0], False), judged([1, 1], True), Undecided(Cause.FAILED))
        for response in (GOOD, APPENDED)
    ]
    metrics = step_metrics(rows)
    names = ("part/format", "part/process", "part/outcome", "overlong")
    assert sum(metrics[f"spark/{name}/mean"] for name in names) == pytest.approx(metrics["spark/reward/mean"])
    assert metrics["spark/overlong/mean"] == pytest.approx(-0.1)


@pytest.mark.usefixtures("by_text")
async def test_all_arms_log_under_the_same_names():
    logged = {}
    for design in ("process_aware", *BASELINES[:-1]):
        arm = scorer(NOBODY, design=design)
        rows = [row_of(await arm.train(text, PROBLEM, facts=FACTS)) for text in (GOOD, APPENDED)]
        logged[design] = set(step_metrics(rows))
    of_replies = {name for name in METRICS if name.startswith("spark/verifier/")} | {
        *("spark/verdict_yes", "spark/steps_correct/mean", "spark/inconsistent", "spark/no_verdict"),
        "spark/steps_over_verdict/mean",
    }
    for design in BASELINES[:-1]:
        assert logged[design] - of_replies == logged["process_aware"] - of_replies
