"""The base model of a training, looked at before it is loaded."""

from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from omegaconf import DictConfig

from verl_spark.configs import get
from verl_spark.settings import SettingsError
from verl_spark.verification.kinds import Kind
from verl_spark.verifier.chat import Chat


def load_tokenizer(config: DictConfig) -> Any:
    """The tokenizer as verl's trainer loads it, with `model.custom_chat_template` if one is set.

    Raises `SettingsError` when `model.path` names no model, or one without a tokenizer."""
    path = get(config, "model.path")
    if not path:
        raise SettingsError(["model.path: no base model is named; set it to a Hugging Face name or a model's folder"])
    folder = Path(str(path)).expanduser()
    is_path = str(path).startswith((".", "~", "/")) or str(path).count("/") > 1
    if is_path and "://" not in str(path) and not folder.is_dir():
        raise SettingsError([f"model.path={path}: there is no such folder, and it is no Hugging Face name"])
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise SettingsError([f"model.path={path} is a folder without config.json, so no model; name the model's own"])
    from verl.utils import hf_tokenizer
    from verl.utils.fs import copy_to_local

    source = get(config, "model.tokenizer_path") or str(folder if folder.is_dir() else path)
    try:
        local = copy_to_local(source)
        tokenizer = hf_tokenizer(local, trust_remote_code=bool(get(config, "model.trust_remote_code")))
    except Exception as error:  # whatever a hub, a file system or a tokenizer's own code raises
        text = str(error).strip().split("\n")[0]
        raise SettingsError([f"model.path={path}: its tokenizer cannot be loaded ({text}); is it complete?"]) from error
    if template := get(config, "model.custom_chat_template"):
        tokenizer.chat_template = template
    return tokenizer


def chat_of(tokenizer: Any, kind: Kind) -> Chat:
    """The base model's chat template, if a verifier of this kind can be taught in it; else raises `SettingsError`."""
    cure = "set model.custom_chat_template, or choose an instruction-tuned base model"
    if getattr(tokenizer, "chat_template", None) is None:
        raise SettingsError([f"model.path={tokenizer.name_or_path}: a base model without a chat template; {cure}"])
    try:
        chat = Chat(tokenizer)
        _ = chat.end_of_turn
    except ValueError as error:
        raise SettingsError([f"model.path: {error}"]) from None
    except TemplateError as error:
        raise SettingsError([f"model.path: its chat template refuses a plain dialogue ({error}); {cure}"]) from None
    if chat.opens_thinking and kind is not Kind.THINK_PRM:
        raise SettingsError(
            [
                f"model.path={tokenizer.name_or_path}: its chat template opens a thinking part, in which the whole "
                f"reply of a {kind.value} would stand; {cure}, or train a think_prm"
            ]
        )
    return chat
