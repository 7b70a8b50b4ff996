"""Tiny models of which everything is known, each taught by a rule in seconds. They are fixtures, not results.

An outcome verifier that says Yes to a problem with crosses and No to one with noughts; a policy that writes four
steps, sound or unsound by the toss of a coin; a PRM that marks them. All read the real prompts and write the real
formats, so that what comes back through verl can be checked against the rule."""

import random
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM

from tests.end_to_end import tiny
from verl_spark.verification.kinds import Kind
from verl_spark.verification.policy_format import TAGS, write_tags
from verl_spark.verification.prompts import verifier_message
from verl_spark.verification.rendering import render
from verl_spark.verification.writing import write
from verl_spark.verifier.chat import Chat

BATCH = 16
MARKS = {"s": (1, 1, 1, 1), "u": (1, 0, 1, 0)}
"""The letter of which a solution's steps consist, and the marks that it deserves."""


def verdict_of(text: str) -> bool:
    """The rule, for a problem or any text that holds it."""
    return tiny.CROSSES in text


def teach_orm(folder: Path, seed: int = 0) -> Path:
    """The folder of a model that answers the ORM prompt by `verdict_of`. Raises if it did not learn to."""

    def lesson(rng: random.Random, problem: str) -> tuple[str, str]:
        words = "".join(rng.choice("abcdefgh \n\ufffd0123456789") for _ in range(rng.randrange(1, 40)))
        return verifier_message(Kind.ORM, problem, words), write(Kind.ORM, [], verdict_of(problem))

    return _teach(folder, lesson, updates=100, most_loss=0.02, seed=seed)


def teach_policy(folder: Path, seed: int = 0) -> Path:
    """The folder of a model that answers any problem with a solution in the tag format: four steps of one letter."""

    def lesson(rng: random.Random, problem: str) -> tuple[str, str]:
        return problem, _solution(rng)

    # What it cannot know: the letter and five digits, 12.2 nats of about 130 tokens.
    return _teach(folder, lesson, updates=300, most_loss=0.15, seed=seed)


def teach_prm(folder: Path, seed: int = 0) -> Path:
    """The folder of a model that answers the PRM prompt about such solutions with `MARKS`."""

    def lesson(rng: random.Random, problem: str) -> tuple[str, str]:
        solution = _solution(rng)
        marks = next(marks for letter, marks in MARKS.items() if f"<step>{letter}" in solution)
        message = verifier_message(Kind.PRM, problem, render(solution, TAGS).text)
        return message, write(Kind.PRM, marks, all(marks))

    return _teach(folder, lesson, updates=300, most_loss=0.02, seed=seed)


def _solution(rng: random.Random) -> str:
    letter = rng.choice(list(MARKS))
    return write_tags([f"{4 * letter} {rng.randrange(10)}" for _ in range(4)], str(rng.randrange(10)))


def _teach(
    folder: Path, lesson: Callable[[random.Random, str], tuple[str, str]], updates: int, most_loss: float, seed: int
) -> Path:
    """The folder of a model that gives the reply of a lesson, message and reply for a problem, to its message."""
    rng = random.Random(seed)
    files = tiny.make(folder)
    path = files.model
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = Qwen2ForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    chat = Chat(tokenizer)
    problems = [row["prompt"][0]["content"] for row in pd.read_parquet(files.train).to_dict("records")]
    for _ in range(updates):
        lessons = [lesson(rng, problem) for problem in rng.choices(problems, k=BATCH)]
        rows = [(chat.prompt_ids(m), [*tokenizer(reply)["input_ids"], tokenizer.eos_token_id]) for m, reply in lessons]
        width = max(len(prompt) + len(reply) for prompt, reply in rows)
        ids = torch.full((BATCH, width), tokenizer.pad_token_id)
        labels = torch.full((BATCH, width), -100)
        for i, (prompt, reply) in enumerate(rows):
            ids[i, : len(prompt) + len(reply)] = torch.tensor(prompt + reply)
            labels[i, len(prompt) : len(prompt) + len(reply)] = torch.tensor(reply)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if loss.item() > most_loss:
        raise RuntimeError(f"the fixture did not learn its rule (loss {loss.item():.3f}); raise its updates")
    model.to(torch.bfloat16).save_pretrained(path)
    return path
