"""Drawings as inline SVG: the colours of Okabe and Ito, a marker for every colour, the same bytes every time."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report.pictures import OKABE_ITO, css

INK = "#0a0b0c"
"""Stands for the page's text colour, so that drawings can be read on light and dark ground."""

_COLOURS = (*(css(OKABE_ITO[i]) for i in (0, 1, 2, 3, 4, 5)), INK)  # yellow lines are lost on white
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_DASHES = ("-", "--", ":", "-.")
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.13,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 5.5,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a method's title is a dollar
    "figure.dpi": 72,
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a method is drawn, the same in every drawing of a page."""

    colour: str
    marker: str
    dash: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name: 77 of them differ in colour or marker."""
    return {
        name: Look(
            colour=_COLOURS[i % len(_COLOURS)],
            marker=_MARKERS[i % len(_MARKERS)],
            dash=_DASHES[i // len(_COLOURS) % len(_DASHES)],
        )
        for i, name in enumerate(dict.fromkeys(names))
    }


@contextmanager
def canvas(slug: str) -> Iterator[None]:
    """Within it figures are made and saved; `slug` keeps the identifiers of one drawing from those of another."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": slug}):
        yield


def new_figure(
    width_in: float, height_in: float, panels: int = 1, *, rows: int = 1, widths: Sequence[float] | None = None
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with panels in rows, on transparent ground; `widths` of the columns relative to one another."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.patch.set_alpha(0)
    found = figure.subplots(rows, panels // rows, squeeze=False, width_ratios=widths).ravel().tolist()
    for axes in found:
        axes.patch.set_alpha(0)
    return figure, found


def add_legend(figure: Figure, names: Sequence[str], styles: dict[str, Look], *, lines: bool = False) -> None:
    """A legend below the panels; the figure grows by the rows that would squeeze them."""
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, ls=look.dash if lines else "", mec=INK, mew=0.4)
        for look in (styles[name] for name in names)
    ]
    longest = max(len(name) for name in names)
    width = figure.get_figwidth()
    columns = max(1, min(len(names), int(width / (0.45 + 0.066 * min(longest, 44)))))
    rows = -(-len(names) // columns)
    figure.set_figheight(figure.get_figheight() + 0.18 * max(0, rows - 3))
    figure.legend(handles, [textwrap.fill(name, 44) for name in names], loc="outside lower center", ncols=columns)


def svg(figure: Figure, slug: str, alt: str) -> Markup:
    """A figure as an SVG element whose words a screen reader reads as `alt`. To be called within `canvas`."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"\s*<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)  # the date is there
    drawn = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawn, count=2)
    drawn = re.sub(r'\bid="', f'id="{slug}-', drawn)
    drawn = re.sub(r'(href="|url\()#', rf"\1#{slug}-", drawn)
    drawn = re.sub(r' (?:d|x|y|transform)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), drawn)
    drawn = drawn.replace(INK, "currentColor").replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif")
    drawn = re.sub(r"(?m)^ +|\n(?=\n)", "", drawn)
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1))
