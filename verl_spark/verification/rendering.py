"""Show a policy's solution to the verifier as the text it was trained on: `Step k:` lines and `Answer: VALUE`.

A solution may hold lines that a verification is made of (a verdict, a mark, a heading, a thinking tag), put
there so that the verifier, who quotes what it judges, says Yes in the policy's words. Such lines are made
harmless here, with the reader's own patterns, and counted."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from verl_spark.verification import markers, steps
from verl_spark.verification.gate import FinalAnswer
from verl_spark.verification.policy_format import Parsed, PolicyFormat
from verl_spark.verification.steps import Span

_QUOTED = "(quoted) "
_BOLD = re.compile(r"\*{2,}")
_THINK_TAG = re.compile(f"{re.escape(markers.THINK_OPEN)}|{re.escape(markers.THINK_CLOSE)}")
_AROUND_ANSWER = re.compile(r"(?:[\s$.*:]|\\[\[\]()]|Answer)*")  # with these beside it, a box says no more than itself

MODES = ("stage1", "raw")
"""`stage1` renders as above. `raw` sends the text unchanged, as SPARK's released code does, and only counts markers."""


@dataclass(frozen=True)
class Rendered:
    """A solution as the verifier is shown it."""

    text: str
    n_steps: int | None
    """Number of steps; None without step structure."""
    neutralised: int
    """Contract markers that were found; made harmless, but with `raw`."""


def render(text: str, policy_format: PolicyFormat, mode: str = "stage1") -> Rendered:
    """`render_parsed` for callers that have the text only."""
    return render_parsed(policy_format.parse(text), mode)


def render_parsed(response: Parsed, mode: str = "stage1") -> Rendered:
    """The solution for the verifier's prompt.

    Text outside the steps is kept as unnumbered lines; without step structure all of it is, with neither tags nor
    numbers. The answer line is there exactly when the response passes the format gate. ValueError for an unknown
    mode."""
    if mode not in MODES:
        raise ValueError(f"unknown rendering {mode!r}; choose one of: {', '.join(MODES)}")
    text, policy_format, spans, final = response.text, response.policy_format, response.spans, response.gate.answer
    n_steps = None if spans is None else len(spans)

    page = _Page(policy_format.without_markup, numbered=spans is not None)
    cursor = page.add_steps(text, spans)
    if final is None:
        page.add(text[cursor:])
    else:
        start = max(cursor, final.start)
        page.add(text[cursor:start])
        page.add(_remark(text, start, final, policy_format))
        page.add_answer(final.box.content)
    return Rendered(text if mode == "raw" else "\n".join(page.lines), n_steps, page.neutralised)


def render_numbered(text: str) -> Rendered:
    """A solution of Stage I for the verifier's prompt and the SFT message, in the style of `render`.

    Text beside the steps is kept as unnumbered lines, what follows the answer line before it. The answer line is there
    exactly when the solution has one with a value."""
    spans = steps.numbered_steps(text)
    page = _Page(lambda part: part, numbered=spans is not None)
    cursor = page.add_steps(text, spans)
    line, answer = steps.answer_line(text), steps.answer_of(text)
    if line is None or answer is None:
        page.add(text[cursor:])
    else:
        page.add(text[cursor : line.start])
        page.add(text[line.start + len(line.text) :])
        page.add_answer(answer)
    return Rendered("\n".join(page.lines), None if spans is None else len(spans), page.neutralised)


def render_steps(bodies: Sequence[str], answer: str | None = None) -> Rendered:
    """A solution that comes as its steps, in the style of `render`; with an answer line if there is an answer."""
    page = _Page(lambda part: part, numbered=True)
    for number, body in enumerate(bodies, 1):
        page.add_step(number, body)
    if answer is not None:
        page.add_answer(answer)
    return Rendered("\n".join(page.lines), len(bodies), page.neutralised)


def neutralise(text: str) -> tuple[str, int]:
    """The text with its contract markers made harmless, and their number.

    Line by line, other lines unchanged. The result is read as nothing, also when one of its lines is quoted
    alone on a line of a verification."""
    text, count = _without_think_tags(text)
    lines = text.splitlines(keepends=True)
    for index, bare in enumerate(text.splitlines()):
        if markers.is_marker(bare):
            lines[index] = _quoted(bare) + lines[index][len(bare) :]
            count += 1
    return "".join(lines), count


class _Page:
    """The lines of a rendered solution, neutralised as they are added."""

    def __init__(self, without_markup: Callable[[str], str], numbered: bool) -> None:
        self.lines: list[str] = []
        self.neutralised = 0
        self._without_markup = without_markup
        self._numbered = numbered  # then a line that looks like a step would shift the numbers

    def add(self, text: str) -> None:
        self.lines += self._harmless(text)

    def add_steps(self, text: str, spans: Sequence[Span] | None) -> int:
        """Adds the steps and what stands before and between them; position after the last one."""
        cursor = 0
        for number, span in enumerate(spans or (), 1):
            self.add(text[cursor : span.start])
            self.add_step(number, span.body)
            cursor = span.end
        return cursor

    def add_step(self, number: int, body: str) -> None:
        label = steps.step_label(body.strip())
        if label is not None and label[0] == str(number):
            body = label[1]  # the policy numbered its step itself
        first, *rest = self._harmless(body) or [""]
        line = f"Step {number}: {first}".rstrip()
        if markers.is_marker(line):
            line = f"Step {number}: {_quoted(first)}"
            self.neutralised += 1
        self.lines += [line, *rest]

    def add_answer(self, value: str) -> None:
        self.lines.append(" ".join(["Answer:", *self._harmless(" ".join(value.split()))]))

    def _harmless(self, text: str) -> list[str]:
        """Lines of the text without the policy's tags and without blank lines at its ends."""
        text, count = neutralise(self._without_markup(text))
        self.neutralised += count
        lines = text.splitlines()
        said = [index for index, line in enumerate(lines) if line.strip()]
        return [self._unnumbered(line) for line in lines[said[0] : said[-1] + 1]] if said else []

    def _unnumbered(self, line: str) -> str:
        if not self._numbered or steps.step_label(line) is None:
            return line
        self.neutralised += 1
        return _quoted(line)


def _remark(text: str, start: int, final: FinalAnswer, policy_format: PolicyFormat) -> str:
    """What the closing part says beside its box, with the box's content in place; empty if that is nothing."""
    box = final.box
    if box.start < start:  # the box stands in a step
        return text[start : final.end]
    before, after = text[start : box.start], text[box.end : final.end]
    if _AROUND_ANSWER.fullmatch(policy_format.without_markup(before + after)):
        return ""
    return before + box.content + after


def _without_think_tags(text: str) -> tuple[str, int]:
    return _THINK_TAG.subn(lambda tag: f"({tag[0][1:-1]})", text)


def _quoted(line: str) -> str:
    return _QUOTED + _BOLD.sub("", line)
