"""The node `reward.spark`: defaults, relations, and messages that name the key and the cure."""

import pickle

import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from verl_spark.settings import MANAGERS, Alarm, SettingsError, SparkSettings, SuspectSettings, VerifierSettings
from verl_spark.verification.kinds import Kind

EXTERNAL = {"serving": "external", "verifier": {"base_urls": ["http://a:8000/v1"], "model": "prm"}}


def refusal(node: object, manager: str | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        SparkSettings.from_config(OmegaConf.create(node), manager)  # type: ignore[arg-type]
    return list(caught.value.problems)


@pytest.mark.parametrize("model", [SparkSettings, VerifierSettings, SuspectSettings, Alarm])
def test_every_setting_is_explained(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_an_empty_node_gives_the_defaults() -> None:
    assert SparkSettings.from_config(None) == SparkSettings.from_config(OmegaConf.create({})) == SparkSettings()


def test_the_node_of_settings_gives_them_back() -> None:
    watching = {"alarms": {"spark/no_verdict": {"above": 0.5, "action": "stop"}}, "suspects": {"folder": "x"}}
    settings = SparkSettings.from_config(EXTERNAL | watching | {"probe_files": ["a.parquet"]})
    assert SparkSettings.from_config(OmegaConf.create(settings.to_node())) == settings


def test_settings_cannot_change_and_travel_to_workers() -> None:
    settings = SparkSettings.from_config(EXTERNAL)
    with pytest.raises(ValidationError):
        settings.design = "orm"
    assert pickle.loads(pickle.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("verifier", "tokens"),
    [
        (VerifierSettings(), 4096),
        (VerifierSettings(kind=Kind.THINK_PRM), 8192),
        (VerifierSettings(kind=Kind.THINK_PRM, max_tokens=100), 100),
    ],
)
def test_a_reply_has_the_room_its_kind_needs(verifier: VerifierSettings, tokens: int) -> None:
    assert verifier.token_limit == tokens


@pytest.mark.parametrize(
    ("node", "key", "cure"),
    [
        ({"desing": "orm"}, "reward.spark.desing", "design"),
        ({"verifier": {"max_token": 5}}, "reward.spark.verifier.max_token", "max_tokens"),
        ({"design": "orn"}, "reward.spark.design", "orm"),
        ({"policy_format": "xml"}, "reward.spark.policy_format", "tags"),
        ({"serving": "pooled"}, "reward.spark.serving", "'pool'"),
        ({"verifier": {"kind": "cot"}}, "reward.spark.verifier.kind", "'prm_cot'"),
        ({"verifier": {"attempts": 0}}, "reward.spark.verifier.attempts", "greater than 0"),
        ({"verifier": {"deadline_s": float("inf")}}, "reward.spark.verifier.deadline_s", "finite"),
        ({"max_failed_share": 5}, "reward.spark.max_failed_share", "less than or equal to 1"),
        ({"max_unreadable_share": -0.1}, "reward.spark.max_unreadable_share", "greater than or equal to 0"),
        ({"alarms": {"spark/x": {"abov": 1}}}, "reward.spark.alarms.spark/x.abov", "above, below, for_steps, action"),
        ({"alarms": {"spark/x": {}}}, "reward.spark.alarms.spark/x", "give `above`, `below` or both"),
        ({"alarms": {"spark/x": {"above": 1, "below": 2}}}, "reward.spark.alarms.spark/x", "exchange"),
        ({"alarms": {"spark/x": {"above": float("nan")}}}, "reward.spark.alarms.spark/x.above", "finite"),
        ({"alarms": {"spark/x": {"above": 1, "action": "halt"}}}, "alarms.spark/x.action", "'stop'"),
        ({"suspects": {"per_step": 0}}, "reward.spark.suspects.per_step", "greater than 0"),
        ({"suspects": {"file": "x"}}, "reward.spark.suspects.file", "folder, per_step"),
        ({"design": "orm"}, "reward.spark.verifier.kind", "needs one of: orm"),
        ({"verifier": {"kind": "orm"}}, "reward.spark.verifier.kind", "reward.spark.design=orm"),
        ({"verifier": {"timeout_s": 700}}, "reward.spark.verifier.timeout_s", "deadline_s"),
        ({"serving": "external", "verifier": {"model": "m"}}, "reward.spark.verifier.base_urls", "base_urls=["),
        (
            {"serving": "external", "verifier": {"base_urls": ["http://a/v1"]}},
            "reward.spark.verifier.model",
            "verifier.model=",
        ),
        ({"verifier": EXTERNAL["verifier"]}, "reward.spark.verifier.base_urls", "serving=external"),
        ({"serving": "external", "verifier": {"base_urls": ["a:8000"]}}, "verifier.base_urls.0", "http"),
        ({"design": "composed", "weights": {"outcome": 0.7}}, "reward.spark.weights", "add up to 1.1"),
        ({"design": "composed", "weights": {"outcome": -0.6}}, "reward.spark.weights.outcome", "greater than or equal"),
        (
            {"design": "composed", "weights": {"format": 1, "process": 0, "outcome": 0}},
            "reward.spark.weights",
            "reward.spark.design=format",
        ),
        ({"weights": {"process": 0.2}}, "reward.spark.weights", "reward.spark.design=composed"),
        ({"weights": {"proces": 0.2}}, "reward.spark.weights.proces", "format, process, outcome"),
        ({"design": "composed", "verifier": {"kind": "orm"}}, "reward.spark.verifier.kind", "weights.process=0"),
        ({"design": "composed", "format_gate": False}, "reward.spark.format_gate", "weights.format=0"),
        ({"design": "format", "format_gate": False}, "reward.spark.format_gate", "format_gate=True"),
        ({"overlong_buffer": {"enable": True}}, "reward.spark.overlong_buffer.len", "overlong_buffer.len"),
        (
            {"overlong_buffer": {"enable": True, "len": 9, "penalty_factor": 0}},
            "reward.spark.overlong_buffer.penalty_factor",
            "greater than 0",
        ),
        ({"overlong_buffer": {"log": True}}, "reward.spark.overlong_buffer.log", "enable, len, penalty_factor"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key_and_the_cure(node: object, key: str, cure: str) -> None:
    assert any(key in line and cure in line for line in refusal(node))


def test_all_problems_are_told_at_once() -> None:
    assert len(refusal({"desing": "orm", "serving": "x", "verifier": {"attempts": 0}})) == 3
    assert len(refusal({"serving": "external", "verifier": {"timeout_s": 700}})) == 3


def test_a_key_written_in_place_of_a_variable_name_is_refused_and_not_repeated() -> None:
    (line,) = refusal({**EXTERNAL, "verifier": {**EXTERNAL["verifier"], "api_key_env": "sk-secret"}})  # type: ignore[dict-item]
    assert "reward.spark.verifier.api_key_env" in line
    assert "sk-secret" not in line


@pytest.mark.parametrize("manager", MANAGERS)
def test_a_managers_name_stands_for_settings_that_fit_together(manager: str) -> None:
    settings = SparkSettings.from_config(None, manager)
    assert settings.design == MANAGERS[manager].design
    assert settings.asks_verifier == (MANAGERS[manager].kind is not None)


def test_the_node_wins_over_the_managers_name() -> None:
    node = {"verifier": {"kind": "think_prm", "attempts": 2}}
    verifier = SparkSettings.from_config(node, "spark_prmcot").verifier
    assert (verifier.kind, verifier.attempts) == (Kind.THINK_PRM, 2)


@pytest.mark.parametrize("manager", [name for name, manager in MANAGERS.items() if not manager.kind])
def test_a_manager_without_a_verifier_needs_no_server(manager: str) -> None:
    assert not SparkSettings.from_config({"serving": "external"}, manager).asks_verifier


@pytest.mark.parametrize("node", [SparkSettings().to_node(), {"design": "selective"}, {"design": "my_designs:MINE"}])
def test_a_manager_without_a_verifier_overrides_no_other_design(node: object) -> None:
    (line,) = refusal(node, "spark_format")
    for text in ("reward.reward_manager.name=spark_format", "spark_prmcot", "reward_model=spark_format"):
        assert text in line
    assert f"reward.spark.design={node['design']}" in line  # type: ignore[index]
