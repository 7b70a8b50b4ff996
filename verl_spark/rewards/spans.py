"""Which tokens of a rollout a step owns. SPARK, selective advantage: which token belongs to which step.

The steps are characters of the response's text (`PolicyFormat.step_spans`); the policy is trained on the token ids
that it sampled. So the ids are followed through their own text, and no text is ever tokenised again: another
tokenisation has other boundaries, and a mark on the wrong tokens is worse than none. A text that the tokens do not
make up is an error."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from verl_spark.verification.steps import Span

Decode = Callable[[Sequence[int]], str]
"""Text of token ids, as the response itself is decoded (without special tokens)."""


class TokenSpan(NamedTuple):
    """The tokens [start, end) of a response. An empty one owns no token: its step ends inside token `end` - 1."""

    start: int
    end: int


Offsets = Sequence[tuple[int, int]]
"""For each token the characters [start, end) of the text of which it holds at least a part; none for a special
token. A character whose bytes lie in several tokens is in the range of each (and of a special token among them)."""


def step_spans(token_ids: Sequence[int], text: str, steps: Sequence[Span], decode: Decode) -> list[TokenSpan]:
    """The tokens of each step, in order and disjoint.

    `token_ids` are the response's own, without padding; `text` is what `decode` makes of all of them, and `steps` are
    spans of that text, in order and disjoint. ValueError if the tokens do not make up the text.
    """
    return owned(text, token_offsets(token_ids, text, decode), steps)


def token_offsets(token_ids: Sequence[int], text: str, decode: Decode) -> list[tuple[int, int]]:
    """Where each token stands in the text; two decodings of a few tokens per token.

    A token's own text cannot always be told from the token alone: a character may be split over several, and some
    tokenisers drop the blank before the first token they are given. So each is decoded behind its predecessor, and
    what stays unlike `text` is taken for a character that is not complete yet.
    """
    offsets = []
    context, settled = 0, 0  # tokens [context, settled) precede the ones in question; they end at character `known`
    prefix, known, start = "", 0, 0
    partial = False
    for end in range(1, len(token_ids) + 1):
        said = decode(token_ids[context:end])[len(prefix) :]
        told = _agreement(said, text[known : known + len(said)])
        partial = told < len(said)
        offsets.append((start, known + told + partial))
        start = known + told
        if told and not partial:
            context, settled, known = settled, end, start
            prefix = decode(token_ids[context:settled])
    if partial or start != len(text):
        raise ValueError(
            f"the {len(token_ids)} tokens do not make up their text of {len(text)} characters: they leave it at "
            f"character {start} ({text[start : start + 20]!r}). The text must be what this tokenizer decodes from "
            "these very tokens"
        )
    return offsets


def owned(text: str, offsets: Offsets, steps: Sequence[Span]) -> list[TokenSpan]:
    """The tokens of each step, given where tokens stand in the text.

    A step owns everything from the first to the last token whose first character that is not blank lies in it. So a
    token across two steps belongs to the earlier one, and one that only holds the break between them to none.
    ValueError for a step of which no token holds a character.
    """
    places, tokens = [], []  # of the tokens that say something: the first character that is not blank, and the index
    for token, (start, end) in enumerate(offsets):
        said = text[start:end].lstrip()
        if said:
            places.append(end - len(said))
            tokens.append(token)
    spans = []
    for number, step in enumerate(steps, 1):
        first, after = bisect_left(places, step.start), bisect_left(places, step.end)
        if after == 0:
            raise ValueError(f"step {number} at character {step.start}: no token holds a character of it")
        last = tokens[after - 1] + 1
        spans.append(TokenSpan(tokens[first] if first < after else last, last))
    return spans


def _agreement(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    if one == other:
        return len(one)
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
