"""Box commands in a text: where a policy states its answer."""

import re
from typing import NamedTuple

# The look-behind lets a run of backslashes be tried once only, from its first character.
_COMMAND = re.compile(r"(?<!\\)(\\+)boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped brace is taken with its backslash and so ignored


class BoxCommand(NamedTuple):
    """A box command: one or more backslashes, `boxed`, optional blanks, an opening brace."""

    start: int
    """Character position of the first backslash."""
    content_start: int
    """Character position after the opening brace."""
    backslashes: int


class Box(NamedTuple):
    """A box whose braces balance; the text is [start, end)."""

    start: int
    end: int
    content: str


def box_commands(text: str) -> list[BoxCommand]:
    """All box commands of a text in order, nested, escaped and unbalanced ones included."""
    return [BoxCommand(found.start(), found.end(), len(found[1])) for found in _COMMAND.finditer(text)]


def flat_boxes(text: str) -> list[str]:
    """Contents of boxes as ProcessBench reads them, in order: whatever stands before the next closing brace.

    One backslash or more, no blank before the brace; nesting and escapes play no part, so a nested box is cut short.
    For that benchmark only, whose scores must come out the same for the same texts."""
    contents: list[str] = []
    while True:
        _, _, rest = text.partition("\\boxed{")
        content, closed, text = rest.partition("}")
        if not closed:
            return contents
        contents.append(content)


def last_box(text: str) -> str | None:
    """Content of the last box, wherever it stands; None without one, and if it does not close."""
    commands = box_commands(text)
    box = close_box(text, commands[-1]) if commands else None
    return None if box is None else box.content


def close_box(text: str, command: BoxCommand, stop: int | None = None) -> Box | None:
    """The box that a command opens, None if its braces do not balance before `stop` (default: end of text)."""
    depth = 1
    for found in _BRACE.finditer(text, command.content_start, len(text) if stop is None else stop):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return Box(command.start, found.end(), text[command.content_start : found.start()])
    return None
