"""The study's two pictures: what the reward models and the arms come to, each with its interval."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from verl_spark.evaluation.statistics import Estimate

Line = tuple[str, Estimate]


def draw(panels: Sequence[tuple[str, Sequence[Line]]], path: Path) -> None:
    """A panel for each title: a mean in percent with its 95 % interval on each line, the first line on top.

    Without a panel there is no picture."""
    if not panels:
        return
    height = 1.1 + 0.28 * max(len(lines) for _, lines in panels)
    figure = Figure(figsize=(4.6 * len(panels), height), layout="constrained")
    for axis, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for place, (_, found) in enumerate(lines):
            axis.plot([100 * found.low, 100 * found.high], [-place] * 2, color="tab:blue", linewidth=2)
            axis.plot(100 * found.mean, -place, "o", color="tab:blue")
        if any(found.low < 0 < found.high for _, found in lines):
            axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(title=title, xlabel="%", yticks=range(0, -len(lines), -1), yticklabels=[name for name, _ in lines])
        axis.spines[["top", "right"]].set_visible(False)
    with rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):  # the same picture is the same file
        figure.savefig(path, metadata={"Date": None})
