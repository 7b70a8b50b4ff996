"""A run's folder belongs to one training: what decides what is learned is kept there, and another one is refused.

verl resumes from whatever checkpoint lies in `trainer.default_local_dir` (0.9.1); a PRM would go on as a PRM-CoT."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from verl_spark.configs import files_of, get
from verl_spark.files import file_hash, replacing
from verl_spark.prm.settings import SftSettings
from verl_spark.settings import SettingsError, differences
from verl_spark.verification.prompts import prompt_hash, verifier_prompt

FILE = "spark_sft.json"
_TRACKER = "latest_checkpointed_iteration.txt"  # verl writes it last, when a checkpoint is whole
_BINDING = ("data.train_batch_size", "data.max_length", "data.filter_overlong", "data.train_max_samples", "data.seed")


def latest_step(config: DictConfig) -> int | None:
    """Step of the last whole checkpoint in the run's folder; None without one."""
    tracker = _folder(config) / _TRACKER
    return int(tracker.read_text()) if tracker.is_file() else None


def checkpoint(config: DictConfig, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return _folder(config) / f"global_step_{step}"


def binding(config: DictConfig, settings: SftSettings) -> dict[str, Any]:
    """What a run must repeat to go on in the same folder, by the name under which it is set."""
    prompt = verifier_prompt(settings.kind)
    return {
        "spark.kind": settings.kind.value,
        "prompt": f"{prompt} {prompt_hash(prompt)}",
        "model.path": str(get(config, "model.path")),
        "data.train_files": " ".join(file_hash(file) for file in files_of(config, "data.train_files")),
        **{key: get(config, key) for key in _BINDING},
    }


def check_folder(config: DictConfig, settings: SftSettings) -> None:
    """Raises `SettingsError` when the folder holds another training, with both values, or a finished one."""
    if settings.export.exists():
        raise SettingsError(
            [
                f"spark.export={settings.export} is there already: this training is finished, or was exported before "
                "its end; remove that folder to go on, or choose another one"
            ]
        )
    stored = _folder(config) / FILE
    if get(config, "trainer.resume_mode") != "auto" or latest_step(config) is None or not stored.is_file():
        return
    if changes := differences(json.loads(stored.read_text()), binding(config, settings)):
        cure = "restore the first values, or choose another folder with trainer.default_local_dir=FOLDER"
        raise SettingsError([f"{stored.parent} was trained with {change}" for change in changes] + [cure])


def claim(config: DictConfig, settings: SftSettings) -> None:
    """Keeps in the folder what a later run must repeat."""
    with replacing(_folder(config) / FILE) as file:
        json.dump(binding(config, settings), file, indent=2)


def is_trained(config: DictConfig) -> bool:
    """Whether the last step of `trainer.total_training_steps` is there.

    verl 0.9.1 would train one step more on resuming there; without that key it sees by itself that nothing is left."""
    total, step = get(config, "trainer.total_training_steps"), latest_step(config)
    return get(config, "trainer.resume_mode") == "auto" and None not in (total, step) and step >= total


def _folder(config: DictConfig) -> Path:
    return Path(str(get(config, "trainer.default_local_dir"))).expanduser()
