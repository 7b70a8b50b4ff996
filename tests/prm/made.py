"""Chat templates of several styles, base models without weights, SFT files, and composed configs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerFast, Qwen2Config

from examples.teaching import CHAT_TEMPLATE, PAD, TURN_END, build_tokenizer
from tests.data.made import record
from verl_spark.data.sft import write_sft
from verl_spark.prm.launch import composed, overrides_of
from verl_spark.prm.settings import PRESETS
from verl_spark.verification.kinds import Kind

GENERATION = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TEMPLATES = {
    "plain": CHAT_TEMPLATE,
    "default system turn": "{% if messages[0].role != 'system' %}<|im_start|>system\nBe exact.<|im_end|>\n{% endif %}"
    + TURNS
    + GENERATION,
    # Takes thinking out of a reply, and puts an empty thinking part before one that has none.
    "thinking": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{{ m.content.split('</think>')[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}" + GENERATION,
    "thinking off": TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}",
    "trimmed": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}"
    + GENERATION,
    "begins with a token": "<|endoftext|>" + TURNS + GENERATION,
}
"""Templates in which every kind can be taught."""
OPENS_THINKING = TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
ENDS_WITHOUT_TOKEN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
LEAVES_OUT_REPLY = "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}"
PRESET = {kind: preset for preset, kind in PRESETS.items()}


def tokenizer(template: str | None = CHAT_TEMPLATE, eos: str = TURN_END) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with this template; `<think>` is one ordinary token, as in models that think."""
    made = build_tokenizer(["<think>", "</think>"])
    made.chat_template, made.eos_token, made.model_max_length = template, eos, 10**6
    return made


def base_model(folder: Path, template: str | None = CHAT_TEMPLATE, eos: str = PAD) -> Path:
    """All of a model's folder that is looked at before a training starts: everything but weights."""
    tokenizer(template, eos).save_pretrained(folder)
    Qwen2Config(vocab_size=320, hidden_size=8, num_hidden_layers=1, num_attention_heads=1).save_pretrained(folder)
    return folder


def records(problems: int = 10) -> list:
    """Records of two solutions to each problem, one right and one wrong from its second step on."""
    marks = ((1, 1), (1, 0, 0))
    return [record(one, f"p{p}", f"p{p}-s{s}") for p in range(problems) for s, one in enumerate(marks)]


def sft_files(folder: Path, problems: int = 10) -> Path:
    """Files as Stage I writes them, for every kind."""
    write_sft(records(problems), folder, seed=0, validation_share=0.3)
    return folder


def rows_of(folder: Path, kind: Kind = Kind.PRM_COT, split: str = "train") -> list[dict]:
    return pq.read_table(folder / kind.value / f"{split}.parquet").to_pylist()


def rewrite(folder: Path, rows: list[dict], kind: Kind = Kind.PRM_COT, split: str = "train") -> None:
    path = folder / kind.value / f"{split}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pq.read_schema(path)), path)


def config(model: Path, data: Path, *overrides: str, kind: Kind = Kind.PRM_COT):
    """verl's SFT config with the preset of a kind, sized for `sft_files`."""
    small = ("data.train_batch_size=4", f"trainer.default_local_dir={data}/run")
    given = [f"model.path={model}", f"spark.data={data}", *small, *overrides]
    return composed(overrides_of(PRESET[kind], given))
