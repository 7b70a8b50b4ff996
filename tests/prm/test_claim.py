"""A run's folder holds one training; a finished one is not started again."""

import pytest

from tests.prm import made
from verl_spark.prm.claim import check_folder, claim, is_trained, latest_step
from verl_spark.prm.settings import SftSettings
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind


def begun(config, step=2):
    """The folder of a run that was stopped after a checkpoint."""
    claim(config, SftSettings.from_config(config))
    (made.Path(config.trainer.default_local_dir) / "latest_checkpointed_iteration.txt").write_text(str(step))


def check(config):
    check_folder(config, SftSettings.from_config(config))


def test_the_same_training_goes_on(model, data):
    begun(made.config(model, data))
    check(made.config(model, data, "trainer.total_epochs=9", "optim.lr=1"))


@pytest.mark.parametrize(
    ("overrides", "kind", "shown"),
    [
        ((), Kind.PRM, "spark.kind: 'prm_cot', now 'prm'"),
        (("model.path=other",), Kind.PRM_COT, "now 'other'"),
        (("trainer.seed=2",), Kind.PRM_COT, "data.seed: 1, now 2"),
        (("data.train_batch_size=2",), Kind.PRM_COT, "data.train_batch_size: 4, now 2"),
        (("data.train_files=${data.val_files}",), Kind.PRM_COT, "data.train_files"),
    ],
)
def test_another_training_in_its_folder_is_refused_with_both_values(model, data, overrides, kind, shown):
    begun(made.config(model, data))
    with pytest.raises(SettingsError) as refused:
        check(made.config(model, data, *overrides, kind=kind))
    assert shown in str(refused.value)
    assert "trainer.default_local_dir=FOLDER" in str(refused.value)
    check(made.config(model, data, *overrides, "trainer.resume_mode=disable", kind=kind))


def test_without_a_checkpoint_nothing_is_bound(model, data):
    config = made.config(model, data)
    claim(config, SftSettings.from_config(config))
    check(made.config(model, data, "trainer.seed=2"))
    assert latest_step(config) is None


def test_a_finished_training_is_refused(model, data):
    config = made.config(model, data)
    (data / "run" / "export").mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"spark\.export=.*finished"):
        check(config)


def test_a_training_is_over_when_its_last_step_is_there(model, data):
    config = made.config(model, data, "trainer.total_training_steps=2")
    assert not is_trained(config)
    begun(config, step=1)
    assert not is_trained(config)
    begun(config, step=2)
    assert is_trained(config)
    assert not is_trained(made.config(model, data))
    assert not is_trained(made.config(model, data, "trainer.total_training_steps=3"))
