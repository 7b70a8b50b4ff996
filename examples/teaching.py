"""How tiny models are taught from nothing in minutes, and kept: all of the demonstration's are made with this.

They are Qwen2 models with a tokenizer of their own: bytes, so that any text comes back as it was, and one token for
each fixed stretch of the task's texts, so that sequences are short."""

import hashlib
import inspect
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.utils import logging as transformers_logging

from examples import muon
from verl_spark.verification import prompts

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

Report = Callable[[str], None]

transformers_logging.disable_progress_bar()  # a bar for each file of a model that loads in a moment


@dataclass(frozen=True)
class Shape:
    """Size of a model."""

    layers: int = 4
    width: int = 128
    heads: int = 4
    inner: int = 384
    context: int = 2048
    rope_theta: float = 1000.0
    initial_deviation: float = 0.09
    """About 1/sqrt(width): with the 0.02 of large models, copying takes twice as long to learn."""


@dataclass(frozen=True)
class Lessons:
    """How a model is taught."""

    examples: int
    """Different ones; seen again if the updates need more."""
    updates: int
    batch: int
    """Examples in an update."""
    learning_rate: float
    """Peak; a linear warm-up before it, a linear fall over the second half."""
    seed: int
    warm_up: int = 20


@dataclass(frozen=True)
class Example:
    """A text to learn from: the tokens after the positions in `taught` are what is learned."""

    ids: list[int]
    taught: list[bool]
    """For every position but the last."""

    @classmethod
    def of(cls, parts: Iterable[tuple[list[int], bool]]) -> "Example":
        """Parts in order, each with whether it is learned."""
        tokens = [(token, taught) for ids, taught in parts for token in ids]
        return cls([token for token, _ in tokens], [taught for _, taught in tokens[1:]])


def build_tokenizer(stretches: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, with a token of its own for each of these texts.

    Only the three chat marks are special tokens; all others survive decoding without special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in (PAD, TURN_START, TURN_END)])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in stretches])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=Shape.context,
    )


@dataclass(frozen=True)
class Answer:
    """A reply."""

    text: str
    prompt_tokens: int
    tokens: int
    """The end of the turn included."""
    ended: bool
    """Whether it came to an end, or was cut."""


class TinyModel:
    """A model and its tokenizer, to be asked."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def replies(self, messages: Sequence[str], new_tokens: int, sample: bool) -> list[str]:
        """One reply to each user message, in order; drawn at temperature 1, or greedy."""
        return [one.text for one in self.answers(messages, new_tokens, sample)]

    def answers(self, messages: Sequence[str], new_tokens: int, sample: bool, batch: int = 256) -> list[Answer]:
        """The same with how long each is, and whether it came to an end."""
        return _answers(self.model, self.tokenizer, messages, new_tokens, sample, batch)


# --- teaching -------------------------------------------------------------------------------------------------------


def teach(
    name: str,
    pairs: Sequence[tuple[str, str]],
    base: Path,
    lessons: Lessons,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Teach the base model the replies of these (user message, reply) pairs and save it; says how it went."""
    start = TinyModel(base)
    tokenizer = start.tokenizer
    examples = dialogues(tokenizer, pairs)
    replies = [sum(example.taught) for example in examples]
    prompts_ = [len(example.ids) - reply for example, reply in zip(examples, replies, strict=True)]
    lengths = {
        "prompt_tokens": {"mean": round(mean(prompts_), 1), "max": max(prompts_)},
        "reply_tokens": {"mean": round(mean(replies), 1), "max": max(replies)},
    }
    report(f"{name}: {lengths}")
    taught = train(name, start.model, examples, lessons, tokenizer.pad_token_id, report)
    save(folder, start.model, tokenizer)
    return {"base": base.name, **lengths, **taught}


def dialogues(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> list[Example]:
    """Examples of (user message, reply); the reply is what is learned."""
    return [
        Example.of(
            [(_prompt_ids(tokenizer, message), False), ([*tokenizer.encode(reply), tokenizer.eos_token_id], True)]
        )
        for message, reply in pairs
    ]


def train(
    name: str, model: Qwen2ForCausalLM, examples: Sequence[Example], lessons: Lessons, pad: int, report: Report
) -> dict[str, Any]:
    """Train the model in place; says how it went."""
    rng = random.Random(lessons.seed)
    model.train()
    optimizers = _optimizers(model, lessons.learning_rate)
    schedules = [LambdaLR(optimizer, lambda step: _rate(step, lessons)) for optimizer in optimizers]
    started = time.monotonic()
    losses = []
    for update, batch in enumerate(_batches(examples, lessons, rng), 1):
        loss = _loss(model, batch, pad)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if update % 25 == 0 or update == lessons.updates:
            seconds = time.monotonic() - started
            report(f"{name}: update {update}/{lessons.updates}, loss {mean(losses[-10:]):.3f}, {seconds:.0f} s")
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "lessons": asdict(lessons),
        "examples": len(examples),
        "final_loss": round(mean(losses[-10:]), 4),
        "seconds": round(time.monotonic() - started, 1),
    }


def _optimizers(model: Qwen2ForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, with which copying is learned in about half the updates; AdamW for the rest."""
    inside = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    kept = {id(weight) for weight in inside}
    rest = [weight for weight in model.parameters() if id(weight) not in kept]
    return [
        muon.Muon(inside, lr=3 * learning_rate, weight_decay=0.01),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def save(folder: Path, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes both into a folder that vLLM and verl load."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fresh_model(tokenizer: PreTrainedTokenizerFast, shape: Shape, highest: int) -> Qwen2ForCausalLM:
    """A model that knows nothing but how the tokens of the numbers up to `highest` (below 100) are made of digits."""
    config = Qwen2Config(
        vocab_size=64 * math.ceil(len(tokenizer) / 64),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=shape.context,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        rope_theta=shape.rope_theta,
        initializer_range=shape.initial_deviation,
        attn_implementation="sdpa",
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id], pad_token_id=tokenizer.pad_token_id
    )
    _number_the_numbers(model, tokenizer, highest)
    return model


@torch.no_grad()
def _number_the_numbers(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, highest: int) -> None:
    """Start every number's vectors as the sum of one for its tens and one for its units.

    Carrying is then a matter of ten digits instead of a hundred numbers, and is learned in minutes."""
    ids = tokenizer.convert_tokens_to_ids([str(number) for number in range(highest + 1)])
    for weight, scale in ((model.model.embed_tokens.weight, 0.3), (model.lm_head.weight, 0.1)):
        digits = scale * torch.randn(2, 10, weight.shape[1])
        for number, token in enumerate(ids):
            weight[token] = digits[0, number // 10] + digits[1, number % 10]


def _prompt_ids(tokenizer: PreTrainedTokenizerFast, message: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer.encode(text))


def _batches(examples: Sequence[Example], lessons: Lessons, rng: random.Random) -> Iterator[list[Example]]:
    """`lessons.updates` batches in random order, each of examples of about the same length."""
    owed: list[list[Example]] = []
    for _ in range(lessons.updates):
        if not owed:
            mixed = sorted(rng.sample(examples, len(examples)), key=lambda example: len(example.ids))
            owed = [mixed[at : at + lessons.batch] for at in range(0, len(mixed), lessons.batch)]
            rng.shuffle(owed)
        yield owed.pop()


def _loss(model: Qwen2ForCausalLM, batch: Sequence[Example], pad: int) -> torch.Tensor:
    """Mean cross-entropy of what is taught. Padding is on the right, where causal attention never looks."""
    length = max(len(example.ids) for example in batch)
    tokens = torch.tensor([example.ids + [pad] * (length - len(example.ids)) for example in batch])
    taught = torch.tensor([example.taught + [False] * (length - len(example.ids)) for example in batch])
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden[taught]), tokens[:, 1:][taught])


def _rate(step: int, lessons: Lessons) -> float:
    rise, fall = (step + 1) / lessons.warm_up, (lessons.updates - step) / (0.5 * lessons.updates)
    return max(0.05, min(1.0, rise, fall))


@torch.no_grad()
def _answers(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[str],
    new_tokens: int,
    sample: bool,
    batch: int,
) -> list[Answer]:
    model.eval()
    prompt_ids = [_prompt_ids(tokenizer, message) for message in messages]
    order = sorted(range(len(messages)), key=lambda index: len(prompt_ids[index]))
    replies: dict[int, Answer] = {}
    for at in range(0, len(order), batch):
        chosen = order[at : at + batch]
        padded = tokenizer.pad({"input_ids": [prompt_ids[i] for i in chosen]}, padding_side="left", return_tensors="pt")
        manner = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sample else {"do_sample": False}
        out = model.generate(**padded, max_new_tokens=new_tokens, **manner)
        for index, ids in zip(chosen, out[:, padded["input_ids"].shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            length = ids.index(tokenizer.eos_token_id) + 1 if ended else len(ids)
            text = tokenizer.decode(ids[:length], skip_special_tokens=True)
            replies[index] = Answer(text, len(prompt_ids[index]), length, ended)
    return [replies[index] for index in range(len(messages))]


# --- the cache ------------------------------------------------------------------------------------------------------


def key(*parts: Any, code: Sequence[ModuleType]) -> str:
    """Hash of what determines a model: its recipe, this code and that of `code`, and the prompts."""
    recipe = json.dumps([asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts])
    sources = [inspect.getsource(module) for module in (sys.modules[__name__], muon, *code)]
    hashes = [prompts.prompt_hash(name) for name in prompts.prompt_names()]
    return hashlib.sha256("\0".join([recipe, *sources, *hashes]).encode()).hexdigest()[:12]


def cached(folder: Path, make: Callable[[Path], dict[str, Any]], report: Report) -> Path:
    """The folder, made beside and renamed if it is not there; `make` fills it and says how it was taught."""
    if folder.is_dir():
        report(f"{folder.name}: found in {folder.parent}")
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        teaching = make(draft)
        (draft / "teaching.json").write_text(json.dumps(teaching, indent=2) + "\n")
        draft.chmod(0o755)
        os.replace(draft, folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    report(f"{folder.name}: saved in {folder.parent}")
    return folder


def said(scores: dict[str, float]) -> str:
    """Scores in a line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scores.items())


def mean(values: Iterable[float]) -> float:
    """NaN of nothing."""
    found = list(values)
    return sum(found) / len(found) if found else float("nan")
