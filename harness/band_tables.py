"""Tables of numbers by band that can be read on any screen: bands as columns if they fit, else as rows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from harness.screen import console

_MOST_COLUMNS = 6
_PADDING = 2

Columns = list[tuple[str, list[str]]]
"""Headings and cells."""


def show_by_band(
    title: str, corner: str, bands: Sequence[str], rows: Mapping[str, Sequence[str]], facts: Sequence[str] = ()
) -> None:
    """A table with a line per row, or with one per band where bands are many or do not fit; split if too wide.

    Args:
        title: above it.
        corner: what rows are, such as "domain".
        bands: their names.
        rows: by name, a text for each of `facts`, then one for each band.
        facts: what else there is of each row.
    """
    names = [*facts, *bands]
    wide: Columns = [(corner, list(rows))]
    wide += [(name, [texts[i] for texts in rows.values()]) for i, name in enumerate(names)]
    if len(bands) <= _MOST_COLUMNS and sum(map(_width, wide)) <= console.width:
        parts = [wide]
    else:
        parts = list(_split([("band", names), *((name, list(texts)) for name, texts in rows.items())]))
    for number, columns in enumerate(parts, 1):
        counted = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        console.print(f"[italic]{escape(title)}{counted}[/italic]", highlight=False)
        table = Table(box=None)
        for heading, cells in columns:
            table.add_column(escape(_broken(heading, cells)), no_wrap=True)
        for line in zip(*(cells for _, cells in columns), strict=True):
            table.add_row(*map(escape, line))
        console.print(table)


def _split(columns: Columns) -> Iterator[Columns]:
    """Groups of columns that fit the screen, each with the first column, which names the lines."""
    first, *others = columns
    part = [first]
    for column in others:
        if len(part) > 1 and sum(map(_width, [*part, column])) > console.width:
            yield part
            part = [first]
        part.append(column)
    yield part


def _broken(heading: str, cells: Sequence[str]) -> str:
    """A heading of several words in lines about as wide as the cells."""
    width = max(map(len, [*heading.split(), *cells]), default=1)
    return "\n".join(textwrap.wrap(heading, max(width, 1), break_long_words=False, break_on_hyphens=False)) or heading


def _width(column: tuple[str, Sequence[str]]) -> int:
    heading, cells = column
    return max(map(len, [*_broken(heading, cells).split("\n"), *cells])) + _PADDING
