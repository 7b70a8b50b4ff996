"""Which tokens a step owns, by every way in which a tokenizer can cut a text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verl_spark.rewards.spans import owned, step_spans, token_offsets
from verl_spark.verification.policy_format import PLAIN, TAGS

tokenizers = pytest.importorskip("tokenizers")

SPECIAL = b""
"""A token that is no text, as the end of a turn."""

TEXT = st.text(st.sampled_from("ab .\n<>\u3000é€😀"), max_size=12)


class Vocabulary:
    """Token ids for pieces of bytes; decodes as byte-level tokenizers do, without special tokens."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.ids = range(len(pieces))

    def decode(self, ids):
        return b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")


def spans_of(pieces, policy_format=TAGS):
    """Token spans of a response that consists of these pieces, text or bytes."""
    vocabulary = Vocabulary([piece.encode() if isinstance(piece, str) else piece for piece in pieces])
    text = vocabulary.decode(vocabulary.ids)
    return step_spans(vocabulary.ids, text, policy_format.step_spans(text), vocabulary.decode)


@st.composite
def cut(draw, text):
    """The text as pieces of bytes, special tokens between whole characters."""
    data = text.encode()
    edges = {len(text[:place].encode()) for place in range(len(text) + 1)}
    places = sorted(draw(st.sets(st.integers(0, len(data)))) | {0, len(data)})
    pieces = [SPECIAL] * draw(st.integers(0, 1))
    for start, end in pairwise(places):
        pieces.append(data[start:end])
        if end in edges and draw(st.integers(0, 4)) == 0:
            pieces.append(SPECIAL)
    return pieces


@st.composite
def tagged(draw):
    """A solution in the tag format, as pieces, and its text."""
    bodies = draw(st.lists(TEXT, min_size=1, max_size=4))
    gap = st.sampled_from(["", "\n", " \n\n"])
    said = "".join(f"<step>{body.replace('<', '')}</step>{draw(gap)}" for body in bodies)
    text = f"<think>{draw(gap)}{said}</think>{draw(gap)}<answer>\\boxed{{1}}</answer>"
    return draw(cut(text)), text


def characters(pieces):
    """For each piece, the set of characters of which it holds a byte."""
    text = b"".join(pieces).decode()
    of_byte = [place for place, character in enumerate(text) for _ in character.encode()]
    found, start = [], 0
    for piece in pieces:
        found.append(set(of_byte[start : start + len(piece)]))
        start += len(piece)
    return found


@given(TEXT.flatmap(cut))
def test_a_token_stands_where_its_bytes_are(pieces):
    vocabulary, text = Vocabulary(pieces), b"".join(pieces).decode()
    offsets = token_offsets(vocabulary.ids, text, vocabulary.decode)
    for piece, held, (start, end) in zip(pieces, characters(pieces), offsets, strict=True):
        assert piece == SPECIAL or held == set(range(start, end))


@given(tagged())
def test_a_step_owns_the_tokens_whose_first_visible_character_lies_in_it(solution):
    pieces, text = solution
    spans = spans_of(pieces)
    seen = [min((c for c in held if not text[c].isspace()), default=None) for held in characters(pieces)]
    for step, span in zip(TAGS.step_spans(text), spans, strict=True):
        own = [token for token, place in enumerate(seen) if place is not None and step.start <= place < step.end]
        if own:
            assert span == (own[0], own[-1] + 1)
        else:
            assert span.start == span.end
            assert step.end - 1 in characters(pieces)[span.end - 1]


@given(tagged())
def test_steps_stay_in_order_and_share_no_token(solution):
    spans = spans_of(solution[0])
    assert [edge for span in spans for edge in span] == sorted(edge for span in spans for edge in span)


@pytest.mark.parametrize(
    ("pieces", "spans"),
    [
        pytest.param(
            ["<think>", "\n<step>", "a", "</step>\n", "<step>", "b", "</step>", "\n", "</think>"],
            [(1, 4), (4, 7)],
            id="blanks at a token's ends",
        ),
        pytest.param(
            ["<think>", "<step>", "a.</step>\n<step>", "b", "</step>", "</think>"],
            [(1, 3), (3, 5)],
            id="a token across two steps belongs to the first",
        ),
        pytest.param(
            ["<think>", "<step>", "a</step><step>b</step><", "step>c</step>", "</think>"],
            [(1, 3), (3, 3), (3, 4)],
            id="a step inside another's token owns none and ends there",
        ),
        pytest.param(["<think><step>a</step>", "</think>"], [(1, 1)], id="a step inside a foreign token"),
        pytest.param(
            ["<think>", SPECIAL, "<step>", SPECIAL, "a", "</step>", SPECIAL, "</think>", SPECIAL],
            [(2, 6)],
            id="special tokens are owned inside a step only",
        ),
        pytest.param(
            ["<think>", "<step>", b"\xe2", b"\x82", b"\xac<", "/step>", "</think>"],
            [(1, 6)],
            id="a character over three tokens",
        ),
    ],
)
def test_every_token_has_a_defined_owner(pieces, spans):
    assert spans_of(pieces) == spans


def test_a_step_may_begin_and_end_within_a_character():
    pieces = ["1.\n\n", b"\xe2", b"\x82", b"\xac", " is ", b"\xe2", b"\x82\xac\n", "\nSo \\boxed{1}"]
    assert spans_of(pieces, PLAIN) == [(0, 1), (1, 7)]


def test_a_response_cut_within_a_character_still_has_offsets():
    vocabulary = Vocabulary([b"a", b"b\xe2", b"\x82"])
    assert token_offsets(vocabulary.ids, "ab\ufffd", vocabulary.decode) == [(0, 1), (1, 3), (3, 3)]


@pytest.mark.parametrize("text", ["ab", "abd", "abcd", "", " abc"])
def test_a_text_of_other_tokens_is_refused(text):
    vocabulary = Vocabulary([b"a", b"b", b"c"])
    with pytest.raises(ValueError, match="3 tokens do not make up their text"):
        token_offsets(vocabulary.ids, text, vocabulary.decode)


def test_a_step_without_any_token_is_an_error():
    text = "<think><step>a</step></think>"
    with pytest.raises(ValueError, match="step 1 at character 7"):
        owned(text, [(0, 0)], TAGS.step_spans(text))


def byte_level():
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    return trained(model, initial_alphabet=alphabet)


def with_byte_fallback():
    """As SentencePiece: a mark for blanks, bytes for unknown characters; the first blank of a text is dropped."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    model.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    steps = tokenizers.decoders
    model.decoder = steps.Sequence(
        [steps.Replace("▁", " "), steps.ByteFallback(), steps.Fuse(), steps.Strip(" ", 1, 0)]
    )
    return trained(model, more=[f"<0x{byte:02X}>" for byte in range(256)])


def trained(model, more=(), **options):
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<unk>", "<|end|>", *more], show_progress=False, **options
    )
    model.train_from_iterator(["<think>\n<step>So a is b.</step>\n</think>\n", "a b. b a.\n"] * 4, trainer)
    return model


@pytest.mark.parametrize("tokenizer", [byte_level(), with_byte_fallback()], ids=["byte level", "byte fallback"])
@given(solution=tagged())
def test_tokens_of_real_tokenizers_stand_where_decoding_from_the_start_puts_them(tokenizer, solution):
    ids = [*tokenizer.encode(solution[1], add_special_tokens=False).ids, tokenizer.token_to_id("<|end|>")]
    text = tokenizer.decode(ids)
    offsets = token_offsets(ids, text, tokenizer.decode)
    for count, (start, _) in enumerate(offsets):
        said = tokenizer.decode(ids[:count])
        assert text.startswith(said[:start])
        assert not text.startswith(said[: start + 1]) or start == len(said)
    assert offsets[-1] == (len(text), len(text))
