"""A tiny model with its tokenizer and data sets, made from nothing in a few seconds."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
START_OF_TURN = "<|im_start|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CROSSES, NOUGHTS = "XXXXXXXX", "OOOOOOOO"
"""Every problem carries one of them: what a taught verifier of the fixtures goes by."""


@dataclass(frozen=True)
class Tiny:
    """Folder of a Qwen2 model with its tokenizer, and parquet files in verl's schema."""

    model: Path
    train: Path
    validation: Path


def make(folder: Path, *, rows: int = 64, layers: int = 2, width: int = 64, seed: int = 0) -> Tiny:
    """Write an untrained model (weights from `seed`), its byte-level tokenizer and sums as data into `folder`."""
    tiny = Tiny(folder / "model", folder / "train.parquet", folder / "validation.parquet")
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(tiny.model)
    _model(tokenizer, layers=layers, width=width, seed=seed).save_pretrained(tiny.model)
    data = [_row(i) for i in range(2 * rows)]
    pd.DataFrame(data[:rows]).to_parquet(tiny.train)
    pd.DataFrame(data[rows:]).to_parquet(tiny.validation)
    return tiny


def _tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        additional_special_tokens=[START_OF_TURN],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _model(tokenizer: PreTrainedTokenizerFast, *, layers: int, width: int, seed: int) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def _row(i: int) -> dict[str, object]:
    left, right = i % 10, i // 10
    return {
        "data_source": "sums",
        "prompt": [{"role": "user", "content": f"{CROSSES if i % 2 else NOUGHTS} What is {left} plus {right}?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(left + right)},
        "extra_info": {"index": i, "split": "train"},
    }
