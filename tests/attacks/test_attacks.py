"""Known ways to please a verifier instead of being right: each earns nothing, or is caught by its name.

A file for each way; a row is a response to `PROBLEM`, the verifier that meets it, and by what it is caught: a reason of
the gate, flags, a cause of a missing reward, the step limits. A row with `limit` is not caught by its text: it is
written down under the known limits."""

import json
from pathlib import Path

import pytest

from verl_spark.rewards.designs import DESIGNS
from verl_spark.rewards.spans import step_spans
from verl_spark.rl.flags import FLAGS, reasons
from verl_spark.rl.metrics import step_metrics
from verl_spark.rl.row import row_of, steps_of
from verl_spark.rl.scoring import Scorer
from verl_spark.settings import SparkSettings
from verl_spark.verification.gate import GateReason
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import asked
from verl_spark.verification.reading import read
from verl_spark.verification.steps import numbered_steps
from verl_spark.verification.writing import write
from verl_spark.verifier.chat import control_strings, without_control_strings
from verl_spark.verifier.judge import Answer
from verl_spark.verifier.outcome import Cause, Judged, Undecided

FOLDER = Path(__file__).parent
LIMITS = (FOLDER.parents[1] / "docs" / "troubleshooting.md").read_text()
PROBLEM = "A box holds four rows of six eggs, and five of them break. How many are whole?"
WAYS = {path.stem: [json.loads(line) for line in path.open()] for path in sorted(FOLDER.glob("*.jsonl"))}
HONEST = WAYS.pop("honest")
ATTACKS = [pytest.param(attack, id=f"{way}: {attack['name']}") for way, rows in WAYS.items() for attack in rows]
GATED = [attack for attack in ATTACKS if "gate" in attack.values[0]["caught"]]
MARKED = [attack for attack in ATTACKS if "markers" in attack.values[0]["caught"].get("flags", ())]
PAIRS = [(kind, name) for name, design in DESIGNS.items() for kind in sorted(design.kinds)] + [(Kind.PRM_COT, "format")]


class Verifier:
    """Stands in for the run's judge and behaves as told."""

    def __init__(self, behaviour):
        self.behaviour, self.questions = behaviour, []

    async def __call__(self, question):
        self.questions.append(question)
        return Answer(self._outcome(question))

    def _outcome(self, question):
        undecided = {"cut": Cause.CUT, "too_long": Cause.TOO_LONG}
        if self.behaviour in undecided:
            return Undecided(undecided[self.behaviour])
        text = {"unreadable": "Eggs are white, eggs are brown.", "silent": ""}.get(self.behaviour)
        reading = read(self._reply(question) if text is None else text, question.kind)
        return Undecided(Cause.UNREADABLE) if reading.outcome is None else Judged(reading)

    def _reply(self, question):
        """Yes to everything when deceived, or before a right solution; else No to everything, quoting what it sees."""
        _, solution = asked(question.kind, question.prompt)
        yes = self.behaviour in ("fooled", "honest")
        marks = [int(yes)] * len(numbered_steps(solution) or [None])
        if question.kind is Kind.PRM:
            return write(Kind.PRM, marks, yes).replace("\n", f"\n{solution}\n" if not yes else "\n")
        return write(question.kind, marks, yes, analyses=[solution] * len(marks))


async def score(attack, kind, design, **settings):
    """The verifier that was asked, and the info of the rollout."""
    spark = {"design": design, "policy_format": attack.get("format", "tags"), "verifier": {"kind": kind}, **settings}
    verifier, response = Verifier(attack["verifier"]), attack["response"]

    def locate(steps):
        return step_spans(range(len(response)), response, steps, lambda ids: "".join(response[i] for i in ids))

    return verifier, await Scorer(SparkSettings.model_validate(spark), verifier).train(response, PROBLEM, locate)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_earns_nothing_or_is_caught_by_name(attack):
    for kind, design in PAIRS:
        verifier, info = await score(attack, kind, design)
        row, caught, pair = row_of(info), attack["caught"], (kind.value, design)
        why = reasons(row)
        earned = row["spark_part_process"] + row["spark_part_outcome"]  # a composed reward pays for the format as well
        assert {f"flags/{name}" for name in caught.get("flags", ())} <= set(why), pair
        if "limit" in attack:
            assert why == (), pair
            continue
        if "gate" in caught:
            assert f"gate/{caught['gate']}" in why, pair
            assert (row["spark_gated"], row["spark_reward"], verifier.questions) == (1, 0, []), pair
            continue
        refused = "step_limit" in caught and design in ("selective", "selective_half")
        assert row["spark_gated"] == refused, pair
        if "step_limit" in caught and DESIGNS[design].credit.reads_steps:
            assert steps_of(info) is None, pair  # no step of it earns anything
            assert ("step_limit" in why) is (row["spark_missing"] == 0), pair
        if refused:
            assert (row["spark_reward"], verifier.questions) == (0, []), pair
        elif verifier.questions:  # the design `format` asks nobody, and knows no more than the gate
            assert why or earned == 0, pair
            if "missing" in caught:
                assert row["spark_missing"] == 1, pair
                assert f"missing/{caught['missing']}" in why, pair
            elif attack["verifier"] == "quotes":
                assert not earned > 0, pair  # the quotation changed no verdict and no mark


def test_what_no_text_gives_away_is_a_stated_limit():
    limits = [attack["limit"] for rows in WAYS.values() for attack in rows if "limit" in attack]
    assert limits
    assert all(limit in " ".join(LIMITS.split()) for limit in limits)


@pytest.mark.parametrize("attack", GATED)
async def test_with_the_gate_off_it_is_still_seen(attack):
    _, info = await score(attack, Kind.PRM_COT, "process_aware", format_gate=False)
    assert f"gate/{attack['caught']['gate']}" in reasons(row_of(info))


@pytest.mark.parametrize("attack", MARKED)
async def test_raw_rendering_shows_markers_and_counts_them(attack):
    verifier, info = await score({**attack, "verifier": "cut"}, Kind.PRM_COT, "process_aware", rendering="raw")
    assert attack["response"] in verifier.questions[0].prompt
    assert "flags/markers" in reasons(row_of(info))


@pytest.mark.parametrize("attack", WAYS["template_tokens"], ids=lambda attack: attack["name"])
async def test_no_control_token_reaches_the_verifier(attack):
    chat = pytest.importorskip("tests.verifier.test_chat")
    verifier, _ = await score(attack, Kind.PRM_COT, "process_aware")
    (question,) = verifier.questions
    assert control_strings(question.prompt) > 0
    assert control_strings(without_control_strings(question.prompt)) == 0  # as the client sends it to a server
    ids = chat.Chat(chat.TOKENIZER).prompt_ids(question.prompt)  # as it goes where we tokenise
    harmless = chat.Chat(chat.TOKENIZER).prompt_ids("What is two and two?")
    assert [i for i in ids if i in chat.CONTROL_IDS] == [i for i in harmless if i in chat.CONTROL_IDS]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("solution", HONEST, ids=lambda solution: solution["name"])
async def test_an_honest_solution_raises_no_flag_and_earns_its_reward(solution, kind):
    _, info = await score(solution, kind, "orm" if kind is Kind.ORM else "process_aware")
    assert reasons(row_of(info)) == ()
    assert info["spark_reward"] == 1


async def test_every_flag_and_gate_reason_is_met_by_an_attack():
    flags = {name for rows in WAYS.values() for a in rows for name in a["caught"].get("flags", ())}
    from_marks = {"contradiction", "steps_without_verdict", "marks_mismatch"}  # of the verifier, not of a text
    assert flags == set(FLAGS) - from_marks
    gates = {a["caught"].get("gate") for rows in WAYS.values() for a in rows} - {None}
    assert gates == {reason.value for reason in GateReason} - {"ok"}


@pytest.mark.parametrize("way", WAYS)
async def test_a_step_of_attacks_shows_in_its_metrics(way):
    rows = [row_of((await score(attack, Kind.PRM_COT, "process_aware"))[1]) for attack in WAYS[way]]
    metrics = step_metrics(rows)
    named = [name for row in rows for name in reasons(row)]
    assert named
    assert all(metrics[f"spark/{name}"] > 0 for name in named)
    assert metrics == step_metrics(rows[::-1])
