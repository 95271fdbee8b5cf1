"""What a page is made of: sections of notes, tables, figures, pictures, and choices between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from markupsafe import Markup

from harness.report.pictures import encoded

GAP = "–"
"""Stands where there is no number."""
NOTHING = "No finished trial: nothing to show."
"""Stands where there are no results."""

_NUMBER = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([kMG]?)(?![\w.:-])")
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True, kw_only=True)
class Note:
    """A paragraph. `warning` makes it stand out."""

    kind: ClassVar[str] = "note"
    text: str
    warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: its text, the number it is sorted by (None: by its text), and its colours as CSS of our own making."""

    text: str
    value: float | None = None
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table that sorts by click; the first cell of a row is its heading.

    Args:
        caption: what it shows.
        columns: headings.
        rows: cells, as many as there are columns.
        csv: the same at full precision, as a `data:` address to download; empty for none.
        name: file name of the download.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    csv: str = ""
    name: str = ""

    @property
    def title(self) -> str:
        """The caption's first clause, for whom it is read aloud."""
        return re.split(r"[:;.] ", self.caption, maxsplit=1)[0]

    def numeric_columns(self) -> list[bool]:
        """Which columns hold numbers, gaps aside; the others are set left and sorted by their words."""
        columns = [[cell for cell in column if cell.text not in (GAP, "")] for column in zip(*self.rows, strict=True)]
        return [bool(cells) and all(cell.value is not None for cell in cells) for cells in columns]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing as inline SVG (`harness.report.plots.svg`) with its caption."""

    kind: ClassVar[str] = "plot"
    caption: str
    svg: Markup
    name: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A raster image: its `data:` address, what it shows in words, and a short label below it."""

    uri: str
    alt: str
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """Pictures one below the other, with a heading."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Columns of pictures side by side; `small` for maps of few patches."""

    kind: ClassVar[str] = "strip"
    caption: str
    columns: Sequence[Column]
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What colours mean: (CSS colour, name)."""

    kind: ClassVar[str] = "legend"
    title: str
    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several views, of which the page shows one at a time; in print all stand one below the other."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Views to choose from; `label` says what is chosen."""

    kind: ClassVar[str] = "choices"
    label: str
    options: Sequence[Choice]


@dataclass(frozen=True, kw_only=True)
class Details:
    """What is folded away until it is asked for."""

    kind: ClassVar[str] = "details"
    title: str
    parts: Sequence[Part]


Part = Note | TableView | Plot | Strip | Legend | Choices | Details


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section of the page.

    Args:
        slug: its address within the page.
        title: its heading.
        lead: what it shows, how to read it, and what not to conclude from it.
        parts: its contents.
        numbers: whether it holds results; then its heading names scale and data.
    """

    slug: str
    title: str
    lead: str
    parts: Sequence[Part]
    numbers: bool = True


def number(value: float | None, form: str = ".1f") -> Cell:
    """A number as a cell; a dash where there is none."""
    if value is None or value != value:
        return Cell(text=GAP)
    return Cell(text=format(value, form), value=value)


def text(value: object) -> Cell:
    """Anything as a cell, sorted by the number it begins with (units k, M, G), else by its words."""
    words = str(value)
    found = _NUMBER.match(words)
    return Cell(text=words, value=float(found[1]) * _UNITS[found[2]] if found else None)


def frame_table(shown: pd.DataFrame, caption: str, values: pd.DataFrame | None = None, name: str = "") -> TableView:
    """A data frame of texts as a table; `values`, the numbers behind it, can be downloaded as `name`.csv."""
    rows = [[text(value) for value in row] for row in shown.itertuples(index=False)]
    csv = "" if values is None else encoded(values.to_csv(index=False).encode(), "text/csv")
    return TableView(caption=caption, columns=[str(c) for c in shown.columns], rows=rows, csv=csv, name=f"{name}.csv")
