"""The commands in the README and the documents are commands that there are, with options and keys that there are."""

import re
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.docs.pages import PAGES, ROOT
from tests.recipes.scripts import Command, composed, sft_config
from verl_spark.cli.main import app
from verl_spark.data.config import DataConfig
from verl_spark.evaluation.config import EvalConfig
from verl_spark.evaluation.policy.config import MathConfig
from verl_spark.launch import check
from verl_spark.rescoring.config import ScoreConfig

SHOWN = {(str(page), words): None for page in PAGES for words in page.commands()}
COMMANDS = [pytest.param(words, id=f"{page}: {' '.join(words)[:60]}") for page, words in SHOWN]
DATA_YAML = next(
    block for page in PAGES if page.path.name == "data.md" for block in page.blocks("yaml") if "# data.yaml" in block
)
CONFIGS = {
    ("data",): DataConfig,
    ("plan", "data"): DataConfig,
    ("eval", "processbench"): EvalConfig,
    ("eval", "math"): MathConfig,
    ("score",): ScoreConfig,
}
MINIMAL = ["actor_rollout_ref.rollout.n=8", "reward.reward_model.model_path=PRM", "data.max_response_length=2048"]
"""What an example that shows some overrides alone leaves to its recipe."""


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_one_that_there_is(words, tmp_path):
    (tmp_path / "data.yaml").write_text(DATA_YAML)
    program, rest = words[0], list(words[1:])
    if program == "verl-spark":
        ours(rest, tmp_path)
    elif program == "make":
        made(rest)
    elif program == "torchrun":
        sft_config(Command(words))
    elif program == "python" and rest[:2] == ["-m", "verl.trainer.main_ppo"]:
        reinforced(rest[2:])
    elif program == "python":
        module(rest)
    else:
        reinforced(words)


def ours(words: list[str], folder: Path) -> None:
    """Parses the options, without running anything, and loads the config that the keys make."""
    words = [word for word in words if "…" not in word]
    command: Any = get_command(app)
    names: list[str] = []
    while (commands := getattr(command, "commands", None)) and words:
        names.append(words.pop(0))
        assert names[-1] in commands, " ".join(names)
        command = commands[names[-1]]
    values, _, _ = command.make_parser(command.context_class(command)).parse_args(list(words))
    valued = {name for option in command.params if not getattr(option, "is_flag", False) for name in option.opts}
    keys = [word for before, word in pairwise(["", *words]) if re.match(r"[\w.]+=", word) and before not in valued]
    if names[0] == "train" and keys:
        sft_config(Command(("verl-spark", "train", names[1] if names[1] != "check" else "prmcot", *keys)))
    config = next((config for prefix, config in CONFIGS.items() if tuple(names[: len(prefix)]) == prefix), None)
    if (config is not None and keys) or values.get("config"):
        file = folder / Path(values["config"]).name if values.get("config") else None
        flags = [f"replies={values['replies']}"] if values.get("replies") else []
        flags += ["ask=true"] if values.get("ask") else []
        assert config is not None
        config.load(file, [*keys, *flags])


def made(words: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, given, _ = word.partition("=")
        assert re.search(rf"^{name} *\?=" if given else rf"^{name}:", text, re.MULTILINE), word


def module(words: list[str]) -> None:
    """A module of this repository, with options that its source names."""
    assert words[0] == "-m", words
    spec = find_spec(words[1])
    assert spec is not None, words
    source = (
        Path(str(spec.origin)).with_name("__main__.py") if spec.submodule_search_locations else Path(str(spec.origin))
    )
    text = source.read_text()
    for option in (word for word in words[2:] if word.startswith("--")):
        name = option.partition("=")[0]
        assert name in text or f'"{name[2:]}"' in text or re.search(rf"\b{name[2:].replace('-', '_')}\b", text), option


def reinforced(words: list[str] | tuple[str, ...]) -> None:
    """Overrides of verl's RL config compose, and our checks take them."""
    overrides = [word for word in words if "=" in word and "<" not in word and ">" not in word and "…" not in word]
    missing = [one for one in MINIMAL if one.partition("=")[0] not in " ".join(overrides)]
    preset = [] if any(word.startswith("reward_model=") for word in overrides) else ["reward_model=spark_prmcot"]
    probe = ["reward.spark.probe_files=[probe.parquet]", "trainer.test_freq=1"] if "spark/probe" in str(words) else []
    gpus = [] if "serving" in str(words) else ["reward.reward_model.n_gpus_per_node=8"]
    assert check(composed([*preset, *missing, *gpus, *probe, *overrides])) is not None
