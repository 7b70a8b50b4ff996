"""The fixed lines of a verification: how each is written and by which pattern it is recognised.

The only place that knows these patterns. `reading` and `writing` are built from it, and `rendering` uses
the same functions to find such lines in a solution. Patterns are matched line by line, and no two
neighbouring parts of one pattern can take the same character, so a long hostile line costs linear time.
Letter case never changes what a line means."""

import re

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

_BLANKS = "".join(c for c in map(chr, range(0x3001)) if c.isspace())  # U+3000 is the last blank of Unicode
_DECORATION = r"[\s*_#>`]*"
_EDGES = "*_#>`" + _BLANKS  # the same characters, for str.strip

_STEP = r"Step\s+([0-9]+)(?!\w|\.[0-9])"  # `1.1` and `2a` are no step numbers
_VERDICT = re.compile(
    rf"(?:Final{_DECORATION})?(?:Verification{_DECORATION}:{_DECORATION})?"
    rf"Is the answer correct{_DECORATION}(?:\(\s*Yes\s*/\s*No\s*\){_DECORATION})?\?[\s*_#>`:]*"
    rf"(?:(Yes)|No)(?:{_DECORATION}[.!])?",
    re.IGNORECASE,
)
_HEADING = re.compile(rf"#{{1,6}}[\s*]*{_STEP}|\*\*{_STEP}\s*[:.]", re.IGNORECASE)
_SENTENCE = r"This step is (in)?correct"
_MARK_LINE = re.compile(_SENTENCE, re.IGNORECASE)
_MARK_SPAN = re.compile(rf"\*\*\s*{_SENTENCE}(?:\s*\.)?\s*\*\*", re.IGNORECASE)
_LISTED_MARK = re.compile(rf"(?:-{_DECORATION})?{_STEP}\s*:\s*(in)?correct", re.IGNORECASE)


def core(text: str) -> str:
    """`text` without blanks and markdown marks (`*`, `_`, `#`, `>`, backtick) at its ends."""
    return text.strip(_EDGES)


def verdict_line(verdict: bool) -> str:
    """Last line of a verification."""
    return f"**Verification: Is the answer correct (Yes/No)? {'Yes' if verdict else 'No'}**"


def verdict_of(line: str) -> bool | None:
    """Verdict that the line states, None if it is no verdict line."""
    found = _VERDICT.fullmatch(core(line))
    return None if found is None else found[1] is not None


def heading(number: int, title: str = "") -> str:
    """Line that opens the section of a step (PRM-CoT, think-PRM)."""
    return f"## Step {number}: {title}" if title else f"## Step {number}"


def heading_number(line: str) -> int | None:
    """Number of the step whose section the line opens, None if it is no heading."""
    found = _HEADING.match(line)
    return None if found is None else _number(found[1] or found[2])


def mark_line(mark: int) -> str:
    """Line that closes the section of a step: 1 correct, 0 incorrect."""
    return f"**This step is {'correct' if mark else 'incorrect'}.**"


def mark_of(line: str) -> int | None:
    """Mark (1 or 0) in a line of a step's section: its last bold span, or the whole line; None if there is none."""
    if spans := _MARK_SPAN.findall(line):  # what the group holds: "in" or nothing
        return int(not spans[-1])
    found = _MARK_LINE.fullmatch(_without_period(line))
    return None if found is None else int(found[1] is None)


def listed_mark_line(number: int, mark: int) -> str:
    """Line that marks a step in a list of marks (PRM)."""
    return f"Step {number}: {'Correct' if mark else 'Incorrect'}"


def listed_mark_of(line: str) -> tuple[int, int] | None:
    """Step number and mark (1 or 0) of a whole line of a list of marks, None if it is none."""
    found = _LISTED_MARK.fullmatch(_without_period(line))
    return None if found is None else (_number(found[1]), int(found[2] is None))


def is_marker(line: str) -> bool:
    """Whether a reader of any kind would take the line for a part of a verification."""
    return not (
        verdict_of(line) is None
        and heading_number(line) is None
        and mark_of(line) is None
        and listed_mark_of(line) is None
    )


def _without_period(line: str) -> str:
    return core(core(line).removesuffix("."))


def _number(digits: str) -> int:
    # Python refuses to convert thousands of digits; no solution has a billion steps, so such a number is just wrong.
    return int(digits) if len(digits) < 10 else -1
