"""The drawings of the page. Axes carry names and units; markers tell apart what colours do."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.report.plots import INK, Look, add_legend, canvas, looks, new_figure, svg

SCORE = "target mIoU (%)"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A method at a place: what it costs and what it scores, with the ends of the score's interval (NaN: none)."""

    name: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve: y over x with a band (NaN: none)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What a panel shows: name and unit of its axis of costs or values, and whether it counts by factors of ten."""

    label: str
    log: bool = False


def ladder(values: Mapping[str, Mapping[str, float]], axis: str, alt: str, slug: str) -> Markup:
    """Methods one below the other, a marker for each thing measured of them (a task, a domain).

    Args:
        values: by method, top to bottom, the value of each thing; NaN is left out.
        axis: name and unit of the values.
        alt: the drawing in words.
        slug: its name in the page.
    """
    things = list(dict.fromkeys(thing for by_thing in values.values() for thing in by_thing))
    styles = looks(things)
    with canvas(slug):
        figure, (axes,) = new_figure(6.6, 1.1 + 0.3 * len(values))
        for y, by_thing in enumerate(values.values()):
            known = [value for value in by_thing.values() if value == value]
            if known:
                axes.plot([min(known), max(known)], [y, y], color=INK, alpha=0.3, lw=1, zorder=1)
            for thing, value in by_thing.items():
                look = styles[thing]
                axes.plot([value], [y], look.marker, color=look.colour, mec=INK, mew=0.4, zorder=3)
        axes.set_yticks(range(len(values)), [textwrap.fill(name, 40) for name in values])
        axes.set_ylim(len(values) - 0.5, -0.5)
        axes.set_xlabel(axis)
        add_legend(figure, things, styles)
        return svg(figure, slug, alt)


def frontier(
    panels: Sequence[tuple[Axis, Sequence[Dot]]], score: str, styles: dict[str, Look], alt: str, slug: str
) -> Markup:
    """Score against cost, a panel for each kind of cost; steps join those that nothing cheaper matches."""
    with canvas(slug):
        figure, found = new_figure(3.0 * len(panels) + 0.5, 3.3, len(panels))
        for axes, (axis, dots) in zip(found, panels, strict=True):
            for dot in dots:
                look = styles[dot.name]
                if dot.low == dot.low and dot.high == dot.high:
                    axes.plot([dot.x, dot.x], [dot.low, dot.high], color=look.colour, lw=1, alpha=0.6)
                axes.plot([dot.x], [dot.y], look.marker, color=look.colour, mec=INK, mew=0.4, ms=7, zorder=3)
            axes.set_xlabel(axis.label)
            _scale_of_costs(axes, [dot.x for dot in dots], axis.log)
            best = pareto(dots)
            x, y = [dot.x for dot in best], [dot.y for dot in best]
            end = axes.get_xlim()[1]
            axes.step([*x, end], [*y, y[-1]], where="post", color=INK, alpha=0.5, lw=1, ls="--", zorder=1)
        found[0].set_ylabel(score)
        for axes in found[1:]:
            axes.sharey(found[0])
            axes.tick_params(labelleft=False)
        add_legend(figure, [dot.name for dot in panels[0][1]], styles)
        return svg(figure, slug, alt)


def pareto(dots: Sequence[Dot]) -> list[Dot]:
    """Those that no other one beats at the same cost or less, cheapest first."""
    best: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.x, -dot.y)):
        if not best or dot.y > best[-1].y:
            best.append(dot)
    return best


def curves(
    panels: Sequence[tuple[Axis, Sequence[Line]]], x_axis: str, styles: dict[str, Look], alt: str, slug: str
) -> Markup:
    """Lines with bands, one panel for each thing measured; a marker at every point."""
    with canvas(slug):
        rows = 2 if len(panels) == 4 else 1
        width = 3.2 * len(panels) / rows + (1.4 if len(panels) == 1 else 0.4)
        figure, found = new_figure(width, 0.6 + 2.6 * rows, len(panels), rows=rows)
        for axes, (axis, lines) in zip(found, panels, strict=True):
            for line in lines:
                look = styles[line.name]
                axes.fill_between(line.x, line.low, line.high, color=look.colour, alpha=0.14, lw=0)
                axes.plot(
                    line.x, line.y, look.dash, color=look.colour, marker=look.marker, mec=INK, mew=0.4, ms=4.5, zorder=3
                )
            if axis.log:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_xlabel(x_axis)
            axes.set_ylabel(axis.label)
        add_legend(figure, list(dict.fromkeys(line.name for _, lines in panels for line in lines)), styles, lines=True)
        return svg(figure, slug, alt)


def load(shares: Mapping[str, Floats], names: Mapping[str, Sequence[str]], alt: str, slug: str) -> Markup:
    """Share of each expert in each layer, in percent: a panel for each group of layers.

    Args:
        shares: by group, shares of the experts [layers, experts] that add up to 1 in a layer.
        names: by group, its layers.
        alt: the drawing in words.
        slug: its name in the page.
    """
    deepest = max(len(layers) for layers in shares.values())
    with canvas(slug):
        widths = [share_LE.shape[1] for share_LE in shares.values()]
        across = sum(0.55 + 0.36 * width for width in widths)
        figure, found = new_figure(0.9 + across, 0.9 + 0.26 * deepest, len(shares), widths=widths)
        highest = max(1e-9, *(float(share.max()) for share in shares.values()))
        for axes, (group, share_LE) in zip(found, shares.items(), strict=True):
            axes.grid(False)
            axes.imshow(100 * share_LE, cmap="cividis", vmin=0, vmax=100 * highest, aspect="auto")
            for layer, expert in np.ndindex(*share_LE.shape):
                bright = share_LE[layer, expert] > 0.55 * highest
                axes.text(
                    expert,
                    layer,
                    f"{100 * share_LE[layer, expert]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="#000000" if bright else "#ffffff",
                )
            axes.set_xticks(range(share_LE.shape[1]), [str(e) for e in range(share_LE.shape[1])])
            axes.set_yticks(range(len(names[group])), list(names[group]))
            axes.set_xlabel("expert")
            axes.set_title(group)
            axes.spines[:].set_visible(False)
        found[0].set_ylabel("layer")
        return svg(figure, slug, alt)


def _scale_of_costs(axes: Axes, costs: Sequence[float], log: bool) -> None:
    """From 0 on; or by factors of ten, with room for a 0 that a plain logarithm has not."""
    positive = [cost for cost in costs if cost > 0]
    if not log or not positive:
        axes.set_xlim(0, 1.12 * max([*positive, 1e-9]))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return
    first = 10.0 ** np.floor(np.log10(min(positive)))
    axes.set_xscale("symlog", linthresh=first, linscale=0.4)
    axes.set_xlim(-0.25 * first if 0 in costs else 0.7 * min(positive), 2.2 * max(positive))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.tick_params(axis="x", which="minor", bottom=False)


def short(value: float) -> str:
    """A count for an axis: 0, 300, 20 k, 1.5 M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"
