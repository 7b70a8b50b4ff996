"""Charts as inline SVG: drawn by matplotlib, coloured by the page.

Colours in a chart are variables of the page's style, so that one picture serves the light and the dark scheme; texts
stay texts. The same numbers give the same bytes, and ids of different charts never meet in one page."""

import html
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from verl_spark.report.groups import Curve
from verl_spark.versions import install

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GRID = "ink", "grid"
N_COLOURS = 8
DASHES = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2))
"""Lengths of dash and gap."""
_VARIABLES = {
    name: f"#0a0b{number:02x}" for number, name in enumerate((INK, GRID, *(f"s{n}" for n in range(N_COLOURS))))
}
_SIZE = (4.8, 2.9)
_FEW = 15
"""Up to so many points each gets a dot."""
_SEVERAL = 4
"""Up to so many bands are shaded in full."""

Unit = Literal["", "%"]


class NotInstalled(Exception):
    """The message says what to install."""


@dataclass(frozen=True)
class Series:
    """A line or an area of a chart."""

    name: str
    curve: Curve
    colour: int
    """Place in the order of series, which decides colour and dashes."""


def look(place: int) -> tuple[int, tuple[float, ...]]:
    """Colour and dashes of a series by its place in their order: 32 look different, and neighbours differ in both."""
    return place % N_COLOURS, DASHES[(place + place // N_COLOURS) % len(DASHES)]


@dataclass(frozen=True)
class Chart:
    """A picture with what belongs to it."""

    id: str
    title: str
    note: str
    unit: str
    series: tuple[Series, ...]
    svg: str
    areas: bool = False
    """Whether the series are areas, the first one lowest."""


def check_matplotlib() -> None:
    """Raises `NotInstalled` where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise NotInstalled(f"matplotlib, which draws the charts, is not installed; {install('report')}")


def lines(id: str, title: str, series: Sequence[Series], unit: str = "", note: str = "", zero: bool = False) -> Chart:
    """A chart of lines over training steps, with their bands. `unit` `%` shows shares of 1 as percent; with `zero` the
    axis begins at 0."""
    shown = tuple(one for one in series if one.curve)
    shade = 0.16 if len(shown) <= _SEVERAL else 0.06
    with _axes(unit) as (axes, finish):
        for one in shown:
            place, dashes = look(one.colour)
            steps = [point.step for point in one.curve]
            banded = [(p.step, p.low, p.high) for p in one.curve if p.low is not None and p.high is not None]
            colour = _VARIABLES[f"s{place}"]
            if len(banded) > 1:
                at, low, high = zip(*banded, strict=True)
                axes.fill_between(at, low, high, color=colour, alpha=shade, linewidth=0, gid=f"band{one.colour}")
            elif banded:
                axes.vlines(*banded[0], color=colour, linewidth=1.2, gid=f"band{one.colour}")
            axes.plot(
                steps,
                [point.mean for point in one.curve],
                color=colour,
                linewidth=1.7,
                linestyle=(0, dashes) if dashes else "-",
                marker="o" if len(steps) <= _FEW else None,
                markersize=3.4,
                gid=f"series{one.colour}",
            )
        _frame(axes, [point.step for one in shown for point in one.curve], zero)
        svg = finish(id, _described(title, shown, unit))
    return Chart(id, title, note, unit, shown, svg)


def stacked(id: str, title: str, series: Sequence[Series], unit: str = "", note: str = "") -> Chart:
    """A chart of areas on top of each other, the first one lowest; a step that a series lacks counts as 0."""
    shown = tuple(one for one in series if any(point.mean for point in one.curve))
    steps = sorted({point.step for one in shown for point in one.curve})
    with _axes(unit) as (axes, finish):
        heights = [{point.step: point.mean for point in one.curve} for one in shown]
        base = [0.0] * len(steps)
        for one, height in zip(shown, heights, strict=True):
            top = [low + height.get(step, 0.0) for low, step in zip(base, steps, strict=True)]
            colour = _VARIABLES[f"s{look(one.colour)[0]}"]
            if len(steps) > 1:
                axes.fill_between(steps, base, top, color=colour, alpha=0.55, linewidth=0)
                axes.plot(steps, top, color=colour, linewidth=1.2, gid=f"series{one.colour}")
            else:
                axes.bar(steps, [t - b for t, b in zip(top, base, strict=True)], 0.4, base, color=colour, alpha=0.7)
            base = top
        _frame(axes, steps, zero=True)
        svg = finish(id, _described(title, shown, unit))
    return Chart(id, title, note, unit, shown, svg, areas=True)


@contextmanager
def _axes(unit: str) -> Iterator[Any]:
    """Empty axes over training steps, and what makes the SVG of them."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ink, grid = _VARIABLES[INK], _VARIABLES[GRID]
    style = {
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.fonttype": "none",
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": grid,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
    }

    with matplotlib.rc_context(style):  # type: ignore[arg-type]  # rc_context wants the literal names
        figure = Figure(figsize=_SIZE)
        figure.subplots_adjust(left=0.115, right=0.985, bottom=0.09, top=0.965)
        axes: Axes = figure.subplots()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="y", color=grid, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if unit == "%":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
        else:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))

        def finish(id: str, label: str) -> str:
            matplotlib.rcParams["svg.hashsalt"] = id
            written = io.StringIO()
            nothing: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            figure.savefig(written, format="svg", transparent=True, metadata=nothing)
            return _inline(written.getvalue(), id, label)

        yield axes, finish


def _frame(axes: "Axes", steps: Sequence[int], zero: bool) -> None:
    """Limits of the axes; around a single step whole ones."""
    if len(set(steps)) == 1:
        axes.set_xlim(steps[0] - 1, steps[0] + 1)
    if zero:
        axes.set_ylim(bottom=0)


def _inline(svg: str, id: str, label: str) -> str:
    """The SVG for the inside of a page: its ids its own, its colours the page's."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'((?:\bid=|xlink:href=)"#?|url\(#)', rf"\g<1>{id}-", svg)
    for name, colour in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    head = f'<svg class="chart" role="img" aria-label="{html.escape(label)}"'
    return re.sub(
        r'^<svg([^>]*?) width="[^"]*"', rf"{_literal(head)}\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    )


def _literal(text: str) -> str:
    return text.replace("\\", r"\\")


def _described(title: str, series: Sequence[Series], unit: str) -> str:
    """The chart in words, for those who cannot see it."""
    ends = (
        f"{one.name}: {_value(one.curve[0].mean, unit)} at step {one.curve[0].step}, "
        f"{_value(one.curve[-1].mean, unit)} at step {one.curve[-1].step}"
        for one in series
    )
    return f"{title}. " + "; ".join(ends)


def _value(value: float, unit: str) -> str:
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.4g}{f' {unit}' if unit else ''}"


def _short(value: float) -> str:
    """`12k` for 12,000."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1000 if letter == 'k' else size):.4g}{letter}"
    return f"{value:.4g}"
