"""`verl-spark score`: what it writes and prints, what it asks, and what it refuses."""

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.rescoring.made import CUT, FACTS, GATED, KEYS, ROLLOUTS, SHORT, by_token, dump, rows, settings
from tests.verifier.conftest import serve  # noqa: F401  (a fixture)
from verl_spark.cli.main import app
from verl_spark.rescoring.config import ScoreConfig
from verl_spark.rescoring.run import run
from verl_spark.rewards.chance import coin
from verl_spark.rl.dump import runs
from verl_spark.rl.scoring import Scorer

WIDE = {"COLUMNS": "1000"}  # no path is divided


def score(*arguments, exit_code=0):
    """The output, without line breaks."""
    result = CliRunner().invoke(app, ["score", *map(str, arguments)], env=WIDE)
    assert result.exit_code == exit_code, result.output
    return " ".join(result.output.split())


def results(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.fixture
def stored(tmp_path):
    """A dump of process-aware training."""
    return asyncio.run(dump(tmp_path / "dump", settings("process_aware")))


def test_designs_side_by_side(stored, tmp_path):
    said = score(stored, "--designs", "process_aware,selective,step_average", f"output={tmp_path}/out")
    found = results(tmp_path / "out")["designs"]
    assert list(found) == ["process_aware", "selective", "step_average"]
    assert all(name in said for name in found)
    assert found["process_aware"] == {
        "rollouts": 8,
        "mean_reward": 2 / 7,
        "scored": 6,
        "gated": {"text_after_answer": 1},
        "missing": {"cut": 1},
        "groups": 2,
        "groups_without_advantage": 0,
    }
    assert found["selective"]["gated"] == {"text_after_answer": 1, "step_limit": 1}
    assert found["selective"]["groups_without_advantage"] == 1  # the only Yes of the second group has two steps
    assert found["step_average"]["missing"] == {"cut": 1, "step_mismatch": 1}
    assert "selective 8 0.143 2 1 2 50.0 %" in said
    assert "selective: gated: step limit 1, text after answer 1; missing: cut 1" in said


def test_a_row_says_what_a_design_made_of_its_rollout_and_why(stored, tmp_path):
    score(stored, "--designs", "selective,step_average", f"output={tmp_path}/out")
    found = rows(tmp_path / "out")
    assert [row["uid"] for row in found] == KEYS
    assert found[0]["place"].endswith("1.jsonl:1")
    wrong = found[1]["designs"]["selective"]
    assert (wrong["state"], wrong["reward"], wrong["verdict"], wrong["marks"]) == ("scored", 0, False, [1, 0, 1, 1])
    text = ROLLOUTS[1][0].encode()
    values = by_token(wrong["advantages"], len(text))
    for start, end, mark in wrong["steps"]:
        assert text[start:end].startswith(b"<step>")
        assert text[start:end].endswith(b"</step>")
        written = [value for place, value in enumerate(values[start:end], start) if not 20 <= place < 30]  # not a tool
        assert {value < 0 for value in written} == {mark == 0}
    assert found[1]["designs"]["step_average"]["reward"] == 3 / 4
    states = {index: [found[index]["designs"]["selective"][key] for key in ("state", "why")] for index in range(8)}
    assert states[GATED] == ["gated", ["text_after_answer"]]
    assert states[SHORT] == ["gated", ["step_limit"]]
    assert states[CUT] == ["missing", ["cut"]]


def test_settings_are_those_of_the_run_or_of_a_preset_and_what_is_typed_wins(stored, tmp_path):
    typed = score(stored, "reward.spark.design=selective", f"output={tmp_path}/typed")
    preset = score(stored, "reward_model=spark_prmcot_selective", f"output={tmp_path}/preset")
    assert rows(tmp_path / "typed") == rows(tmp_path / "preset")
    assert "other settings" not in typed
    assert "The run had other settings: reward.spark.max_failed_share: 1.0, now 0.05" in preset
    off = score(stored, "reward.spark.format_gate=False", f"output={tmp_path}/off")
    assert "reward.spark.format_gate: True, now False" in off
    (asked,) = rows(tmp_path / "off")[GATED]["designs"].values()
    assert asked["why"] == ["not_verified"]


def test_what_only_looks_on_is_no_other_setting(tmp_path):
    watched = settings("process_aware", alarms={"spark/no_verdict": {"above": 0.5}}, probe_files=["probe.jsonl"])
    folder = asyncio.run(dump(tmp_path / "dump", watched))
    changed(folder, 1, spark_reward=0.5)
    bare = ("reward_model=spark_prmcot", "reward.spark.max_failed_share=1")
    said = score(folder, *bare, f"output={tmp_path}/out")
    assert "other settings" not in said
    assert "1 rollouts have another reward than in training" in said


def test_weights_are_those_of_the_composed_design_alone(stored, tmp_path):
    weights = "reward.spark.weights={format: 0.5, process: 0, outcome: 0.5}"
    said = score(stored, "--designs", "process_aware,composed", weights, f"output={tmp_path}/out")
    assert "other settings" not in said
    wrong = rows(tmp_path / "out")[1]["designs"]
    assert (wrong["process_aware"]["reward"], wrong["composed"]["reward"]) == (0, 0.5)
    refused = score(stored, "--designs", "selective", weights, f"output={tmp_path}/out", exit_code=2)
    assert "weights: are read with design=composed only" in refused


def test_a_composed_reward_without_steps_takes_the_verdicts_of_an_orm(tmp_path):
    folder = asyncio.run(dump(tmp_path / "dump", settings("orm")))
    weights = "reward.spark.weights={format: 0.5, process: 0, outcome: 0.5}"
    score(folder, "--designs", "composed", weights, f"output={tmp_path}/out")
    assert [row["designs"]["composed"]["reward"] for row in rows(tmp_path / "out")][:2] == [1, 0.5]


def test_baselines_beside_a_design_need_no_verifier(stored, tmp_path):
    score(stored, "--designs", "process_aware,format,majority,random", f"output={tmp_path}/out")
    found = results(tmp_path / "out")["designs"]
    assert found["format"]["mean_reward"] == 7 / 8
    assert found["majority"]["missing"] == {}
    states = [row["designs"]["random"]["reward"] for row in rows(tmp_path / "out")]
    assert states == [0 if place == GATED else coin(0, facts.place) for place, facts in enumerate(FACTS)]


def test_padding_is_no_rollout(stored, tmp_path):
    file = stored / "1.jsonl"
    first = json.loads(file.read_text().splitlines()[0])
    with file.open("a") as lines:
        lines.write(json.dumps({**first, "uid": "pad0_0_0", "output": "", "spark_padding": True}) + "\n")
    score(stored, f"output={tmp_path}/out")
    assert [row["uid"] for row in rows(tmp_path / "out")] == KEYS


def test_what_nobody_verified_is_missing_and_said_to_be(tmp_path):
    folder = asyncio.run(dump(tmp_path / "dump", settings("selective")))
    said = score(folder, "--designs", "process_aware,selective", f"output={tmp_path}/out")
    assert "process_aware 1. They count as missing" in said
    found = rows(tmp_path / "out")[SHORT]["designs"]
    assert (found["process_aware"]["state"], found["process_aware"]["why"]) == ("missing", ["not_verified"])
    assert found["selective"]["state"] == "gated"


def test_a_reward_that_is_not_that_of_training_is_said(stored, tmp_path):
    assert "another reward than in training" not in score(stored, f"output={tmp_path}/out")
    changed(stored, 1, spark_reward=0.5)
    assert "1 rollouts have another reward than in training" in score(stored, f"output={tmp_path}/out")
    assert "another reward than in training" not in score(stored, "--designs", "format", f"output={tmp_path}/out")


def test_another_estimator_is_said_to_be_left_out(tmp_path):
    folder = asyncio.run(dump(tmp_path / "dump", settings("process_aware"), adv_estimator="rloo"))
    assert "The run's estimator was rloo" in score(folder, f"output={tmp_path}/out")


def test_steps_come_in_order_and_each_has_groups_of_its_own(tmp_path):
    for step in (10, 2):
        asyncio.run(dump(tmp_path / "dump", settings("process_aware"), step))
    score(tmp_path / "dump", f"output={tmp_path}/out")
    assert [row["step"] for row in rows(tmp_path / "out")] == [2] * 8 + [10] * 8
    assert results(tmp_path / "out")["designs"]["process_aware"]["groups"] == 4


def test_every_design_has_one_scorer_for_all_steps(stored, tmp_path, monkeypatch):
    asyncio.run(dump(stored, settings("process_aware"), step=2))
    made, real = [], Scorer.__post_init__
    monkeypatch.setattr(Scorer, "__post_init__", lambda self: made.append(self.settings.design) or real(self))
    score(stored, "--designs", "process_aware,selective", f"output={tmp_path}/out")
    assert len(rows(tmp_path / "out")) == 16
    assert made == ["process_aware", "selective"]


def test_the_order_of_rows_changes_nothing(stored, tmp_path):
    given = ("--designs", "selective,global_step,step_augmented")
    score(stored, *given, f"output={tmp_path}/straight")
    file = stored / "1.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(random.Random(0).sample(lines, len(lines))))
    score(stored, *given, f"output={tmp_path}/mixed")
    straight, mixed = ({r["uid"]: r["designs"] for r in rows(tmp_path / name)} for name in ("straight", "mixed"))
    assert mixed == straight


@given(st.lists(st.integers(0, 1)))
def test_runs_are_the_mask(mask):
    found = runs(mask)
    assert [place for start, end in found for place in range(start, end)] == [i for i, m in enumerate(mask) if m]


# ---- what is refused

GONE = object()


def changed(folder, index, **fields):
    """The dump with other values in one row; `GONE` takes a field away."""
    file = folder / "1.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    row = {**lines[index], **fields}
    lines[index] = {name: value for name, value in row.items() if value is not GONE}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spark_tokens": GONE}, "spark_tokens: Field required"),
        ({"spark_tokens": [[3, 5], [1, 2]]}, "spark_tokens: not in order"),
        ({"spark_marks": [1, 2]}, "spark_marks"),
        ({"output": 5}, "output: Input should be a valid string"),
        ({"uid": "a_1_1"}, "uid: a_1_1 is a later output of its session"),
        ({"uid": "a_1"}, "uid: a_1 is no key of a rollout; verl 0.9.1 writes <uid of the prompt>_<session>_<output>"),
        ({"uid": "a_0_0"}, "the same rollout was there before"),
    ],
)
def test_rows_that_cannot_be_used_are_named_and_nothing_is_scored(stored, tmp_path, fields, message):
    changed(stored, 1, **fields)
    said = score(stored, f"output={tmp_path}/out", exit_code=2)
    assert f"1.jsonl:2: {message}" in said
    assert "trainer.rollout_data_dir=FOLDER" in said
    assert not (tmp_path / "out" / "rollouts.jsonl").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spark_policy_format": "plain"}, "found with reward.spark.policy_format=plain"),
        ({"spark_step_spans": []}, "the dump does not say which tokens its 4 steps have"),
        ({"spark_kind": "orm"}, "written by kind=orm, and design=selective needs one of: prm, prm_cot, think_prm"),
    ],
)
def test_a_design_is_refused_a_dump_without_what_it_needs(stored, tmp_path, fields, message):
    changed(stored, 1, **fields)
    said = score(stored, "--designs", "selective", f"output={tmp_path}/out", exit_code=2)
    assert "1.jsonl:2: " in said
    assert message in said
    score(stored, "--designs", "format", f"output={tmp_path}/out")


@pytest.mark.parametrize(
    ("design", "fields", "message"),
    [
        ("rlvr", {"gts": None}, "design=rlvr needs a reference answer, and its run had none"),
        ("random", {"spark_place": None}, "design=random needs the rollout's place in the run, and its run had none"),
    ],
)
def test_a_baseline_is_refused_a_dump_without_what_it_goes_by(stored, tmp_path, design, fields, message):
    changed(stored, 0, **fields)
    said = score(stored, "--designs", design, f"output={tmp_path}/out", exit_code=2)
    assert f"1.jsonl:1: {message}" in said
    assert "reward_model.ground_truth (rlvr) and extra_info.index (random)" in said
    score(stored, "--designs", "majority,format", f"output={tmp_path}/out")


def test_a_step_design_is_refused_the_verdicts_of_an_orm_with_the_cure(tmp_path):
    folder = asyncio.run(dump(tmp_path / "dump", settings("orm")))
    out = f"output={tmp_path}/out"
    assert "Set reward.spark.design=orm" in score(folder, "--designs", "selective", out, exit_code=2)
    preset = score(folder, "reward_model=spark_prmcot_selective", out, exit_code=2)
    assert "1.jsonl:1: its verification was written by kind=orm" in preset
    assert "--ask engine.model=" in preset


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no dump: name the trainer.rollout_data_dir"),
        (["nowhere"], "nowhere: no dumped rollouts"),
        (
            ["DUMP", "reward_model=nope"],
            "there is no preset nope; there are: spark_format, spark_majority, spark_orm, spark_prm",
        ),
        (["DUMP", "--designs", "nope"], "unknown reward design 'nope'"),
        (["DUMP", "nope=1"], "nope: there is no such setting; the settings here are: output, designs, reward_model"),
        (["DUMP", "reward.spark.nope=1"], "reward.spark.nope: there is no such setting"),
        (["DUMP", "--ask"], "engine: --ask needs a verifier"),
        (["DUMP", "engine.kind=vllm", "engine.model=m"], "engine: is asked with --ask only"),
        (
            ["DUMP", "--ask", "engine.kind=vllm", "engine.model=m", "engine.vllm.max_model_len=4096"],
            "reward.spark.verifier.max_tokens: a reply of 4096 tokens has no room beside a prompt in engine.vllm.max_m",
        ),
        (["DUMP", "OTHER"], "are of different runs"),
        (["OTHER/1.jsonl"], "name the preset of the run, reward_model=spark_"),
    ],
)
def test_what_cannot_work_is_refused_with_the_cure(stored, tmp_path, arguments, message):
    other = asyncio.run(dump(tmp_path / "other", settings("selective")))
    if message.startswith("name the preset"):
        (other / "spark_run.json").unlink()
    places = [one.replace("DUMP", str(stored)).replace("OTHER", str(other)) for one in arguments]
    assert message in score(*places, f"output={tmp_path}/out", exit_code=2)


# ---- asking again


def config(output, url, *designs, **engine):
    return ScoreConfig.from_mapping(
        {
            "output": output,
            "designs": designs,
            "reward": {"spark": {"verifier": {"kind": "prm_cot"}}},
            "engine": {"model": "mock", "base_urls": [url], "attempts": 1, **engine},
            "ask": True,
            "window": 1,
        }
    )


def scored(made, folder):
    return run(made, [folder], lambda progress, rollouts: None)


async def test_a_verifier_is_asked_once_about_what_any_design_wants(serve, tmp_path):  # noqa: F811
    folder = await dump(tmp_path / "dump", settings("orm"))
    async with serve(wrong_every=1) as (mock, url):  # every last step is wrong
        made = config(tmp_path / "out", url, "process_aware", "selective")
        first = await scored(made, folder)
        assert mock.samples == first.progress.samples == 7  # one is refused by the gate
        before = rows(tmp_path / "out")
        assert (await scored(made, folder)).progress.samples == 0
        assert mock.samples == 7
    assert rows(tmp_path / "out") == before
    found = before[0]["designs"]["selective"]
    assert (found["marks"], found["verdict"], found["reward"]) == ([1, 1, 1, 0], False, 0)
    assert [mark for _, _, mark in found["steps"]] == [1, 1, 1, 0]
    assert before[SHORT]["designs"]["process_aware"]["marks"] == [1, 0]
    assert before[GATED]["designs"]["process_aware"]["state"] == "gated"


async def test_what_failed_and_may_pass_is_owed_and_gives_no_numbers_yet(serve, tmp_path):  # noqa: F811
    folder = await dump(tmp_path / "dump", settings("process_aware"))
    async with serve("ok", "http503", *["ok"] * 8) as (mock, url):
        made = config(tmp_path / "out", url, "process_aware")
        first = await scored(made, folder)
        assert (first.summaries, first.progress.failed) == (None, 1)
        assert not (tmp_path / "out" / "rollouts.jsonl").exists()
        assert (await scored(made, folder)).summaries is not None
        assert mock.served == {"ok": 7, "http503": 1}


async def test_a_reply_without_a_verdict_is_a_missing_reward_with_its_cause(serve, tmp_path):  # noqa: F811
    folder = await dump(tmp_path / "dump", settings("process_aware"))
    async with serve("cut", "garbage", "http400", *["ok"] * 4) as (_, url):
        found = (await scored(config(tmp_path / "out", url, "process_aware"), folder)).summaries
    assert found["process_aware"].missing == {"cut": 1, "unreadable": 1, "failed": 1}
    assert found["process_aware"].scored == 4
