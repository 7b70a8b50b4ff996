"""What is refused before the first step: each with what is wrong, where, and the cure; nothing is written."""

import shutil
from pathlib import Path

import pytest

from tests.prm import made
from verl_spark.prm.check import check, summary
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind


def problems(config) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        check(config)
    return list(refused.value.problems)


def refusal(config) -> str:
    (line,) = problems(config)
    return line


@pytest.mark.parametrize("kind", Kind)
def test_the_files_of_stage_one_can_train_every_kind(model, data, kind):
    checked = check(made.config(model, data, kind=kind))
    counts = summary(checked)
    assert {name: part["rows"] for name, part in counts.items()} == {
        split: len(made.rows_of(data, kind, split)) for split in ("train", "validation")
    }
    assert counts["train"]["problems"] + counts["validation"]["problems"] == 10
    assert len(checked.trained) >= 2
    for one in checked.trained:
        assert one.last == "<|im_end|>"
        assert 0 < one.tokens < one.length <= max(part["tokens in the longest"] for part in counts.values())


def test_nothing_is_written(model, data):
    before = sorted(data.rglob("*"))
    check(made.config(model, data))
    assert sorted(data.rglob("*")) == before


def test_a_faulty_row_is_named_with_its_file(model, data):
    rows = made.rows_of(data)
    rows[2]["messages"][1]["content"] = "I cannot say."
    made.rewrite(data, rows)
    line = refusal(made.config(model, data))
    assert line.startswith(f"{data}/prm_cot/train.parquet, row 2: ")
    assert "no verdict" in line


def test_of_many_faulty_rows_some_are_named_and_all_counted(model, data):
    shutil.copy(data / "prm" / "train.parquet", data / "prm_cot" / "train.parquet")
    lines = problems(made.config(model, data))
    count = len(made.rows_of(data, Kind.PRM))
    assert len(lines) == 6
    assert "the reply of another kind, prm" in lines[0]
    assert f"{count - 5} more rows like these, of {count}" in lines[-1]


def test_rows_of_two_kinds_are_refused(model, data):
    rows = made.rows_of(data)
    rows[-1] = {**made.rows_of(data, Kind.THINK_PRM)[-1]}
    made.rewrite(data, rows)
    assert "a thinking part, which belongs to a think_prm only" in refusal(made.config(model, data))


def test_long_rows_are_refused_with_count_longest_and_cure(model, data):
    longest = check(made.config(model, data)).splits["train"].longest
    limit = longest - 1
    given = (f"data.max_length={limit}", "data.val_files=null", "trainer.test_freq=-1")
    line = refusal(made.config(model, data, *given))
    overlong = sum(len(row["messages"][1]["content"]) > 150 for row in made.rows_of(data))
    assert f"data.max_length={limit}: {overlong} of {len(made.rows_of(data))} rows" in line
    assert f"the longest has {longest} tokens" in line
    assert "data.filter_overlong=True" in line
    checked = check(made.config(model, data, *given, "data.filter_overlong=True"))
    assert summary(checked)["train"]["left out"] == overlong


def test_a_split_without_rows_is_refused(model, data):
    made.rewrite(data, [], split="validation")
    line = refusal(made.config(model, data))
    assert "validation.parquet: no rows" in line
    assert "data.val_files=null" in line
    check(made.config(model, data, "data.val_files=null", "trainer.test_freq=-1"))
    made.rewrite(data, [])
    assert "train.parquet: no rows" in problems(made.config(model, data))[0]


def test_too_few_rows_for_a_batch_are_refused(model, data):
    assert "verl drops an incomplete batch" in problems(made.config(model, data, "data.train_batch_size=64"))[0]


@pytest.mark.parametrize("column", [True, False], ids=["by id", "by text"])
def test_a_problem_in_both_splits_is_refused(model, data, column):
    rows = made.rows_of(data) + made.rows_of(data, split="validation")[:1]
    if not column:
        rows = [{**row, "problem_id": None} for row in rows]
        made.rewrite(
            data, [{**row, "problem_id": None} for row in made.rows_of(data, split="validation")], split="validation"
        )
    made.rewrite(data, rows)
    assert "data.val_files: 1 problems are in data.train_files as well" in refusal(made.config(model, data))


def test_a_base_model_without_a_chat_template(tmp_path, data):
    model = made.base_model(tmp_path / "base", template=None)
    line = refusal(made.config(model, data))
    assert str(model) in line
    assert "without a chat template" in line
    assert "model.custom_chat_template" in line
    config = made.config(model, data)
    config.model.custom_chat_template = made.CHAT_TEMPLATE
    assert check(config)


def test_a_template_that_opens_thinking_suits_a_think_prm_only(tmp_path, data):
    model = made.base_model(tmp_path / "base", made.OPENS_THINKING)
    assert "opens a thinking part" in refusal(made.config(model, data))
    assert check(made.config(model, data, kind=Kind.THINK_PRM))


def test_a_template_that_refuses_the_dialogue_is_told(tmp_path, data):
    model = made.base_model(tmp_path / "base", "{{ raise_exception('a system turn, please') }}")
    assert "refuses a plain dialogue (a system turn, please)" in refusal(made.config(model, data))


def test_a_template_without_an_end_is_refused(tmp_path, data):
    model = made.base_model(tmp_path / "base", made.ENDS_WITHOUT_TOKEN)
    assert "cannot learn where to stop" in refusal(made.config(model, data))


def test_what_is_no_model(tmp_path, data, model):
    (tmp_path / "empty").mkdir()
    assert "without config.json, so no model" in refusal(made.config(tmp_path / "empty", data))
    assert "there is no such folder" in refusal(made.config(tmp_path / "absent", data))
    assert "model.path: no base model is named" in refusal(made.config("null", data))
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    assert "its tokenizer cannot be loaded" in refusal(made.config(broken, data))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.truncation=right", ("data.truncation=right", "before their verdict")),
        ("+data.apply_chat_template_kwargs.enable_thinking=False", ("data.apply_chat_template_kwargs",)),
        ("trainer.save_freq=0", ("trainer.save_freq=0", "-1")),
        ("data.val_files=null", ("trainer.test_freq", "-1")),
        ("model.lora_rank=8", ("model.lora_rank",)),
        ("engine.strategy=megatron", ("engine.strategy=megatron", "fsdp2")),
        ("data.max_token_len_per_gpu=5", ("data.max_token_len_per_gpu=5", "data.max_length=8192")),
        ("spark.data_card=nowhere.json", ("spark.data_card=nowhere.json",)),
        ("data.train_files=[nowhere.parquet]", ("nowhere.parquet: there is no such file",)),
        ("spark.kind=cot", ("spark.kind", "'prm_cot'")),
        ("+spark.knd=prm", ("spark.knd", "the settings here are: kind, data")),
    ],
)
def test_options_that_cannot_work(model, data, override, says):
    line = refusal(made.config(model, data, override))
    assert [text for text in says if text not in line] == []


def test_without_data_the_option_is_named(model, tmp_path):
    config = made.config(model, tmp_path)
    config.spark.data = "???"
    assert any(line.startswith("spark.data: no data is named") for line in problems(config))


def test_all_problems_come_at_once(data, tmp_path):
    config = made.config(tmp_path / "absent", data, "data.truncation=left", "trainer.test_freq=0")
    assert len(problems(config)) == 3


def test_relative_and_listed_files_are_read(model, data, monkeypatch):
    monkeypatch.chdir(data)
    config = made.config(model, Path("."), "data.train_files=[prm_cot/train.parquet]")
    assert check(config).splits["train"].rows == len(made.rows_of(data))
