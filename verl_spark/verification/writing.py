"""Write a verification: the reply a verifier of a given kind should give. The inverse of `reading`."""

from collections.abc import Sequence

from verl_spark.verification import markers
from verl_spark.verification.kinds import Kind
from verl_spark.verification.reading import Reading, read


def write(
    kind: Kind,
    marks: Sequence[int],
    verdict: bool,
    titles: Sequence[str] | None = None,
    analyses: Sequence[str] | None = None,
    thinking: str | None = None,
) -> str:
    """Verification text with these step marks (1 correct, 0 incorrect) and this verdict.

    An ORM writes the verdict only, a PRM no titles or analyses; what a kind does not write is ignored, so that
    one record serves all kinds. Verdict and marks may contradict each other, as a verifier's may. `thinking`
    belongs to think-PRM alone. Raises ValueError when the lengths differ, when a step kind gets no step, and
    when a title or analysis holds contract markers, so that the text would be read as something else
    (`rendering.neutralise` makes them harmless)."""
    if thinking is not None and kind is not Kind.THINK_PRM:
        raise ValueError(f"a thinking part belongs to {Kind.THINK_PRM.value} only, not to {kind.value}; leave it out")
    expected = Reading(bool(verdict), None if kind is Kind.ORM else tuple(int(mark) for mark in marks))
    text = _write(kind, marks, verdict, titles, analyses, thinking)
    if read(text, kind) != expected:
        raise ValueError(
            f"this {kind.value} verification would not be read as it was meant: {len(marks)} marks given, which must "
            "be 1 or 0, at least one; titles and analyses must be free of contract markers (see rendering.neutralise)"
        )
    return text


def _write(
    kind: Kind,
    marks: Sequence[int],
    verdict: bool,
    titles: Sequence[str] | None,
    analyses: Sequence[str] | None,
    thinking: str | None,
) -> str:
    if kind is Kind.ORM:
        return "Yes" if verdict else "No"
    last = markers.verdict_line(verdict)
    if kind is Kind.PRM:
        listed = [markers.listed_mark_line(number, mark) for number, mark in enumerate(marks, 1)]
        return "\n".join([*listed, "", last])
    sections = []
    for number, (mark, title, analysis) in enumerate(
        zip(marks, _one_each(titles, marks, "titles"), _one_each(analyses, marks, "analyses"), strict=True), 1
    ):
        head = markers.heading(number, " ".join(title.split()))  # a heading is one line
        sections.append("\n".join([head, *([analysis, ""] if analysis else []), markers.mark_line(mark)]))
    text = "\n\n".join([*sections, last])
    if kind is Kind.THINK_PRM:
        return with_thinking(thinking or "", text)
    return text


def with_thinking(thinking: str, text: str) -> str:
    """A verification with a thinking part before it, as a think-PRM writes it."""
    return f"{markers.THINK_OPEN}\n{thinking}\n{markers.THINK_CLOSE}\n\n{text}"


def _one_each(texts: Sequence[str] | None, marks: Sequence[int], name: str) -> Sequence[str]:
    if texts is None:
        return [""] * len(marks)
    if len(texts) != len(marks):
        raise ValueError(f"{len(marks)} marks but {len(texts)} {name}; give one for each step")
    return texts
