"""The demonstration's policy and PRM-CoT: about a million parameters each, taught from nothing in minutes.

Both are Qwen2 models with a tokenizer of their own: bytes, so that any text comes back as it was, and one token
for each number and each fixed stretch of the task's texts, so that sequences are short. Both start from one base
model, which has been drilled in single operations and in quoting. The policy is then taught by someone careless and
gives many wrong answers; the PRM-CoT is taught by programmatic verifications of right solutions, of solutions with
injected errors and of the policy's own. `teaching.json` beside each model says how it was taught and what it can do
on held-out problems.

    python -m examples.tiny_models [CACHE_FOLDER]
"""

import hashlib
import inspect
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch.optim.lr_scheduler import LambdaLR
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from examples import arithmetic
from examples.arithmetic import Problem, Split, Truth
from verl_spark.verification import prompts, rendering
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS
from verl_spark.verification.reading import read

DEFAULT_CACHE = Path(".cache/demo")
FACTS_A_PAGE = 6
WRONG_STEPS = 0.4
"""Share of wrong steps in the wrong solutions that the PRM-CoT is taught with."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

_DAY = r"\b\w+day\b"
_PIECE = re.compile(rf"\d+|{_DAY}|</?\w+>\n*|\\boxed\{{|(?:(?!{_DAY})[^\d<\n.?\\])+(?:\?|\.?(?:\*\*)?\n*)|\n+")
"""A stretch of text that gets a token of its own; a tag or a sentence ends it, so that no step shares a token."""


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
    """Peak; a linear warm-up before it, a linear fall over the last third."""
    seed: int
    warm_up: int = 20


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the two models, apart from the code and the prompts."""

    shape: Shape = Shape()
    drills: Lessons = Lessons(examples=22400, updates=700, batch=32, learning_rate=3e-3, seed=0)
    """The base model's lessons: pages of `FACTS_A_PAGE` operations to work out, and as many of steps to quote."""
    policy: Lessons = Lessons(examples=5120, updates=160, batch=32, learning_rate=2e-3, seed=2)
    slip_share: float = 0.5
    """The policy's teacher forgets to carry in this share of the additions of a large number that carry."""
    prm: Lessons = Lessons(examples=11200, updates=350, batch=32, learning_rate=3e-3, seed=3)
    prm_drills: float = 0.25
    """Share of more drills among the examples of the PRM-CoT."""
    prm_policy_samples: int = 1200
    """Examples among those of the PRM-CoT whose solutions the policy wrote."""
    prm_label_error: float = 0.0
    """Share of marks that are wrong in what the PRM-CoT is taught."""
    held_out: int = 512
    """Problems on which the models are measured."""


@dataclass(frozen=True)
class DemoModels:
    """Folders of the two models, each with its tokenizer and `teaching.json`."""

    policy: Path
    prm: Path


Report = Callable[[str], None]


def demo_models(cache: Path = DEFAULT_CACHE, recipe: Recipe = Recipe(), report: Report = print) -> DemoModels:
    """The two models, taught unless the cache has them.

    A model's folder is named by what determines it and is there as a whole or not at all."""
    base_key = _key(recipe.shape, recipe.drills)
    policy_key = _key(base_key, recipe.policy, recipe.slip_share, recipe.held_out)
    prm_key = _key(policy_key, recipe)
    base = _cached(cache / f"base-{base_key}", lambda folder: _make_base(folder, recipe, report), report)
    policy = _cached(cache / f"policy-{policy_key}", lambda folder: _make_policy(folder, base, recipe, report), report)
    prm = _cached(cache / f"prm-cot-{prm_key}", lambda folder: _make_prm(folder, base, policy, recipe, report), report)
    return DemoModels(policy, prm)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of both models: bytes, the numbers up to 99 and the fixed stretches of the task's texts.

    Only the three chat marks are special tokens; all others survive decoding without special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in (PAD, TURN_START, TURN_END)])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in _stretches()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=Shape.context,
    )


def policy_message(problem: str) -> str:
    """The user turn that asks the policy for a solution, as reinforcement learning asks it."""
    return f"{problem}\n\n{TAGS.instruction()}"


def verifier_message(problem: str, solution: str) -> str:
    """The user turn that asks the PRM-CoT for a verification, as reinforcement learning asks it."""
    return prompts.verifier_message(Kind.PRM_COT, problem, rendering.render(solution, TAGS).text)


class TinyModel:
    """A model and its tokenizer, to be asked."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def replies(self, messages: Sequence[str], new_tokens: int, sample: bool, batch: int = 256) -> list[str]:
        """One reply to each user message, in order; drawn at temperature 1, or greedy."""
        return _replies(self.model, self.tokenizer, messages, new_tokens, sample, batch)


@dataclass(frozen=True)
class PolicyScores:
    """What a policy does on problems."""

    accuracy: float
    """Share of right answers in the box; a response that the gate refuses is wrong."""
    gate_valid: float


def score_policy(problems: Sequence[Problem], solutions: Sequence[str]) -> PolicyScores:
    """Scores of one solution for each problem."""
    answers = [TAGS.answer(solution) for solution in solutions]
    right = [answer == str(problem.answer) for problem, answer in zip(problems, answers, strict=True)]
    return PolicyScores(_mean(right), _mean(answer is not None for answer in answers))


@dataclass(frozen=True)
class Agreement:
    """How far verifications agree with the truth about solutions that have steps and pass the gate."""

    solutions: int
    readable: float
    """Share of verifications with a verdict and a mark for every step."""
    steps: float
    """Share of right marks among all steps of readable verifications."""
    verdict: float
    """Share of right verdicts, unreadable ones being wrong."""
    first_error: float
    """Share in which the first wrong step (or its absence) is right."""
    false_yes: float
    """Share of Yes among wrong solutions."""
    false_no: float
    """Share of No among right solutions."""


def agreement(truths: Sequence[Truth], verifications: Sequence[str]) -> Agreement:
    """Agreement of one verification for each solution with the truth about it."""
    marks, verdicts, first, readable = [], [], [], []
    yes: dict[bool, list[bool]] = {True: [], False: []}
    for truth, verification in zip(truths, verifications, strict=True):
        reading = read(verification, Kind.PRM_COT)
        steps = reading.steps if reading.steps is not None and len(reading.steps) == len(truth.marks) else None
        readable.append(steps is not None and reading.outcome is not None)
        marks += [given == right for given, right in zip(steps or (), truth.marks, strict=steps is not None)]
        verdicts.append(reading.outcome is truth.verdict)
        first.append(steps is not None and (steps.index(0) if 0 in steps else None) == truth.first_error)
        yes[truth.verdict].append(reading.outcome is True)
    return Agreement(
        solutions=len(truths),
        readable=_mean(readable),
        steps=_mean(marks),
        verdict=_mean(verdicts),
        first_error=_mean(first),
        false_yes=_mean(yes[False]),
        false_no=1 - _mean(yes[True]) if yes[True] else 0.0,
    )


@dataclass(frozen=True)
class _Example:
    """A text to learn from: the tokens after the positions in `taught` are what is learned."""

    ids: list[int]
    taught: list[bool]
    """For every position but the last."""

    @classmethod
    def of(cls, parts: Iterable[tuple[list[int], bool]]) -> "_Example":
        """Parts in order, each with whether it is learned."""
        tokens = [(token, taught) for ids, taught in parts for token in ids]
        return cls([token for token, _ in tokens], [taught for _, taught in tokens[1:]])


# --- the base model ---------------------------------------------------------------------------------------------------


def _make_base(folder: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    torch.manual_seed(recipe.drills.seed)
    rng = random.Random(recipe.drills.seed)
    tokenizer = build_tokenizer()
    model = _fresh_model(tokenizer, recipe.shape)
    pages = _drills(tokenizer, recipe.drills.examples, rng)
    taught = _train("base", model, pages, recipe.drills, tokenizer.pad_token_id, report)
    _save(folder, model, tokenizer)
    return {"shape": asdict(recipe.shape), "facts_a_page": FACTS_A_PAGE, **taught}


def _drills(tokenizer: PreTrainedTokenizerFast, count: int, rng: random.Random) -> list[_Example]:
    """Pages of operations to work out and pages of steps to quote, in turn."""

    def page(number: int) -> list[tuple[str, bool]]:
        if number % 2:
            return arithmetic.quoted_steps(rng)
        return [part for fact in range(FACTS_A_PAGE) for part in arithmetic.checked_fact(fact + 1, rng)]

    return [_Example.of((tokenizer.encode(text), taught) for text, taught in page(number)) for number in range(count)]


# --- the policy -----------------------------------------------------------------------------------------------------


def _make_policy(folder: Path, base: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    lessons = recipe.policy
    rng = random.Random(lessons.seed)
    problems = arithmetic.problems(Split.POLICY, lessons.examples, lessons.seed)
    pairs = [
        (policy_message(problem.text), arithmetic.careless_solution(problem, recipe.slip_share, rng).text())
        for problem in problems
    ]
    taught = _teach("policy", pairs, base, lessons, folder, report)

    student = TinyModel(folder)
    held_out = arithmetic.problems(Split.HELD_OUT, recipe.held_out, lessons.seed)
    messages = [policy_message(problem.text) for problem in held_out]
    scores = {}
    for manner in ("greedy", "sampled"):
        torch.manual_seed(lessons.seed)
        solutions = student.replies(messages, new_tokens=112, sample=manner == "sampled")
        scores[manner] = asdict(score_policy(held_out, solutions))
        report(f"policy, {manner} on {len(held_out)} held-out problems: {_said(scores[manner])}")
    return {**taught, "slip_share": recipe.slip_share, "split": Split.POLICY.value, "held_out": scores}


# --- the PRM-CoT ----------------------------------------------------------------------------------------------------


def _make_prm(folder: Path, base: Path, policy_folder: Path, recipe: Recipe, report: Report) -> dict[str, Any]:
    lessons = recipe.prm
    rng = random.Random(lessons.seed)
    policy = TinyModel(policy_folder)
    drills = _drills(policy.tokenizer, int(recipe.prm_drills * lessons.examples), rng)
    problems = arithmetic.problems(Split.PRM, lessons.examples - len(drills), lessons.seed)
    torch.manual_seed(lessons.seed)
    own = problems[: recipe.prm_policy_samples]
    solutions = policy.replies([policy_message(problem.text) for problem in own], new_tokens=112, sample=True)
    solutions += [_constructed(problem, rng) for problem in problems[len(own) :]]

    pairs = []
    for problem, solution in zip(problems, solutions, strict=True):
        truth = arithmetic.judge(problem, solution, TAGS)
        if truth is not None:
            target = arithmetic.verification(problem, truth, recipe.prm_label_error, rng)
            pairs.append((verifier_message(problem.text, solution), target))
    taught = _teach("PRM-CoT", pairs, base, lessons, folder, report, drills)

    student = TinyModel(folder)
    held_out = arithmetic.problems(Split.HELD_OUT, recipe.held_out, lessons.seed)
    torch.manual_seed(lessons.seed)
    sampled = policy.replies([policy_message(problem.text) for problem in held_out], new_tokens=112, sample=True)
    scores = {}
    for source, texts in {
        "policy_samples": sampled,
        "constructed": [_constructed(problem, rng) for problem in held_out],
    }.items():
        scores[source] = asdict(_verify(student, held_out, texts))
        report(f"PRM-CoT on {source.replace('_', ' ')}: {_said(scores[source])}")
    return {
        **taught,
        "split": Split.PRM.value,
        "policy": policy_folder.name,
        "policy_samples": len(own),
        "drills": len(drills),
        "label_error": recipe.prm_label_error,
        "held_out": scores,
    }


def _constructed(problem: Problem, rng: random.Random) -> str:
    """A right solution (35 %), one with wrong steps (55 %) or one with a wrong end.

    Many steps are wrong: where nearly all are right, a small model works the result out instead of reading it."""
    draw = rng.random()
    if draw < 0.35:
        return arithmetic.right_solution(problem).text()
    if draw < 0.9:
        return arithmetic.solution_with_errors(problem, WRONG_STEPS, rng).text()
    return arithmetic.solution_with_wrong_end(problem, rng).text()


def _verify(prm: TinyModel, problems: Sequence[Problem], solutions: Sequence[str]) -> Agreement:
    judged = [
        (truth, verifier_message(problem.text, solution))
        for problem, solution in zip(problems, solutions, strict=True)
        if TAGS.check(solution).valid and (truth := arithmetic.judge(problem, solution, TAGS)) is not None
    ]
    truths, messages = zip(*judged, strict=True)
    return agreement(truths, prm.replies(messages, new_tokens=160, sample=False))


# --- teaching -------------------------------------------------------------------------------------------------------


def _teach(
    name: str,
    pairs: Sequence[tuple[str, str]],
    base: Path,
    lessons: Lessons,
    folder: Path,
    report: Report,
    drills: Sequence[_Example] = (),
) -> dict[str, Any]:
    """Teach the base model the replies of these (user message, reply) pairs and save it; says how it went."""
    start = TinyModel(base)
    tokenizer = start.tokenizer
    examples = _dialogues(tokenizer, pairs)
    replies = [sum(example.taught) for example in examples]
    prompts_ = [len(example.ids) - reply for example, reply in zip(examples, replies, strict=True)]
    lengths = {
        "prompt_tokens": {"mean": round(_mean(prompts_), 1), "max": max(prompts_)},
        "reply_tokens": {"mean": round(_mean(replies), 1), "max": max(replies)},
    }
    report(f"{name}: {lengths}")
    taught = _train(name, start.model, [*examples, *drills], lessons, tokenizer.pad_token_id, report)
    _save(folder, start.model, tokenizer)
    return {"base": base.name, **lengths, **taught}


def _dialogues(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> list[_Example]:
    return [
        _Example.of(
            [(_prompt_ids(tokenizer, message), False), ([*tokenizer.encode(reply), tokenizer.eos_token_id], True)]
        )
        for message, reply in pairs
    ]


def _train(
    name: str, model: Qwen2ForCausalLM, examples: Sequence[_Example], lessons: Lessons, pad: int, report: Report
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
            report(f"{name}: update {update}/{lessons.updates}, loss {_mean(losses[-10:]):.3f}, {seconds:.0f} s")
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "lessons": asdict(lessons),
        "examples": len(examples),
        "final_loss": round(_mean(losses[-10:]), 4),
        "seconds": round(time.monotonic() - started, 1),
    }


def _optimizers(model: Qwen2ForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, with which copying is learned in about half the updates; AdamW for the rest."""
    inside = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    kept = {id(weight) for weight in inside}
    rest = [weight for weight in model.parameters() if id(weight) not in kept]
    return [
        torch.optim.Muon(inside, lr=3 * learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _save(folder: Path, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _fresh_model(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> Qwen2ForCausalLM:
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
    _number_the_numbers(model, tokenizer)
    return model


@torch.no_grad()
def _number_the_numbers(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Start every number's vectors as the sum of one for its tens and one for its units.

    Carrying is then a matter of ten digits instead of a hundred numbers, and is learned in minutes."""
    ids = tokenizer.convert_tokens_to_ids([str(number) for number in range(arithmetic.HIGHEST + 1)])
    for weight, scale in ((model.model.embed_tokens.weight, 0.3), (model.lm_head.weight, 0.1)):
        digits = scale * torch.randn(2, 10, weight.shape[1])
        for number, token in enumerate(ids):
            weight[token] = digits[0, number // 10] + digits[1, number % 10]


def _prompt_ids(tokenizer: PreTrainedTokenizerFast, message: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer.encode(text))


def _batches(examples: Sequence[_Example], lessons: Lessons, rng: random.Random) -> Iterator[list[_Example]]:
    """`lessons.updates` batches in random order, each of examples of about the same length."""
    owed: list[list[_Example]] = []
    for _ in range(lessons.updates):
        if not owed:
            mixed = sorted(rng.sample(examples, len(examples)), key=lambda example: len(example.ids))
            owed = [mixed[at : at + lessons.batch] for at in range(0, len(mixed), lessons.batch)]
            rng.shuffle(owed)
        yield owed.pop()


def _loss(model: Qwen2ForCausalLM, batch: Sequence[_Example], pad: int) -> torch.Tensor:
    """Mean cross-entropy of what is taught. Padding is on the right, where causal attention never looks."""
    length = max(len(example.ids) for example in batch)
    tokens = torch.tensor([example.ids + [pad] * (length - len(example.ids)) for example in batch])
    taught = torch.tensor([example.taught + [False] * (length - len(example.ids)) for example in batch])
    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    return F.cross_entropy(model.lm_head(hidden[taught]), tokens[:, 1:][taught])


def _rate(step: int, lessons: Lessons) -> float:
    rise, fall = (step + 1) / lessons.warm_up, (lessons.updates - step) / (0.3 * lessons.updates)
    return max(0.05, min(1.0, rise, fall))


@torch.no_grad()
def _replies(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    messages: Sequence[str],
    new_tokens: int,
    sample: bool,
    batch: int,
) -> list[str]:
    model.eval()
    prompt_ids = [_prompt_ids(tokenizer, message) for message in messages]
    order = sorted(range(len(messages)), key=lambda index: len(prompt_ids[index]))
    replies = [""] * len(messages)
    for at in range(0, len(order), batch):
        chosen = order[at : at + batch]
        padded = tokenizer.pad({"input_ids": [prompt_ids[i] for i in chosen]}, padding_side="left", return_tensors="pt")
        manner = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sample else {"do_sample": False}
        out = model.generate(**padded, max_new_tokens=new_tokens, **manner)
        texts = tokenizer.batch_decode(out[:, padded["input_ids"].shape[1] :], skip_special_tokens=True)
        for index, text in zip(chosen, texts, strict=True):
            replies[index] = text
    return replies


# --- tokens ---------------------------------------------------------------------------------------------------------


def _stretches() -> list[str]:
    """Texts that get a token of their own: numbers, lines of the prompts, and pieces of many sample dialogues."""
    rng = random.Random(0)
    found = {str(number): None for number in range(10, arithmetic.HIGHEST + 1)}
    found |= dict.fromkeys(re.findall(r"[^\n]*\n+|[^\n]+", "\n\n" + TAGS.instruction()))
    found |= dict.fromkeys(("user\n", "assistant\n", f"{TURN_END}\n".removeprefix(TURN_END)))
    for problem in arithmetic.problems(Split.PRM, 2000, seed=0):
        solution = _constructed(problem, rng)
        truth = arithmetic.judge(problem, solution, TAGS)
        assert truth is not None
        dialogue = (
            problem.text,
            solution,
            verifier_message(problem.text, solution),
            arithmetic.verification(problem, truth),
        )
        found |= dict.fromkeys(piece for text in dialogue for piece in _PIECE.findall(text) if len(piece) > 1)
    return list(found)


# --- the cache ------------------------------------------------------------------------------------------------------


def _key(*parts: Any) -> str:
    """Hash of what determines a model: its recipe, the code and the prompts."""
    recipe = json.dumps([asdict(part) if hasattr(part, "__dataclass_fields__") else part for part in parts])
    sources = [inspect.getsource(module) for module in (arithmetic, sys.modules[__name__])]
    hashes = [prompts.prompt_hash(name) for name in prompts.prompt_names()]
    return hashlib.sha256("\0".join([recipe, *sources, *hashes]).encode()).hexdigest()[:12]


def _cached(folder: Path, make: Callable[[Path], dict[str, Any]], report: Report) -> Path:
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


def _said(scores: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in scores.items())


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


if __name__ == "__main__":
    torch.set_num_threads(2)
    demo_models(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_CACHE)
