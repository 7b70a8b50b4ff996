"""The finished model: a Hugging Face folder that vLLM and verl load, with what it is and where it comes from.

Weights are merged by verl's `model_merger` out of the last checkpoint. Everything is written beside the folder, which
is there as a whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import ModelCard, ModelCardData
from omegaconf import DictConfig

from verl_spark.configs import files_of, get
from verl_spark.files import file_hash
from verl_spark.prm.claim import checkpoint, latest_step
from verl_spark.prm.model import chat_of, load_tokenizer
from verl_spark.prm.settings import SftSettings
from verl_spark.settings import MANAGER_OF, SettingsError
from verl_spark.verifier.identity import Identity
from verl_spark.versions import versions

CARD_FILE = "README.md"
_TEMPLATE = Path(__file__).with_name("card.jinja")
_CARD_OF_STAGE1 = Path("..", "..", "card.json")
_TRAINING = (
    *(
        "optim.lr",
        "optim.lr_scheduler_type",
        "optim.lr_warmup_steps_ratio",
        "optim.weight_decay",
        "trainer.total_epochs",
    ),
    *("trainer.total_training_steps", "data.train_batch_size", "data.max_length", "data.filter_overlong"),
)


def export(config: DictConfig) -> Path:
    """Writes the folder `spark.export` out of the last checkpoint, and returns it.

    Raises `SettingsError` when there is no checkpoint, or the folder is there already."""
    settings = SftSettings.from_config(config)
    target, step = settings.export, latest_step(config)
    if step is None:
        raise SettingsError([f"{get(config, 'trainer.default_local_dir')}: no checkpoint is there yet; train first"])
    if target.exists():
        raise SettingsError([f"spark.export={target} is there already; choose another folder"])
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    _merge(config, checkpoint(config, step), draft)
    _finish_tokenizer(config, settings, draft)
    identity = identity_of(config, settings, step)
    identity.write(draft)
    write_card(draft, identity)
    draft.replace(target)
    return target


def identity_of(config: DictConfig, settings: SftSettings, step: int) -> Identity:
    """What the model of a checkpoint is, with the facts of its training."""
    base = str(get(config, "model.path"))
    card = _data_card(settings)
    return Identity.of_kind(
        settings.kind,
        base_model=Path(base).name if Path(base).expanduser().is_dir() else base,  # a path of this machine helps nobody
        seed=get(config, "trainer.seed"),
        training={**{key: get(config, key) for key in _TRAINING}, "steps": step},
        data={
            split: [_facts(file) for file in files_of(config, key)]
            for split, key in (("train", "data.train_files"), ("validation", "data.val_files"))
        },
        data_card=card,
        versions=versions(),
    )


def add_scores(folder: Path, file: Path) -> Identity:
    """Adds results of evaluations, a JSON object by name, to an exported model's file and card.

    A name that is there already gets the new result. Raises `SettingsError` for another folder or file."""
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(scores, dict):
            raise ValueError("no object of results by name")
    except ValueError as error:
        raise SettingsError([f"{file}: {error}"]) from None
    try:
        identity = Identity.of(folder)
    except ValueError as error:
        raise SettingsError([str(error)]) from None
    if identity is None:
        raise SettingsError([f"{folder} is no model that `verl-spark train` exported"])
    identity = identity.model_copy(update={"scores": {**identity.scores, **scores}})
    identity.write(folder)
    write_card(folder, identity)
    return identity


def write_card(folder: Path, identity: Identity) -> None:
    """Writes the model card."""
    facts = ModelCardData(
        base_model=identity.base_model if "/" in identity.base_model else None,  # a hub refuses what is not on it
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["verl-spark"],
    )
    shown = {key: value for key, value in identity.training.items() if value is not None}
    card = ModelCard.from_template(
        facts, template_path=str(_TEMPLATE), identity=identity, preset=MANAGER_OF[identity.kind], training=shown
    )
    card.save(folder / CARD_FILE)


def _merge(config: DictConfig, source: Path, target: Path) -> None:
    from verl.model_merger.base_model_merger import ModelMergerConfig
    from verl.model_merger.fsdp_model_merger import FSDPModelMerger

    trusted = bool(get(config, "model.trust_remote_code"))
    FSDPModelMerger(
        ModelMergerConfig(
            operation="merge",
            backend="fsdp",
            local_dir=str(source),
            hf_model_config_path=str(source / "huggingface"),
            target_dir=str(target),
            trust_remote_code=trusted,
        )
    ).merge_and_save()


def _finish_tokenizer(config: DictConfig, settings: SftSettings, folder: Path) -> None:
    """Tokenizer with the chat template it was trained in, and a generation config that stops where a turn ends.

    The base model's own sampling defaults (a repetition penalty, say) would be mixed into every request by a server; a
    verifier is asked greedily."""
    from transformers import GenerationConfig

    tokenizer = load_tokenizer(config)
    end = chat_of(tokenizer, settings.kind).end_of_turn
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    tokenizer.save_pretrained(folder)
    GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=tokenizer.pad_token_id).save_pretrained(folder)


def _data_card(settings: SftSettings) -> dict[str, Any] | None:
    """The card of the data's method, with models, problems and seed."""
    path = settings.data_card or (settings.data / _CARD_OF_STAGE1 if settings.data else None)
    if path is None or not path.is_file():
        return None
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    method = settings.data.resolve().name if settings.data else None
    known = {key: card[key] for key in ("models", "problems", "seed") if key in card}
    return {**known, "method": method, **card.get("methods", {}).get(method, {})}


def _facts(file: Path) -> dict[str, Any]:
    return {"file": file.name, "rows": pq.ParquetFile(file).metadata.num_rows, "sha256": file_hash(file)}
