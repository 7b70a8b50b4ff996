"""The trainer hook: verl's own trainers, with what SPARK needs around some of their methods.

verl 0.9.1 has no hook to (a) leave a rollout out of its group, (b) put reward fields into training metrics,
(c) pass the data source, the reference and the kind of call to a colocated reward model, (d) prepare prompts
whatever dataset the recipe uses, (e) give an estimator the marks of steps, (f) make a reward of a whole group, which
is there for the first time before advantages are computed, (g) end a training after a step. A registered subclass does
all seven (`verl.trainer.ppo.v1.register_trainer`); other estimators, sampling, updates and checkpoints stay verl's."""

import json
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import open_dict
from verl.trainer.ppo.utils import create_rl_dataset
from verl.trainer.ppo.v1 import PPOTrainer, PPOTrainerColocateAsync, PPOTrainerSync, register_trainer
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from verl_spark.rewards.chance import Place
from verl_spark.rewards.credit import GROUPED, MarkedStep, Rollouts, sits_out
from verl_spark.rewards.designs import Basis
from verl_spark.rl.alarms import COUNT, Alarms, AlarmStop
from verl_spark.rl.dump import dumped, write_run
from verl_spark.rl.guard import watch
from verl_spark.rl.judge_actor import start_judge
from verl_spark.rl.metrics import credit_metrics, probe_metrics, step_metrics
from verl_spark.rl.prompts import PromptPreparer, instruction_of, note_of, same_problem
from verl_spark.rl.rollout_key import RolloutKey
from verl_spark.rl.row import KEYS, TRAINING_KEYS, Info, is_missing, row_of, steps_of
from verl_spark.rl.scoring import Facts
from verl_spark.rl.suspects import most_suspicious, record, write
from verl_spark.rl.votes import Votes
from verl_spark.rl.waking import explained
from verl_spark.settings import NODE, SparkSettings, differences, without_watching

logger = logging.getLogger(f"verl.{__name__}")  # verl's task runner shows its own loggers only

SETTINGS_FILE = "spark.json"
"""In every checkpoint folder: the settings it was trained with."""


class SparkHook(PPOTrainer):  # type: ignore[misc]
    """Mixed in before one of verl's v1 trainers; `verl_mode` is the mode that trainer is registered under."""

    verl_mode: str

    def __init__(self, config: Any) -> None:
        with open_dict(config):
            config.trainer.v1.trainer_mode = self.verl_mode  # verl branches on its own names in many places
        self.spark = SparkSettings.from_config(config.reward.spark)
        self._infos: dict[str, Info] = {}
        self._dumped: dict[str, dict[str, Any]] = {}
        self._silenced: dict[str, torch.Tensor] = {}
        self._alarms = Alarms(self.spark.alarms or {})
        self._stop: str | None = None
        super().__init__(config)

    # ---- set-up

    def _init_dataloader(self) -> None:
        """Adds the instruction to prompts; verl's filter for overlong prompts leaves room for it."""
        data = self.config.data
        instruction = instruction_of(self.spark)
        room = len(self.tokenizer(instruction)["input_ids"]) if instruction else 0
        limit = data.max_prompt_length
        if room >= limit:
            raise ValueError(
                f"data.max_prompt_length={limit} leaves no room for a problem beside the format instruction of "
                f"{room} tokens: raise it, or set reward.spark.policy_prompt=as_is if your prompts ask for the format"
            )
        with open_dict(self.config):
            data.max_prompt_length = limit - room
        super()._init_dataloader()
        probe = self._probe()
        with open_dict(self.config):
            data.max_prompt_length = limit
        for loader, validation in ((self.train_dataloader, False), (self.val_dataloader, True)):
            loader.collate_fn = PromptPreparer(loader.collate_fn, self.spark, validation, probe)
        if probe:
            # All rows now, and not the first bad one after hours; rows that a dataset adds later meet it then.
            for index in range(len(self.train_dataset)):
                self.train_dataloader.collate_fn.prepare(self.train_dataset[index])

    def _probe(self) -> frozenset[str]:
        """The probe's problems, read as verl reads every data set."""
        files = list(self.spark.probe_files)
        if not files:
            return frozenset()
        dataset = create_rl_dataset(files, self.config.data, self.tokenizer, self.processor, is_train=False)
        preparer = PromptPreparer(collate_fn, self.spark, True)
        rows = [preparer.prepare(dataset[index]) for index in range(len(dataset))]
        if not rows:
            raise ValueError(
                f"{NODE}.probe_files: no problem is left of {', '.join(files)}; raise data.max_prompt_length"
            )
        return frozenset(same_problem(note_of(row).problem) for row in rows)

    def _setup(self) -> None:
        super()._setup()
        if self.spark.suspects.folder is not None:
            Path(self.spark.suspects.folder).mkdir(parents=True, exist_ok=True)  # rather now than after the first step
        if not self.spark.asks_verifier:
            return
        verifier = self.spark.verifier
        if self.spark.serving == "external":
            urls, model = list(verifier.base_urls), str(verifier.model)
        else:
            addresses = self.reward_loop_manager.reward_model_manager.server_addresses
            urls = [f"http://{address}/v1" for address in addresses]
            model = self.config.reward.reward_model.model_path
        api_key = os.environ.get(verifier.api_key_env) if verifier.api_key_env else None
        self._judge = start_judge(self.spark, urls, model, api_key)
        logger.info("SPARK asks %s (%s) at %s", model, verifier.kind.value, ", ".join(urls))

    # ---- checkpoints

    def _save_checkpoint(self) -> None:
        folder = self._step_folder()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(json.dumps(self.spark.to_node(), indent=2))
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps == 0:
            return
        trainer = self.config.trainer
        given = trainer.resume_mode == "resume_path"
        folder = Path(trainer.resume_from_path if given else self._step_folder())
        stored = folder / SETTINGS_FILE
        if not stored.exists():
            logger.warning("%s has no %s: it was trained without SPARK, which now takes over", folder, SETTINGS_FILE)
            return
        before, now = map(without_watching, (json.loads(stored.read_text()), self.spark.to_node()))
        if changes := differences(before, now, NODE):
            raise ValueError(
                f"{folder} was trained with other settings: {'; '.join(changes)}. Restore them to resume, or start "
                f"anew with trainer.resume_mode=disable; to go on with the new ones on purpose, delete {stored}"
            )

    def _step_folder(self) -> Path:
        return Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}"

    # ---- a step

    def on_step_begin(self) -> None:
        """Forgets the rows of the last step, which its dump has written; after one with an alarm that stops, the
        training ends here."""
        if self._stop is not None:
            self._shutdown_dump_executor()  # raises
        self._infos = {}
        super().on_step_begin()

    def _compute_reward_colocate(self, batch: Any, metrics: dict[str, Any] | None = None) -> Any:
        """Gives the reward model what the streaming path gives it, and keeps its rows where that path keeps them."""
        manager = self.reward_loop_manager
        model = manager.reward_model_manager
        score = manager.compute_rm_score
        infos: list[Info] = []

        def with_fields(data: Any) -> Any:
            names = {"extra_info", "reward_model", "data_source", "uid"}
            fields = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(names))
            for name in names & fields.keys():
                data.non_tensor_batch[name] = _array(_objects(fields[name]))
            try:
                result = score(data)
            except BaseException:
                with suppress(Exception):  # the engine itself may be what failed
                    model.sleep()  # verl leaves it awake, holding the memory of the policy
                raise
            keys = result.meta_info["reward_extra_keys"]
            columns = {k: result.non_tensor_batch[k].tolist() for k in keys}
            infos.extend({k: column[i] for k, column in columns.items()} for i in range(len(data)))
            result.meta_info["reward_extra_keys"] = []  # verl would write a column each, which nothing reads
            return result

        wake = model.wake_up
        manager.compute_rm_score, model.wake_up = with_fields, explained(wake, self.config)
        try:
            batch = super()._compute_reward_colocate(batch, metrics)
        finally:
            manager.compute_rm_score, model.wake_up = score, wake
        stored = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
        extra = [
            {**old, "reward_extra_info": info}
            for old, info in zip(_objects(stored["extra_fields"]), infos, strict=True)
        ]
        _put(batch, {"extra_fields": extra})
        return batch

    @cached_property
    def _votes(self) -> Votes | None:
        """What counts the votes of a design by which groups vote."""
        return Votes() if self.spark.basis is Basis.GROUP else None

    def _count_votes(self, batch: Any, votes: Votes) -> None:
        """Writes the rewards by the groups' votes where the reward loop's would stand; padding is nobody's vote."""
        fields = ["extra_fields", "rm_scores"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        extra, scores = _objects(data["extra_fields"]), list(data["rm_scores"].unbind())
        real = [i for i, tag in enumerate(batch.tags) if not _is_padding(tag)]
        keys = [RolloutKey.parse(batch.keys[i]) for i in real]
        infos = votes.counted(keys, [extra[i]["reward_extra_info"] for i in real])
        for i, info in zip(real, infos, strict=True):
            extra[i] = {**extra[i], "reward_extra_info": info}
            scores[i] = torch.zeros_like(scores[i])
            scores[i][-1] = info["spark_reward"]  # as verl places the reward of a response
        _put(batch, {"extra_fields": extra, "rm_scores": scores})

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """The design's credit where it reads steps, else verl's estimator over the rollouts that have a reward.

        Those without get zero on every token."""
        if self._votes is not None:
            self._count_votes(batch, self._votes)
        fields = ["uid", "extra_fields", "response_mask", "rm_scores"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        uids = [str(uid) for uid in _objects(data["uid"])]
        infos: list[Info] = [extra["reward_extra_info"] for extra in _objects(data["extra_fields"])]
        rows = [row_of(info) for info in infos]
        padding = [_is_padding(tag) for tag in batch.tags]
        real = [row for row, pad in zip(rows, padding, strict=True) if not pad]
        metrics.update(step_metrics(real))
        watch(real, self.spark)
        self._infos.update(zip(batch.keys, infos, strict=True))
        if self.spark.credit.reads_steps:
            # Padding has nothing of its own: verl fills the batch with copies of a real rollout's fields.
            known = [
                None if pad or is_missing(row) else row["spark_reward"] for row, pad in zip(rows, padding, strict=True)
            ]
            steps = [None if pad else steps_of(info) for info, pad in zip(infos, padding, strict=True)]
            return self._credit_steps(batch, metrics, uids, known, steps)

        scores = [float(score.sum()) for score in data["rm_scores"].unbind()]
        rewards = [
            None if pad or is_missing(row) else score for row, score, pad in zip(rows, scores, padding, strict=True)
        ]
        grouped = self.config.algorithm.adv_estimator in GROUPED and not self.config.algorithm.use_kl_in_reward
        out = sits_out(uids, rewards, grouped)
        if not any(out):
            return super()._compute_advantage(batch, metrics)

        # For verl's estimators: a group of its own, and no token that the whitening of a batch could count. With all
        # of them out there is nothing to whiten, and verl refuses a batch without a token.
        masks = list(data["response_mask"].unbind())
        hidden = [o and not grouped and not all(out) for o in out]
        sums = list(data["rm_scores"].unbind())
        _put(
            batch,
            {
                "uid": [f"out{uuid.uuid4().hex}" if o else uid for uid, o in zip(uids, out, strict=True)],
                "response_mask": [torch.zeros_like(m) if h else m for m, h in zip(masks, hidden, strict=True)],
                "rm_scores": [torch.zeros_like(s) if o else s for s, o in zip(sums, out, strict=True)],
            },
        )
        batch = super()._compute_advantage(batch, metrics)
        names = ["advantages", "returns", "response_mask"] + (["values"] if self.use_critic else [])
        data_after = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        after = {name: list(data_after[name].unbind()) for name in names}
        # A critic learns nothing from a rollout without a reward: its return is what it predicted.
        idle_returns = after["values"] if self.use_critic else [torch.zeros_like(r) for r in after["returns"]]
        _put(
            batch,
            {
                "uid": uids,
                "rm_scores": sums,
                "response_mask": [
                    old if h else new for old, new, h in zip(masks, after["response_mask"], hidden, strict=True)
                ],
                "advantages": [torch.zeros_like(a) if o else a for a, o in zip(after["advantages"], out, strict=True)],
                "returns": [idle if o else r for idle, r, o in zip(idle_returns, after["returns"], out, strict=True)],
            },
        )
        return batch

    def _credit_steps(
        self,
        batch: Any,
        metrics: dict[str, Any],
        uids: list[str],
        rewards: list[float | None],
        steps: list[tuple[MarkedStep, ...] | None],
    ) -> Any:
        """Advantages by the design's credit, in place of those of verl's estimator; all lists in the batch's order.

        Raises `ValueError` for sessions of several outputs, which share the marks of the last."""
        if split := [key for key in batch.keys if RolloutKey.parse(key).output]:
            raise ValueError(
                f"{split[0]}: its agent loop returned several outputs for one session, and the step marks belong to "
                "the last alone; use an agent loop with one output (single_turn_agent, tool_agent), or "
                f"{NODE}.design=process_aware"
            )
        # First verl, for all that it does beside: its rollout correction may take tokens out of the response mask.
        batch = super()._compute_advantage(batch, metrics)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["response_mask"])
        masks = list(data["response_mask"].unbind())
        mask = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True).bool().numpy()
        rollouts = Rollouts(uids, rewards, mask, steps)
        credited = self.spark.credit.advantages(rollouts, self.config.algorithm.get("norm_adv_by_std_in_grpo", True))
        metrics.update(credit_metrics(rollouts, credited))
        lengths = [len(mask) for mask in masks]
        advantages = _cut(credited.advantages.astype(np.float32), lengths)
        self._silenced = dict(zip(batch.keys, _cut(credited.silenced, lengths), strict=True))
        _put(batch, {"advantages": advantages, "returns": advantages})
        return batch

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """With `zeroed_tokens: leave_out`, verl's update without the tokens that marks silenced.

        verl 0.9.1 takes the tokens of the loss from `response_mask` (`workers/utils/losses.py`) and their number from
        `loss_mask` (`forward_backward_batch` of its engines), so both change, for the update alone. A rollout
        that would have no token left keeps all of them: a mean over none is not defined."""
        silenced = self._silenced
        if self.spark.zeroed_tokens == "keep" or not any(bool(row.any()) for row in silenced.values()):
            return super()._update_actor(batch, metrics)
        names = ["response_mask", "loss_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
        whole = {name: list(data[name].unbind()) for name in names}
        _put(
            batch,
            {
                name: [_without(mask, silenced[key]) for key, mask in zip(batch.keys, masks, strict=True)]
                for name, masks in whole.items()
            },
        )
        try:
            return super()._update_actor(batch, metrics)
        finally:
            _put(batch, whole)

    # ---- what verl writes down

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """With the metrics of the step complete, those of its validation included: alarms and suspects."""
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        if self.spark.alarms:
            fired = self._alarms.check(metrics, self.global_steps)
            metrics[COUNT] = float(len(fired))
            for alarm in fired:
                logger.log(logging.ERROR if alarm.stop else logging.WARNING, alarm.text)
            self._stop = next((alarm.text for alarm in fired if alarm.stop), None)
        if self.spark.suspects.folder is not None:
            self._keep_suspects(batch, Path(self.spark.suspects.folder))

    def _keep_suspects(self, batch: Any, folder: Path) -> None:
        tags = zip(batch.keys, batch.tags, strict=True)
        rows = {key: row_of(self._infos[key]) for key, tag in tags if not _is_padding(tag)}
        suspects = most_suspicious(rows, self.spark.suspects.per_step)
        records = []
        if suspects:
            keys = [suspect.key for suspect in suspects]
            fields = ["prompts", "responses"]
            data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
            texts = ([self._text(ids) for ids in data[name].unbind()] for name in fields)
            for suspect, prompt, response in zip(suspects, *texts, strict=True):
                records.append(record(suspect, rows[suspect.key], self.global_steps, prompt, response))
        write(folder, self.global_steps, records)

    def _text(self, ids: Any) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    def _shutdown_dump_executor(self) -> None:
        """verl 0.9.1 calls this at every end of a training (`on_train_end` only at an early one): so it also ends the
        processes of the vote's answer check, and raises `AlarmStop` when the step had an alarm that stops. In the last
        step verl has no other place where the step is logged, dumped and saved as a whole; in any other that is the
        beginning of the next one."""
        super()._shutdown_dump_executor()
        if self._votes is not None:
            self._votes.close()
        if self._stop is not None:
            raise AlarmStop(
                f"training stops: {self._stop}. The step is logged, checkpoints are as they were; if steps are left, "
                "change the alarm and start the same command again to go on"
            )

    def _log_rollout_data(self, batch: Any, timing_raw: dict[str, Any], rollout_data_dir: str) -> None:
        """Gathers what the dump of training rollouts says beside verl's fields, and the settings of the run."""
        fields = ["extra_info", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        rows = zip(batch.keys, batch.tags, _objects(data["extra_info"]), data["response_mask"].unbind(), strict=True)
        self._dumped = {}
        for key, tag, extra, mask in rows:
            facts = Facts(len(mask), self.config.data.max_response_length, place=_place(key, tag, extra))
            problem = note_of({"extra_info": extra}).problem
            self._dumped[key] = dumped(self.spark, self._infos[key], problem, mask.tolist(), facts, _is_padding(tag))
        write_run(Path(rollout_data_dir), self.spark, self.config.algorithm)
        super()._log_rollout_data(batch, timing_raw, rollout_data_dir)

    def _dump_generations(
        self, inputs: Any, outputs: Any, gts: Any, scores: Any, reward_extra_infos_dict: Any, dump_path: Any
    ) -> None:
        """Adds what was gathered to the dump of training rollouts, where verl leaves extra fields out."""
        if dump_path == self.config.trainer.get("rollout_data_dir"):
            told = [self._dumped[key] for key in reward_extra_infos_dict["uid"]]
            columns = {name: [fields[name] for fields in told] for name in told[0]} if told else {}
            reward_extra_infos_dict = {**reward_extra_infos_dict, **columns}
        super()._dump_generations(inputs, outputs, gts, scores, reward_extra_infos_dict, dump_path)

    def _val_metrics_update(
        self, data_sources: Any, sample_uids: Any, reward_extra_infos_dict: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Keeps verl from averaging fields that say nothing of a validation response, and adds what the probe says."""
        fields = {key: values for key, values in reward_extra_infos_dict.items() if key not in TRAINING_KEYS}
        metrics = super()._val_metrics_update(data_sources, sample_uids, fields, *args, **kwargs)
        columns = {key: reward_extra_infos_dict[key] for key in KEYS if key in reward_extra_infos_dict}
        probed = [index for index, probe in enumerate(columns.get("spark_probe", ())) if probe == 1]
        metrics.update(probe_metrics([{key: column[index] for key, column in columns.items()} for index in probed]))
        return metrics


def _objects(column: Any) -> list[Any]:
    """The Python objects of a non-tensor TransferQueue column, whatever container the backend gave it."""
    return [getattr(item, "data", item) for item in (column.tolist() if hasattr(column, "tolist") else column)]


def _is_padding(tag: Mapping[str, Any]) -> bool:
    """Whether a row of a batch is no rollout, but a copy with which verl fills it."""
    return bool(tag.get("is_padding", False))


def _place(key: str, tag: Mapping[str, Any], extra: Mapping[str, Any]) -> Place | None:
    """Where a rollout stands in the run, as `rl.prompts.place_of` has it; None without a dataset index."""
    index, step = extra.get("index"), tag.get("global_steps")
    return None if index is None or step is None else Place(int(step), str(index), RolloutKey.parse(key).session)


def _array(values: list[Any]) -> Any:
    """A one-dimensional object array, whatever the values look like to numpy."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _cut(padded: Any, lengths: list[int]) -> list[torch.Tensor]:
    """The rows of an (N, T) array, each as long as its rollout."""
    return [torch.from_numpy(row[:length].copy()) for row, length in zip(padded, lengths, strict=True)]


def _without(mask: torch.Tensor, silenced: torch.Tensor) -> torch.Tensor:
    """The mask less the silenced tokens; as it was if none would be left."""
    left = mask.masked_fill(silenced, 0)
    return left if bool(left.any()) else mask


def _put(batch: Any, columns: dict[str, list[Any]]) -> None:
    """Writes columns of a batch back to TransferQueue; tensors of unequal length as a nested tensor."""
    fields = {
        name: torch.nested.as_nested_tensor(values, layout=torch.jagged)
        if isinstance(values[0], torch.Tensor)
        else _array(values)
        for name, values in columns.items()
    }
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=tu.get_tensordict(fields))


class SparkTrainerSync(SparkHook, PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer with the hook."""

    verl_mode = "sync"


class SparkTrainerColocateAsync(SparkHook, PPOTrainerColocateAsync):  # type: ignore[misc]
    """verl's colocated asynchronous trainer with the hook."""

    verl_mode = "colocate_async"


def register() -> None:
    """Registers the trainers under `spark_` + verl's name, as `verl_spark.launch.engage` writes it."""
    for trainer in (SparkTrainerSync, SparkTrainerColocateAsync):
        register_trainer(f"spark_{trainer.verl_mode}")(trainer)
