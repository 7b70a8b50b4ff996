"""What the callback of the presets lets pass, ends and exports. The whole way is an end-to-end test."""

import pytest
from hydra.core.utils import JobReturn, JobStatus

from tests.prm import made
from verl_spark.prm import callback
from verl_spark.prm.callback import SftCallback


@pytest.fixture
def exported(monkeypatch):
    """Configs that were exported, instead of exporting them; and verl's handler is left alone."""
    found = []
    monkeypatch.setattr(callback, "export", found.append)
    monkeypatch.setattr(callback.Resume, "install", lambda self: None)
    return found


def reached(config, step):
    folder = made.Path(config.trainer.default_local_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest_checkpointed_iteration.txt").write_text(str(step))
    return config


def ended(status=JobStatus.COMPLETED):
    return JobReturn(status=status)


def test_a_good_config_passes_and_a_bad_one_ends_the_program(model, data, exported):
    SftCallback().on_run_start(made.config(model, data))
    with pytest.raises(SystemExit, match=r"data\.truncation"):
        SftCallback().on_run_start(made.config(model, data, "data.truncation=left"))


def test_data_that_was_checked_before_is_not_read_again(model, data, exported):
    made.rewrite(data, [])
    SftCallback().on_run_start(made.config(model, data, "spark.check_data=False"))


def test_what_is_trained_is_logged(model, data, exported, caplog):
    caplog.set_level("INFO")
    found = SftCallback()
    found.on_run_start(made.config(model, data))
    found.on_job_start(made.config(model, data), task_function=None)
    assert "to '<|im_end|>'" in caplog.text


def test_a_complete_training_is_exported_by_the_first_process_alone(model, data, exported, monkeypatch):
    config = reached(made.config(model, data, "trainer.total_training_steps=4"), 4)
    SftCallback().on_job_end(config, ended())
    assert exported == [config]
    monkeypatch.setenv("RANK", "1")
    SftCallback().on_job_end(config, ended())
    assert exported == [config]


@pytest.mark.parametrize("step", [2, None])
def test_an_incomplete_training_is_not_exported(model, data, exported, step):
    config = made.config(model, data, "trainer.total_training_steps=4")
    if step:
        reached(config, step)
    with pytest.raises(SystemExit, match=f"step {step} of 4, so nothing is exported"):
        SftCallback().on_job_end(config, ended())
    assert exported == []


def test_a_failed_training_is_not_exported(model, data, exported):
    config = reached(made.config(model, data, "trainer.total_training_steps=4"), 4)
    SftCallback().on_job_end(config, ended(JobStatus.FAILED))
    assert exported == []


def test_an_export_that_was_interrupted_is_made_up_for_without_training(model, data, exported):
    config = reached(made.config(model, data, "trainer.total_training_steps=4"), 4)
    with pytest.raises(SystemExit) as ending:
        SftCallback().on_run_start(config)
    assert ending.value.code == 0
    assert exported == [config]


def test_an_export_that_fails_says_how_to_repeat_it(model, data, monkeypatch):
    def broken(config):
        raise OSError("disk full")

    monkeypatch.setattr(callback, "export", broken)
    config = reached(made.config(model, data, "trainer.total_training_steps=4"), 4)
    with pytest.raises(SystemExit, match="disk full; start the same command again"):
        SftCallback().on_job_end(config, ended())
