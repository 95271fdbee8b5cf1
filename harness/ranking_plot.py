"""The critical-difference diagram of a ranking (Demšar 2006, figure 1): black and white, for print."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.ranking import Ranking

SUFFIXES = (".pdf", ".svg", ".png")
_FONT, _LINE = 8.0, 0.32
"""Points; inches per line of text."""


def plot_ranking(ranking: Ranking, width_in: float = 7.0) -> Figure:
    """Average ranks on an axis, the best at the left; bars join methods that are not shown to differ.

    Args:
        ranking: of two tasks or more.
        width_in: in inches; text has 8 points whatever the width.
    """
    number = len(ranking.names)
    half = (number + 1) // 2
    bars = len(ranking.cliques)
    depth = 1.0 + 0.5 * bars + half
    figure = Figure(figsize=(width_in, _LINE * (depth + 2.6)), layout="constrained")
    axes = figure.add_subplot()
    margin = 0.75 * (number - 1)
    axes.set_xlim(1 - margin, number + margin)
    axes.set_ylim(-depth - 0.4, 2.0)
    axes.axis("off")
    axes.plot([1, number], [0, 0], color="black", lw=1)
    for tick in range(1, number + 1):
        axes.plot([tick, tick], [0, 0.15], color="black", lw=1)
        axes.text(tick, 0.25, str(tick), ha="center", va="bottom", fontsize=_FONT)
    title = f"average rank\nover {ranking.tasks} tasks"
    axes.annotate(title, (number, 0), (8, 0), textcoords="offset points", va="center", fontsize=_FONT)
    _ruler(axes, ranking.critical_difference, number)
    for i, (first, last) in enumerate(ranking.cliques):
        height = -0.5 * (i + 1)
        axes.plot([ranking.ranks[first], ranking.ranks[last]], [height] * 2, color="black", lw=3, solid_capstyle="butt")
    for place, (name, rank) in enumerate(zip(ranking.names, ranking.ranks, strict=True)):
        left = place < half
        line = place if left else number - 0.5 - place  # half a line apart, as equal ranks share their upright
        height = -1.0 - 0.5 * bars - line
        end = 1 - 0.05 * margin if left else number + 0.05 * margin
        axes.plot([rank, rank, end], [0, height, height], color="0.45", lw=0.8, zorder=0)
        text = f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}"
        axes.text(end, height, f" {text} ", ha="right" if left else "left", va="center", fontsize=_FONT)
    return figure


def save_ranking(ranking: Ranking, path: Path) -> None:
    """Write the diagram, the same bytes for the same ranking.

    Raises:
        ValueError: no format that is offered, or the file cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"--plot {path}: give it one of the suffixes {', '.join(SUFFIXES)}")
    dated = {".pdf": "CreationDate", ".svg": "Date"}.get(path.suffix)
    import matplotlib

    try:
        with matplotlib.rc_context({"svg.hashsalt": "ranking"}):
            plot_ranking(ranking).savefig(path, dpi=300, metadata={dated: None} if dated else None)
    except OSError as error:
        raise ValueError(f"--plot {path} cannot be written ({error.strerror}): choose another file") from error


def _ruler(axes: Axes, distance: float, number: int) -> None:
    """The critical difference above the axis, to its scale."""
    shown = min(distance, number - 1.0)
    axes.plot([1, 1 + shown], [1.3, 1.3], color="black", lw=1)
    for end in (1.0, 1 + shown):
        axes.plot([end, end], [1.2, 1.4], color="black", lw=1)
    beyond = " (beyond the axis)" if distance > shown else ""
    axes.text(1 + shown / 2, 1.45, f"CD = {distance:.2f}{beyond}", ha="center", va="bottom", fontsize=_FONT)
