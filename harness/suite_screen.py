"""A suite's tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import JustifyMethod
from rich.markup import escape
from rich.table import Table

from harness.screen import console, show_hint

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.paper_tables import PaperTable


def show_suite_tables(
    tables: Sequence[PaperTable], paths: Sequence[Path], folder: Path, keys: Set[str] | None = None
) -> None:
    """The tables that hold one of the keys (None: all), and where those of each task are."""
    for table, path in zip(tables, paths, strict=True):
        if keys is None or table.keys & keys:
            _show(table, path)
    show_hint("tables of each task, per domain", f"{folder}/*.md")


def _show(table: PaperTable, path: Path) -> None:
    """As many columns as the terminal is wide; the files have them all."""
    display = table.display
    widths = [max(len(str(text)) for text in [name, *display[name]]) + 3 for name in display.columns]
    shown = list(range(len(widths)))
    while sum(widths[i] for i in shown) > console.width and len(shown) > 3:
        shown.pop(-2)  # the last column is an average or the gap
    cut = "" if len(shown) == len(widths) else "Narrow terminal: more columns in the files. "
    drawn = Table(title=escape(table.heading), title_justify="left", box=box.SIMPLE)
    drawn.caption, drawn.caption_justify = escape(cut + table.caption), "left"
    labels = next(i for i, name in enumerate(display.columns) if name not in ("Group",)) + 1
    for i in shown:
        justify: JustifyMethod = "left" if i < labels else "right"
        drawn.add_column(escape(str(display.columns[i])), justify=justify, no_wrap=i >= labels, overflow="fold")
    for row, texts in enumerate(display.itertuples(index=False)):
        cells = [
            f"[bold]{escape(str(texts[i]))}[/]" if (row, i) in table.bold else escape(str(texts[i])) for i in shown
        ]
        drawn.add_row(*cells, end_section=row in table.ends)
    console.print(drawn)
    console.print(f"table: {path} (and .tex, .csv)\n", soft_wrap=True, highlight=False)
