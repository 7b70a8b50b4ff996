"""Everything that can be known to be wrong before the first step, each in one sentence with the cure.

`check` needs the composed config and looks at base model, options and every row. It loads a tokenizer, no weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track

from verl_spark.configs import files_of, get
from verl_spark.prm.model import chat_of, load_tokenizer
from verl_spark.prm.rows import Row, fault, problem_of, read_rows, row_count
from verl_spark.prm.settings import SftSettings
from verl_spark.prm.tokens import Trained, trained_tokens
from verl_spark.settings import SettingsError
from verl_spark.verifier.chat import Chat

SPLITS = ("train", "validation")
_KEYS = {"train": "data.train_files", "validation": "data.val_files"}
_SHOWN = 5
"""Faulty rows that a message names."""


@dataclass
class Split:
    """What was found in the rows of one split."""

    rows: int = 0
    kept: int = 0
    """Rows that fit into `data.max_length`."""
    longest: int = 0
    """Tokens of the longest row."""
    faults: list[str] = field(default_factory=list)
    problems: set[str] = field(default_factory=set)
    samples: list[Row] = field(default_factory=list)
    """The first row and the longest one that is kept."""


@dataclass(frozen=True)
class Checked:
    """A config that can train, and what it trains on."""

    settings: SftSettings
    splits: dict[str, Split]
    trained: list[Trained]


def check(config: DictConfig) -> Checked:
    """Looks at everything; raises `SettingsError` with one line for each problem found, nothing is written."""
    settings = SftSettings.from_config(config)
    problems = [*_options(config, settings)]
    try:
        tokenizer = load_tokenizer(config)
        chat = chat_of(tokenizer, settings.kind)
    except SettingsError as error:
        raise SettingsError([*error.problems, *problems]) from None
    splits = {}
    for name, key in _KEYS.items():
        try:
            splits[name] = _split(config, settings, chat, name, files_of(config, key))
        except SettingsError as error:
            problems += error.problems
    for name, split in splits.items():
        problems += _split_problems(config, name, split)
    if shared := set.intersection(*(split.problems for split in splits.values())) if len(splits) > 1 else set():
        problems.append(
            f"data.val_files: {len(shared)} problems are in data.train_files as well, such as {min(shared)!r:.80}; "
            "split by problem, as `verl-spark data export` does"
        )
    if problems:
        raise SettingsError(problems)
    trained = list(trained_tokens(config, tokenizer, chat, [row for split in splits.values() for row in split.samples]))
    wrong = [f"{one.place}: {one.problem}" for one in trained if one.problem]
    if wrong:
        cls = get(config, "data.custom_cls.name") or "verl's own class"
        raise SettingsError([*wrong, f"these rows came from {cls}; leave data.custom_cls to the preset"])
    return Checked(settings, splits, trained)


def _options(config: DictConfig, settings: SftSettings) -> Iterator[str]:
    if not files_of(config, "data.train_files"):
        yield (
            "spark.data: no data is named; set it to the folder of one method of Stage I, such as "
            "outputs/data/sft/step, or data.train_files to files of your own"
        )
    if settings.data_card is not None and not settings.data_card.is_file():
        yield f"spark.data_card={settings.data_card}: there is no such file; leave it out, or name the data's card.json"
    if (truncation := get(config, "data.truncation")) != "error":
        yield (
            f"data.truncation={truncation} would cut replies before their verdict; leave it at error, and leave rows "
            "out that are too long with data.filter_overlong=True"
        )
    if get(config, "data.apply_chat_template_kwargs"):
        yield (
            "data.apply_chat_template_kwargs: the reward stage asks without any, so what is learned with them would "
            "not be asked for; leave it out, or write the behaviour into model.custom_chat_template"
        )
    for key in ("trainer.save_freq", "trainer.test_freq"):
        if get(config, key) == 0:
            yield f"{key}=0: verl divides by it; set it to -1 for the last step only"
    if not files_of(config, "data.val_files") and get(config, "trainer.test_freq") not in (-1, None):
        yield "trainer.test_freq: there is nothing to validate on; name data.val_files, or set it to -1"
    if get(config, "model.lora_rank") or get(config, "model.lora_adapter_path"):
        yield "model.lora_rank: adapters cannot be exported as a verifier yet; train all weights, or merge it yourself"
    if (strategy := get(config, "engine.strategy")) not in ("fsdp", "fsdp2"):
        yield f"engine.strategy={strategy}: the export reads checkpoints of fsdp and fsdp2; use one of them"
    room, longest = get(config, "data.max_token_len_per_gpu"), get(config, "data.max_length")
    parallel = get(config, "engine.ulysses_sequence_parallel_size") or 1
    if get(config, "data.use_dynamic_bsz") and room * parallel < longest:
        yield (
            f"data.max_token_len_per_gpu={room} holds no row of data.max_length={longest}; raise the first or lower "
            "the second"
        )


def _split(config: DictConfig, settings: SftSettings, chat: Chat, name: str, files: Sequence[Path]) -> Split:
    found = Split()
    limit, key = get(config, "data.max_length"), get(config, "data.messages_key")
    rows = track(
        read_rows(files, key), f"checking {name}", row_count(files), console=Console(stderr=True), transient=True
    )
    longest_kept = 0
    for row in rows:
        found.rows += 1
        if (problem := problem_of(row, settings.kind)) is not None:
            found.problems.add(problem)
        if (why := fault(row, settings.kind)) is not None:
            found.faults.append(f"{row.place}: {why}")
            continue
        message, reply = row.turns()
        length = len(chat.prompt_ids(message)) + len(chat.reply_ids(reply))
        found.longest = max(found.longest, length)
        if length > limit:
            continue
        found.kept += 1
        if length > longest_kept or not found.samples:
            longest_kept = length
            found.samples = [*found.samples[:1], row]
    return found


def _split_problems(config: DictConfig, name: str, split: Split) -> Iterator[str]:
    key = _KEYS[name]
    yield from split.faults[:_SHOWN]
    if (more := len(split.faults) - _SHOWN) > 0:
        yield f"{key}: {more} more rows like these, of {split.rows}"
    if split.faults:
        return
    limit, batch = get(config, "data.max_length"), get(config, "data.train_batch_size")
    files = files_of(config, key)
    if not files:
        return
    cure = "" if name == "train" else "; without a validation set: data.val_files=null trainer.test_freq=-1"
    if not split.rows:
        yield f"{key}: {', '.join(map(str, files))}: no rows{cure or '; make more data'}"
        return
    overlong = split.rows - split.kept
    if overlong and not get(config, "data.filter_overlong"):
        yield (
            f"data.max_length={limit}: {overlong} of {split.rows} rows of {key} are longer, the longest has "
            f"{split.longest} tokens; raise it, or leave such rows out with data.filter_overlong=True"
        )
    elif split.kept < batch:
        yield (
            f"data.train_batch_size={batch}: {key} has {split.kept} rows, and verl drops an incomplete batch; lower "
            f"it{cure}"
        )


def summary(checked: Checked) -> dict[str, dict[str, int]]:
    """Counts of each split that has rows: rows, problems, rows left out, tokens of the longest."""
    return {
        name: {
            "rows": split.kept,
            "problems": len(split.problems),
            "left out": split.rows - split.kept,
            "tokens in the longest": split.longest,
        }
        for name, split in checked.splits.items()
        if split.rows
    }
