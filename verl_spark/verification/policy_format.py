"""The text format that a policy is asked for: one replaceable part.

`TAGS` is the format of SPARK: steps in tags inside a think block, then an answer block. `PLAIN` is for recipes
whose prompt cannot change: steps by number or paragraph and one box on the last line. Everything else (gate,
rendering, credit) goes through `PolicyFormat`."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from verl_spark.verification import gate, prompts, steps
from verl_spark.verification.boxes import box_commands, close_box
from verl_spark.verification.gate import FinalAnswer, Gate, GateReason
from verl_spark.verification.steps import Span


@dataclass(frozen=True)
class Parsed:
    """A whole response and what its format finds in it, each looked for once."""

    text: str
    policy_format: "PolicyFormat"
    gate: Gate
    spans: list[Span] | None
    """Steps with their character spans, in order and disjoint; None without step structure."""


class PolicyFormat(ABC):
    """How a solution states its steps and its answer."""

    name: str
    """The name in settings; the instruction's prompt file is called `policy_<name>`."""

    @abstractmethod
    def check(self, text: str) -> Gate:
        """Format gate for a whole response; never raises."""

    @abstractmethod
    def _steps(self, text: str, checked: Gate) -> list[Span] | None:
        """`Parsed.spans` of a response that the gate has been through."""

    @abstractmethod
    def without_markup(self, text: str) -> str:
        """The text without the format's own tags."""

    @abstractmethod
    def tags(self, text: str) -> list[str]:
        """The format's own tags in order, well placed or not."""

    @abstractmethod
    def in_order(self, tags: Sequence[str]) -> bool:
        """Whether these are the tags of a whole response, in the order that the format wants."""

    @abstractmethod
    def odd_tags(self, text: str) -> int:
        """Number of tags that are like the format's own, yet not spelt as they are."""

    @abstractmethod
    def goes_on(self, text: str) -> bool:
        """Whether anything follows the first answer, whatever else is wrong with the response."""

    def parse(self, text: str) -> Parsed:
        """A whole response taken apart; never raises."""
        checked = self.check(text)
        return Parsed(text, self, checked, self._steps(text, checked))

    def step_spans(self, text: str) -> list[Span] | None:
        """The steps alone, as in `Parsed`."""
        return self.parse(text).spans

    def step_bodies(self, text: str) -> list[str] | None:
        """What each step says, without tag or number; None without step structure."""
        spans = self.step_spans(text)
        return None if spans is None else [span.body for span in spans]

    def answer(self, text: str) -> str | None:
        """Content of the box; None if the response is not valid."""
        return self.check(text).stated

    def instruction(self) -> str:
        """The text that asks a policy for this format."""
        return prompts.policy_instruction(self.name)


class _Tags(PolicyFormat):
    name = "tags"
    _markup = re.compile("|".join((*steps.THINK_TAGS, *steps.STEP_TAGS, gate.ANSWER_OPEN, gate.ANSWER_CLOSE)))
    _like_markup = re.compile(r"<[\s/]{0,4}(?:think|step|answer)[^<>\n]{0,40}>", re.IGNORECASE)

    def check(self, text: str) -> Gate:
        return gate.check(text)

    def _steps(self, text: str, checked: Gate) -> list[Span] | None:
        return steps.tagged_steps(text)

    def without_markup(self, text: str) -> str:
        return self._markup.sub("", text)

    def tags(self, text: str) -> list[str]:
        return self._markup.findall(text)

    def in_order(self, tags: Sequence[str]) -> bool:
        n_steps = tags.count(steps.STEP_TAGS[0])
        opening, closing = steps.THINK_TAGS
        return [*tags] == [opening, *steps.STEP_TAGS * n_steps, closing, gate.ANSWER_OPEN, gate.ANSWER_CLOSE]

    def odd_tags(self, text: str) -> int:
        return sum(self._markup.fullmatch(tag) is None for tag in self._like_markup.findall(text))

    def goes_on(self, text: str) -> bool:
        return bool(text.partition(gate.ANSWER_CLOSE)[2].strip())


class _Plain(PolicyFormat):
    """Exactly one box, on the last line that says something; steps by `Step k`, else one per paragraph."""

    name = "plain"
    _opening = re.compile(r"(?:\\\[|\$\$|\s)*")
    _closing = re.compile(r"(?:\\[\])]|[\s$.])*")  # what ends displayed mathematics says nothing

    def check(self, text: str) -> Gate:
        box = gate.check_box(text, 0, len(text))
        if isinstance(box, Gate):
            return box
        if self._says_more(text, box.end):
            return Gate(GateReason.TEXT_AFTER_ANSWER)
        return Gate(GateReason.OK, FinalAnswer(self._answer_start(text, box.start), len(text), box))

    def _steps(self, text: str, checked: Gate) -> list[Span] | None:
        reasoning = text if checked.answer is None else text[: checked.answer.start]
        return steps.numbered_steps(reasoning) or steps.paragraphs(reasoning)

    def without_markup(self, text: str) -> str:
        return text

    def tags(self, text: str) -> list[str]:
        return []

    def in_order(self, tags: Sequence[str]) -> bool:
        return not tags

    def odd_tags(self, text: str) -> int:
        return 0

    def goes_on(self, text: str) -> bool:
        commands = box_commands(text)
        box = close_box(text, commands[0]) if commands else None
        return box is not None and self._says_more(text, box.end)

    def _says_more(self, text: str, box_end: int) -> bool:
        """Whether a line after that of the box says anything."""
        return not all(self._closing.fullmatch(line) for line in text[box_end:].splitlines()[1:])

    def _answer_start(self, text: str, box_start: int) -> int:
        """Where the answer line begins, an opening of displayed mathematics before it included.

        A box inside a numbered step leaves that step whole: the answer line is then empty."""
        lines = [line for line in steps.lines_of(text) if line.start <= box_start]
        if steps.step_label(lines[-1].text) is not None:
            return len(text)
        while len(lines) > 1 and self._opening.fullmatch(lines[-2].text):
            lines.pop()
        return lines[-1].start


def write_tags(bodies: Sequence[str], answer: str) -> str:
    """A solution in the tag format with these steps and this answer; whether it holds is for `TAGS` to check."""
    said = "".join(f"<step>{body}</step>\n" for body in bodies)
    return f"<think>\n{said}</think>\n{gate.ANSWER_OPEN}\\boxed{{{answer}}}{gate.ANSWER_CLOSE}"


TAGS: PolicyFormat = _Tags()
PLAIN: PolicyFormat = _Plain()
_FORMATS = {policy_format.name: policy_format for policy_format in (TAGS, PLAIN)}


def get_policy_format(name: str) -> PolicyFormat:
    """The policy format of this name; ValueError, with the names there are, for another one."""
    try:
        return _FORMATS[name]
    except KeyError:
        raise ValueError(f"unknown policy format {name!r}; choose one of: {', '.join(_FORMATS)}") from None
