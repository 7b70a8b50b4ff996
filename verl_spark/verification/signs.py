"""What a response's text alone says about known tricks: counts and shares, which decide no reward. SPARK, detection.

Contract text is recognised by its owners (`markers`, `boxes`, the policy format); what is new here is to look again
with invisible characters taken out and look-alike letters put right. The verifier's reader is not so lenient: a
disguised marker is never read as one, but a model may well take it for one."""

import re
import unicodedata
from dataclasses import dataclass

from verl_spark.verification import markers
from verl_spark.verification.boxes import box_commands
from verl_spark.verification.gate import ANSWER_CLOSE, ANSWER_OPEN
from verl_spark.verification.policy_format import Parsed, PolicyFormat

WORDS = 4
"""Length of the n-grams whose repetition is measured, in words; our choice."""

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # blank or nothing on the screen, yet no blank
_LOOKALIKES = str.maketrans(  # Cyrillic and Greek letters, brackets, a backslash; NFKC knows none of them
    "АВЕЅІЈКМНОРСТУХаеѕіјорсуху" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοαν" + "ԁһԛԝⅼ" + "‹›〈〉⟨⟩∖⧵",
    "ABESIJKMHOPCTYXaesijopcyxy" + "ABEZHIKMNOPTYXoav" + "dhqwl" + "<><><>\\\\",
)


@dataclass(frozen=True)
class Signs:
    """What was found in one response."""

    chars: int
    """Length in characters."""
    chars_per_step: float | None
    """Mean length of a step's body; None without step structure."""
    outside_steps: float | None
    """Share of what is written beside the box that stands in no step, blanks and tags left out; likewise."""
    repetition: float
    """Share of n-grams of `WORDS` words that stood there before; 0 in a text of fewer words."""
    boxes: int
    """Box commands, hidden ones included."""
    answer_tags: int
    """Opening and closing answer tags; 2 in a valid response, 0 in a format without tags."""
    after_answer: bool
    """Whether anything but blanks follows the first answer."""
    odd_tags: int
    """Tags like those of the format, yet spelt in another way."""
    misplaced: bool
    """Whether the format's tags stand in another order than it wants, or some are absent."""
    invisible: int
    """Characters that show nothing: of zero width, or blank without being white space."""
    disguised: int
    """Lines that hold contract text (a marker, a tag, a box) only once invisible characters are taken out and
    look-alikes put right."""


def signs(response: Parsed) -> Signs:
    """The signs in a whole response; never raises, in linear time."""
    text, policy_format, spans, final = response.text, response.policy_format, response.spans, response.gate.answer
    tags = policy_format.tags(text)
    bodies = [] if spans is None else [span.body.strip() for span in spans]
    beside_box = text if final is None else f"{text[: final.box.start]} {text[final.box.end :]}"
    written = _ink(policy_format.without_markup(beside_box))
    return Signs(
        chars=len(text),
        chars_per_step=sum(map(len, bodies)) / len(bodies) if bodies else None,
        outside_steps=max(0.0, 1 - sum(map(_ink, bodies)) / written) if bodies and written else None,
        repetition=_repetition(text),
        boxes=len(box_commands(text)),
        answer_tags=tags.count(ANSWER_OPEN) + tags.count(ANSWER_CLOSE),
        after_answer=policy_format.goes_on(text),
        odd_tags=policy_format.odd_tags(text),
        misplaced=not policy_format.in_order(tags),
        invisible=sum(map(_is_invisible, _NOT_ASCII.findall(text))),
        disguised=sum(_is_disguised(line, policy_format) for line in text.splitlines()),
    )


def undisguised(text: str) -> str:
    """The text without invisible characters, its look-alike letters and brackets replaced by what they look like."""
    seen = _NOT_ASCII.sub(lambda found: "" if _is_invisible(found[0]) else found[0], text)
    return unicodedata.normalize("NFKC", seen).translate(_LOOKALIKES)


def _is_disguised(line: str, policy_format: PolicyFormat) -> bool:
    if line.isascii():
        return False
    return _contract_parts(undisguised(line), policy_format) > _contract_parts(line, policy_format)


def _contract_parts(line: str, policy_format: PolicyFormat) -> int:
    marker = markers.is_marker(policy_format.without_markup(line))
    return marker + len(box_commands(line)) + len(policy_format.tags(line))


def _is_invisible(character: str) -> bool:
    """Of a character that is not ASCII."""
    variation = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return variation or character in _UNSEEN or unicodedata.category(character) == "Cf"


def _repetition(text: str) -> float:
    words = text.split()
    grams = list(zip(*(words[start:] for start in range(WORDS)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _ink(text: str) -> int:
    """Characters that are not blank."""
    return sum(map(len, text.split()))
