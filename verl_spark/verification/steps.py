"""Split a solution into its steps: `<step>` tags of the policy, or the numbered lines of Stage I.

A text whose marking is not exactly right has no step structure (None): guessing would give a mark to the
wrong step."""

import re
from typing import NamedTuple

from verl_spark.verification.boxes import box_commands, close_box

THINK_TAGS = ("<think>", "</think>")
STEP_TAGS = ("<step>", "</step>")

_TAG = re.compile("|".join((*THINK_TAGS, *STEP_TAGS)))
_STEP_LINE = re.compile(r"[\s#*]*Step\s+([0-9]+)(?!\w|\.[0-9])[*\s]*[:.]?[*\s]*")
_DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_ANSWER_LINE = re.compile(r"[\s#*]*Answer[*\s]*:")


class Span(NamedTuple):
    """A step: the characters [start, end) of its text, and its body without tags or number."""

    start: int
    end: int
    body: str


class Line(NamedTuple):
    """A line of a text without its line break, and the position of its first character."""

    start: int
    text: str


def tagged_steps(text: str) -> list[Span] | None:
    """Steps in `<step>` tags, from the first character of the opening tag to the last of the closing one.

    None without step structure: the tags must be lower case and exact, balanced, not nested, at least one, and
    all inside the only think block."""
    tags = [(found[0], found.start(), found.end()) for found in _TAG.finditer(text)]
    names = [name for name, _, _ in tags]
    steps = len(tags) // 2 - 1
    if steps < 1 or names != [THINK_TAGS[0], *STEP_TAGS * steps, THINK_TAGS[1]]:
        return None
    pairs = zip(tags[1:-1:2], tags[2:-1:2], strict=True)
    return [Span(start, end, text[body_start:body_end]) for (_, start, body_start), (_, body_end, end) in pairs]


def numbered_steps(text: str) -> list[Span] | None:
    """Steps that open a line with `Step k`, k = 1, 2, …; a span ends after the last character that is not blank.

    Text before the first step is preamble, and the last answer line with what follows belongs to no step. None
    for anything else: a gap, a repeat, another order, no step."""
    openings = [(line, found) for line in lines_of(text) if (found := _STEP_LINE.match(line.text)) is not None]
    if not openings or any(found[1] != str(number) for number, (_, found) in enumerate(openings, 1)):
        return None
    answer = answer_line(text)
    ends = [line.start for line, _ in openings[1:]] + [len(text) if answer is None else answer.start]
    spans = []
    for (line, found), stop in zip(openings, ends, strict=True):
        end = line.start + len(text[line.start : stop].rstrip())
        spans.append(Span(line.start, end, _after_label(found, text[line.start + found.end() : end])))
    return spans


def paragraphs(text: str) -> list[Span] | None:
    """Paragraphs, separated by blank lines, each without blanks at its ends; None if there is none."""
    spans: list[Span] = []
    open_span: tuple[int, int] | None = None
    for line in lines_of(text):
        said = line.text.strip()
        if said:
            start = line.start + line.text.index(said)
            open_span = (open_span[0] if open_span else start, start + len(said))
        elif open_span:
            spans.append(Span(*open_span, text[slice(*open_span)]))
            open_span = None
    if open_span:
        spans.append(Span(*open_span, text[slice(*open_span)]))
    return spans or None


def step_label(line: str) -> tuple[str, str] | None:
    """Number (its digits) and rest of a line that opens with `Step k`, None for another line."""
    found = _STEP_LINE.match(line)
    return None if found is None else (found[1], _after_label(found, line[found.end() :]))


def is_answer_line(line: str) -> bool:
    """Whether the line opens with `Answer:`."""
    return _ANSWER_LINE.match(line) is not None


def answer_line(text: str) -> Line | None:
    """The last line that opens with `Answer:`; None without one.

    None as well if a step follows it: it is then part of the step it stands in."""
    for line in reversed(lines_of(text)):
        if is_answer_line(line.text):
            return line
        if _STEP_LINE.match(line.text) is not None:
            return None
    return None


def answer_of(solution: str) -> str | None:
    """The value that a solution's answer line states, None without one or for an empty one.

    What its only box holds, else the rest of the line; without markdown marks, delimiters of mathematics around
    all of it, and a final period."""
    line = answer_line(solution)
    if line is None:
        return None
    value = _ANSWER_LINE.sub("", line.text, count=1)
    commands = box_commands(value)
    if len(commands) == 1 and (box := close_box(value, commands[0])) is not None:
        value = box.content
    value = value.strip("* \t").removesuffix(".").rstrip("* \t")
    for opening, closing in _DELIMITERS:
        inside = value[len(opening) : -len(closing)]
        if value == f"{opening}{inside}{closing}" and opening not in inside:
            value = inside
            break
    return value.strip() or None


def lines_of(text: str) -> list[Line]:
    """Lines as `str.splitlines` sees them, with their positions."""
    lines, start = [], 0
    for whole, bare in zip(text.splitlines(keepends=True), text.splitlines(), strict=True):
        lines.append(Line(start, bare))
        start += len(whole)
    return lines


def _after_label(label: re.Match[str], rest: str) -> str:
    # In `**Step 1: Title**` the label took the opening mark; without its partner the rest would turn bold.
    return rest.replace("**", "", 1) if label[0].count("**") % 2 else rest
