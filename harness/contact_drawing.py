"""A contact sheet as a PNG in print quality: one block per domain, the legend, the caption."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from benchmarks.tasks import IGNORE, LabelHW
from harness.contact_sheet import Panel, Sheet

DPI = 300
WIDTH = 7.2
"""Inches: the text width of an A4 page with two columns."""

_MARGIN, _GAP, _LINE = 0.08, 0.04, 0.14
_HATCH, _GREY, _FAINT = "//////", "0.45", "0.6"
_POINTS = {"title": 9.5, "subtitle": 8.0, "heading": 7.0, "legend": 7.5, "caption": 6.2}
_INCH_PER_CHARACTER = 0.0075  # of DejaVu Sans, for each point of size
_BOLD = 1.1


def draw(sheet: Sheet) -> bytes:
    """The bytes of the PNG."""
    with rc_context({"hatch.linewidth": 0.4, "font.family": "DejaVu Sans"}):
        canvas = _Canvas(sheet)
        canvas.draw()
        stream = io.BytesIO()
        canvas.figure.savefig(
            stream, format="png", dpi=DPI, metadata={"Title": sheet.title, "Description": sheet.caption}
        )
    return stream.getvalue()


class _Canvas:
    """A page measured in inches from its upper left corner."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.columns = max(len(panel.tiles) for panel in sheet.panels)
        self.cell = (WIDTH - 2 * _MARGIN - (self.columns - 1) * _GAP) / max(self.columns, 3)
        self.heads = {"title": _wrapped(sheet.title, "title"), "subtitle": _wrapped(sheet.subtitle, "subtitle")}
        self.headings = [_heading(panel) for panel in sheet.panels]
        self.caption = _wrapped(sheet.caption, "caption")
        self.legend_columns, self.legend_rows = _grid([*sheet.legend, "not labelled"])
        self.height = self._height()
        self.figure = Figure(figsize=(WIDTH, self.height), facecolor="white")
        FigureCanvasAgg(self.figure)
        self.page = self._axes(0, 0, WIDTH, self.height)
        self.page.set_xlim(0, WIDTH)
        self.page.set_ylim(self.height, 0)
        self.page.axis("off")

    def _height(self) -> float:
        heads = sum(map(len, self.heads.values())) * 1.3 * _LINE
        blocks = sum(
            len(heading.lines) * _LINE + 2 * self._tall(panel) + 3 * _GAP + 0.08
            for panel, heading in zip(self.sheet.panels, self.headings, strict=True)
        )
        legend = (self.legend_rows + 0.6) * 1.15 * _LINE
        return 2 * _MARGIN + heads + blocks + legend + len(self.caption) * 0.8 * _LINE + 0.06

    def _tall(self, panel: Panel) -> float:
        """Height of a row of tiles."""
        tallest: float = max(shown.label.shape[0] / shown.label.shape[1] for shown in panel.tiles)
        return self.cell * tallest

    def draw(self) -> None:
        y = _MARGIN
        y = self._lines(self.heads["title"], y, "title", 1.3 * _LINE, weight="bold")
        y = self._lines(self.heads["subtitle"], y, "subtitle", 1.3 * _LINE, color=_GREY)
        for panel, heading in zip(self.sheet.panels, self.headings, strict=True):
            self._lines([heading.name], y + 0.08, "heading", _LINE, weight="bold")
            y = self._lines(heading.lines, y + 0.08, "heading", _LINE, x=heading.x) + _GAP
            y = self._block(panel, y)
        y = self._legend(y + 0.6 * _LINE)
        self._lines(self.caption, y + 0.06, "caption", 0.8 * _LINE, color="0.25")

    def _lines(self, lines: list[str], y: float, kind: str, step: float, *, x: float = _MARGIN, **style: str) -> float:
        for line in lines:
            self.page.text(x, y, line, fontsize=_POINTS[kind], va="top", **style)  # type: ignore[arg-type]
            y += step
        return y

    def _block(self, panel: Panel, y: float) -> float:
        tall = self._tall(panel)
        palette = (np.array([*self.sheet.legend.values()]) / 255).astype(np.float32)
        for column, shown in enumerate(panel.tiles):
            x = _MARGIN + column * (self.cell + _GAP)
            self._image(shown.picture, x, y, tall, hatched=False)
            self._image(_painted(shown.label, palette), x, y + tall + _GAP, tall, hatched=True)
        return y + 2 * (tall + _GAP)

    def _image(self, pixels: npt.NDArray[np.float32], x: float, y: float, tall: float, *, hatched: bool) -> None:
        height = self.cell * pixels.shape[0] / pixels.shape[1]
        axes = self._axes(x, y + (tall - height) / 2, self.cell, height)
        if hatched:
            axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fc="white", ec=_FAINT, hatch=_HATCH, lw=0))
        # few pixels are shown as they are; many are averaged, labels never
        axes.imshow(pixels, interpolation="nearest" if hatched else "auto", aspect="auto", zorder=2)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(linewidth=0.3, color=_GREY)

    def _legend(self, y: float) -> float:
        present = self.sheet.present
        entries: list[tuple[str, tuple[int, int, int] | None, bool]] = [
            (name, colour, index in present) for index, (name, colour) in enumerate(self.sheet.legend.items())
        ]
        entries.append(("not labelled", None, IGNORE in present))
        wide = (WIDTH - 2 * _MARGIN) / self.legend_columns
        for number, (name, colour, occurs) in enumerate(entries):
            column, row = divmod(number, self.legend_rows)
            x, top = _MARGIN + column * wide, y + row * 1.15 * _LINE
            face = "white" if colour is None else tuple(channel / 255 for channel in colour)
            hatch = _HATCH if colour is None else None
            edge = _FAINT if colour is None else "0.3"
            self.page.add_patch(Rectangle((x, top), 0.2, 0.11, fc=face, ec=edge, hatch=hatch, lw=0.4))
            style = {"color": "black" if occurs else _FAINT}
            self.page.text(x + 0.26, top + 0.055, name, fontsize=_POINTS["legend"], va="center_baseline", **style)  # type: ignore[arg-type]
        return y + self.legend_rows * 1.15 * _LINE

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        axes: Axes = self.figure.add_axes(
            (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        )
        return axes


@dataclass(frozen=True, kw_only=True)
class _Heading:
    """A domain's name in bold, and the lines beside it, which begin at `x`."""

    name: str
    x: float
    lines: list[str]


def _heading(panel: Panel) -> _Heading:
    stretch = panel.stretch
    gamma = f", gamma {stretch.gamma:g}" if stretch.gamma != 1 else ""
    facts = [panel.sensor, panel.gsd, panel.colours, f"stretch {stretch.low:.4g} to {stretch.high:.4g}{gamma}"]
    bold = FontProperties(family="DejaVu Sans", weight="bold", size=_POINTS["heading"])
    x = _MARGIN + TextPath((0, 0), panel.domain, prop=bold).get_extents().width / 72 + 0.06
    text = f"({panel.side}) {'; '.join(fact for fact in facts if fact)}"
    return _Heading(name=panel.domain, x=x, lines=_wrapped(text, "heading", x))


def _painted(label: LabelHW, palette: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The class colours [H, W, 4], transparent where there is no label."""
    known = label != IGNORE
    colours = palette[np.where(known, label, 0)]
    return np.concatenate([colours, known[..., None]], axis=-1, dtype=np.float32)


def _wrapped(text: str, kind: str, x: float = _MARGIN) -> list[str]:
    inches = _POINTS[kind] * _INCH_PER_CHARACTER * (_BOLD if kind == "title" else 1)
    return textwrap.wrap(text, int((WIDTH - _MARGIN - x) / inches))


def _grid(names: list[str]) -> tuple[int, int]:
    """Columns and rows of the legend, by its longest name."""
    wide = 0.36 + max(map(len, names)) * _POINTS["legend"] * _INCH_PER_CHARACTER
    columns = max(1, min(len(names), int((WIDTH - 2 * _MARGIN) / wide)))
    rows = -(-len(names) // columns)
    return -(-len(names) // rows), rows
