"""verl's own checkpoint handler and data loader, stopped after each step of two epochs."""

from types import SimpleNamespace

import pytest
from torch.utils.data import DistributedSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.utils.checkpoint.checkpoint_handler import CheckpointHandler, OrchestrationMode

from tests.prm import made
from verl_spark.prm.resume import Resume

EPOCHS, BATCHES = 2, 3


class Trainer:
    """What verl's `fit` does with loader and handler; a step is the batch it saw."""

    def __init__(self, folder):
        self.sampler = DistributedSampler(range(2 * BATCHES), num_replicas=1, rank=0)
        self.loader = StatefulDataLoader(range(2 * BATCHES), batch_size=2, sampler=self.sampler)
        engine = SimpleNamespace(save_checkpoint=lambda **_: None, load_checkpoint=lambda _: None)
        self.handler = CheckpointHandler(engine, self.loader, default_local_dir=str(folder), mode=OrchestrationMode.RAY)
        self.step = self.handler.load_checkpoint()

    def fit(self, stop=None):
        seen = []
        for epoch in range(self.step // BATCHES, EPOCHS):
            self.sampler.set_epoch(epoch)
            for batch in self.loader:
                self.step += 1
                seen.append(batch.tolist())
                if self.step == stop:
                    self.handler.save_checkpoint(self.step)
                    return seen
        return seen


@pytest.fixture
def resume(monkeypatch):
    for name in ("load_checkpoint", "_load_dataloader_state"):  # put back afterwards
        monkeypatch.setattr(CheckpointHandler, name, getattr(CheckpointHandler, name))
    found = Resume()
    found.install()
    return found


@pytest.mark.parametrize("stop", range(1, EPOCHS * BATCHES + 1))
def test_after_a_stop_at_any_step_the_batches_that_are_left_are_seen(resume, tmp_path, stop):
    whole = Trainer(tmp_path / "whole").fit()
    assert len(whole) == EPOCHS * BATCHES
    first = Trainer(tmp_path).fit(stop)
    second = Trainer(tmp_path)
    assert second.step == stop
    assert first + second.fit() == whole


def test_the_steps_of_a_training_are_known_once_it_looked_for_a_checkpoint(resume, tmp_path, model, data):
    config = made.config(model, data, f"trainer.total_epochs={EPOCHS}")
    assert resume.total_steps(config) is None
    Trainer(tmp_path)
    assert resume.total_steps(config) == EPOCHS * BATCHES
    assert resume.total_steps(made.config(model, data, "trainer.total_training_steps=5")) == 5
