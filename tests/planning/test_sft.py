"""The plan of a reward model's training: its steps and the tokens of its rows."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.planning.commands import said
from tests.recipes.scripts import FULL, dry
from verl_spark.planning.engines import Place, of_sft
from verl_spark.planning.sft import plan_sft
from verl_spark.prm.launch import overrides_of
from verl_spark.settings import SettingsError

SMALL = overrides_of("spark_prm", ["model.path=base", "data.train_batch_size=4", "data.max_length=100"])


def test_the_papers_training():
    (command,) = (one for one in dry(FULL / "2_prm.sh") if one.behind("verl-spark", "train", "prmcot"))
    found = plan_sft(overrides_of("spark_prmcot", command.overrides), 63_000, {"row": 1500})
    epochs, batch = found.config.trainer.total_epochs, found.config.data.train_batch_size
    assert found.steps == 63_000 // batch * epochs
    assert found.work.reply_tokens == found.work.calls * 1500 == found.steps * batch * 1500
    assert found.work.model == found.config.model.path
    (place,) = of_sft(found.config)
    assert place == Place("reward model, training", found.work.model, 8, None)


def test_rows_are_those_of_the_file_and_as_long_as_they_may_be(tmp_path):
    (tmp_path / "prm").mkdir()
    pq.write_table(pa.table({"messages": ["x"] * 10}), tmp_path / "prm" / "train.parquet")
    found = plan_sft([*SMALL, f"spark.data={tmp_path}", "trainer.total_epochs=3"], None, {})
    assert (found.steps, found.work.calls, found.work.reply_tokens) == (6, 24, 2400)
    found = plan_sft([*SMALL, f"spark.data={tmp_path}", "trainer.total_training_steps=2"], None, {})
    assert (found.steps, found.work.calls) == (2, 8)


def test_a_file_that_is_not_there_needs_a_number(tmp_path):
    with pytest.raises(SettingsError, match=r"train.parquet is no file that is here; .* --rows N"):
        plan_sft([*SMALL, f"spark.data={tmp_path}"], None, {})
    with pytest.raises(SettingsError, match=r"no file with rows is named; .* --rows N"):
        plan_sft(SMALL, None, {})
    assert plan_sft([*SMALL, f"spark.data={tmp_path}", "trainer.total_training_steps=7"], None, {}).steps == 7


def test_the_command():
    given = ("model.path=base", "data.train_batch_size=4", "trainer.total_epochs=1")
    found = said("sft", "prmcot", *given, "--rows", 40, "--tokens", "row=900", "--rate", "trainer=100", "--gpus", 2)
    assert "10 steps" in found
    assert "update base 40 0 36,000 given 0.10" in found
    assert "0.1 hours on 2 GPUs" in found
    assert "--rate trainer=TOKENS" in said("sft", "orm", *given, "--rows", 40)
    assert "there is no prmkot" in said("sft", "prmkot", *given, status=2)
