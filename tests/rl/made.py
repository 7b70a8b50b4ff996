"""verl's batches and the trainer hook as plain objects: TransferQueue in memory, no Ray, no engine."""

import numpy as np
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta


class Queue:
    """TransferQueue in memory: the two calls that the trainer makes, over columns of one batch."""

    def __init__(self, columns):
        self.columns = columns

    def kv_batch_get(self, keys, partition_id, select_fields):
        from verl.utils import tensordict_utils as tu

        return tu.get_tensordict({name: self.columns[name] for name in select_fields if name in self.columns})

    def kv_batch_put(self, keys, partition_id, fields):
        for name in fields.keys():  # noqa: SIM118  a TensorDict iterates over its rows
            column = fields[name]
            self.columns[name] = column if isinstance(column, torch.Tensor) else objects(list(column))
        return KVBatchMeta(partition_id=partition_id, keys=keys, tags=[{} for _ in keys])

    def rows(self, name):
        """A column as one list a rollout."""
        return [row.tolist() for row in self.columns[name].unbind()]


def objects(values):
    """A column of Python objects."""
    values = list(values)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def nested(rows, dtype=torch.float32):
    """A column of rows of unequal length."""
    return torch.nested.as_nested_tensor([torch.tensor(row, dtype=dtype) for row in rows], layout=torch.jagged)


def hook_over(monkeypatch, queue, settings, **algorithm):
    """The hook of the synchronous trainer, without set-up, over a queue."""
    from verl.trainer.ppo.v1 import trainer_base

    from verl_spark.rl import trainer

    for module in (trainer, trainer_base):
        monkeypatch.setattr(module, "tq", queue)
    hook = object.__new__(trainer.SparkTrainerSync)
    defaults = {"adv_estimator": "grpo", "gamma": 1.0, "lam": 1.0, "use_kl_in_reward": False}
    hook.config = OmegaConf.create(
        {
            "algorithm": {**defaults, **algorithm},
            "actor_rollout_ref": {"rollout": {"n": 4}},
            "data": {"max_response_length": 1000},
            "trainer": {},
        }
    )
    hook.spark, hook.use_critic = settings, hook.config.algorithm.adv_estimator == "gae"
    hook._infos, hook._silenced, hook._stop = {}, {}, None
    return hook


def batch_of(keys, tags=None):
    """The batch as the trainer's methods hand it on."""
    return KVBatchMeta(partition_id="train", keys=list(keys), tags=tags or [{} for _ in keys])
