"""What travels with a model. That the weights do is shown by the end-to-end test."""

import json

import pytest
from huggingface_hub import ModelCard

from tests.prm import made
from verl_spark.prm.export import CARD_FILE, add_scores, export, identity_of, write_card
from verl_spark.prm.settings import SftSettings
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.identity import Identity

STATEMENT = "No reference answer was read for this data set."


@pytest.fixture
def identity(model, data):
    card = {"models": {"verifier": "v"}, "seed": 4, "methods": {"step": {"statement": STATEMENT, "kept": 20}}}
    (data.parent.parent / "card.json").write_text(json.dumps(card))
    config = made.config(model, data, "trainer.seed=3")
    return identity_of(config, SftSettings.from_config(config), step=7)


def test_it_says_what_the_model_is_and_where_it_comes_from(identity, model, data):
    assert (identity.kind, identity.prompt, identity.seed) == (Kind.PRM_COT, "verifier_prm", 3)
    assert identity.base_model == model.name  # no path of this machine
    assert str(data) not in identity.model_dump_json()
    assert identity.training["steps"] == 7
    assert identity.data["train"][0]["rows"] == len(made.rows_of(data))
    assert identity.data_card == {"models": {"verifier": "v"}, "seed": 4, "method": "step", "statement": STATEMENT} | {
        "kept": 20
    }


def test_without_a_data_card_that_is_said(model, data, tmp_path):
    config = made.config(model, data)
    identity = identity_of(config, SftSettings.from_config(config), step=1)
    assert identity.data_card is None
    write_card(tmp_path, identity)
    assert "No data card was given" in (tmp_path / CARD_FILE).read_text()


def test_the_card_is_one_that_a_hub_reads_and_shows_statement_prompt_and_scores(identity, tmp_path):
    identity.write(tmp_path)
    write_card(tmp_path, identity)
    card = ModelCard.load(tmp_path / CARD_FILE)
    assert card.data.library_name == "transformers"
    assert STATEMENT in card.text
    assert identity.prompt_sha256 in card.text
    assert "reward_model=spark_prmcot" in card.text
    assert "None so far" in card.text
    for name, value in (("ProcessBench F1", 0.5), ("demo F1", 0.25)):
        (tmp_path / "scores.json").write_text(json.dumps({name: value}))
        add_scores(tmp_path, tmp_path / "scores.json")
    text = (tmp_path / CARD_FILE).read_text()
    assert "| ProcessBench F1 | 0.5 |" in text
    assert "| demo F1 | 0.25 |" in text
    assert Identity.of(tmp_path) == identity.model_copy(update={"scores": {"ProcessBench F1": 0.5, "demo F1": 0.25}})


def test_scores_belong_to_exported_models_only(tmp_path):
    (tmp_path / "scores.json").write_text('{"a": 1}')
    with pytest.raises(SettingsError, match="no model that `verl-spark train` exported"):
        add_scores(tmp_path, tmp_path / "scores.json")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_scores_are_results_by_name(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(SettingsError, match=r"scores\.json"):
        add_scores(tmp_path, tmp_path / "scores.json")


def test_without_a_checkpoint_or_into_a_folder_that_is_there_nothing_is_exported(model, data):
    config = made.config(model, data)
    with pytest.raises(SettingsError, match="no checkpoint is there yet"):
        export(config)
    (data / "run" / "export").mkdir(parents=True)
    (data / "run" / "latest_checkpointed_iteration.txt").write_text("2")
    with pytest.raises(SettingsError, match="there already"):
        export(config)
    assert list((data / "run" / "export").iterdir()) == []
