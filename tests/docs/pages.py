"""The README and the pages of `docs/`, taken apart: headings, links, code."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?P<target>[^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)
_FIRST_CELL = re.compile(r"^\|([^|\n]+)\|", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMANDS = re.compile(r"(?:verl-spark|python|make|torchrun) ")


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without blocks of code."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """Blocks of code in a language."""
        return [match["text"] for match in _FENCE.finditer(self.text) if match["language"] == language]

    @cached_property
    def listed(self) -> dict[str, list[str]]:
        """Heading to what stands as code in the first cells of the tables below it."""
        _, *parts = _HEADING.split(self.prose)
        sections = zip(parts[::2], parts[1::2], strict=True)
        return {title: _SPAN.findall("\n".join(_FIRST_CELL.findall(text))) for title, text in sections}

    @property
    def anchors(self) -> set[str]:
        """Of the headings, as GitHub and MkDocs make them."""
        titles = (re.sub(r"[^\w\s-]", "", match["title"]).strip().lower() for match in _HEADING.finditer(self.prose))
        return {re.sub(r"\s", "-", title) for title in titles}

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures outside code."""
        return [match["target"] for match in _LINK.finditer(_SPAN.sub("", self.prose))]

    @property
    def spans(self) -> list[str]:
        """What stands in the running text as code."""
        return _SPAN.findall(self.prose)

    def commands(self) -> Iterator[tuple[str, ...]]:
        """The commands in blocks, indented lines and running text as words; continued lines joined, no remarks."""
        indented = "\n".join(re.findall(r"^ {4}(\S.*)$", self.prose, re.MULTILINE))
        for block in [*self.blocks("bash"), indented]:
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and (_COMMANDS.match(line) or "=" in words[0]):
                    yield tuple(words)
        for span in self.spans:
            if _COMMANDS.match(span):
                yield tuple(shlex.split(span))


PAGES = [Page(ROOT / "README.md"), *(Page(path) for path in sorted((ROOT / "docs").rglob("*.md")))]
