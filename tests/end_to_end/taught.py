"""A tiny outcome verifier whose every verdict is known: Yes to a problem with crosses, No to one with noughts.

It reads the real ORM prompt and gives the real reply, so each reward that comes back through verl can be checked
against the rule, and a few seconds of training make it exact. It is a fixture, not a result."""

import random
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoTokenizer, Qwen2ForCausalLM

from tests.end_to_end import tiny
from verl_spark.verification.kinds import Kind
from verl_spark.verification.prompts import verifier_message
from verl_spark.verification.writing import write
from verl_spark.verifier.chat import Chat

UPDATES, BATCH = 100, 16


def verdict_of(text: str) -> bool:
    """The rule, for a problem or any text that holds it."""
    return tiny.CROSSES in text


def teach_orm(folder: Path, seed: int = 0) -> Path:
    """The folder of a model that answers the ORM prompt by `verdict_of`. Raises if it did not learn to."""
    rng = random.Random(seed)
    files = tiny.make(folder)
    path = files.model
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = Qwen2ForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def prompt_of(problem: str) -> list[int]:
        words = "".join(rng.choice("abcdefgh \n\ufffd0123456789") for _ in range(rng.randrange(1, 40)))
        return Chat(tokenizer).prompt_ids(verifier_message(Kind.ORM, problem, words))

    def reply_of(problem: str) -> list[int]:
        return [*tokenizer(write(Kind.ORM, [], verdict_of(problem)))["input_ids"], tokenizer.eos_token_id]

    problems = [row["prompt"][0]["content"] for row in pd.read_parquet(files.train).to_dict("records")]
    for _ in range(UPDATES):
        asked = rng.choices(problems, k=BATCH)
        rows = [(prompt_of(problem), reply_of(problem)) for problem in asked]
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
    if loss.item() > 0.02:
        raise RuntimeError(f"the fixture's verifier did not learn its rule (loss {loss.item():.3f}); raise UPDATES")
    model.to(torch.bfloat16).save_pretrained(path)
    return path
