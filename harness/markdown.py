"""A table's text as Markdown, and back."""

from __future__ import annotations

import re

import pandas as pd


def to_markdown(display: pd.DataFrame, texts: int) -> str:
    """A table of texts as Markdown.

    Args:
        display: the table; a bar in a text is escaped, for it would start another column.
        texts: number of the first columns, which are words and stand left; the others stand right.
    """
    alignment = ["left"] * texts + ["right"] * (len(display.columns) - texts)
    escaped = display.map(_escape).rename(columns=_escape)
    return str(escaped.to_markdown(index=False, disable_numparse=True, colalign=alignment))


def from_markdown(text: str) -> pd.DataFrame:
    """The one table of a Markdown text, without its bold marks.

    Raises:
        ValueError: there is none, or its rows have more entries than its heading.
    """
    head, _, *rows = [_entries(line) for line in text.splitlines() if line.startswith("|")] or [[], []]
    if not head:
        raise ValueError("it has no table")
    return pd.DataFrame(rows, columns=head, dtype=str)


def _escape(text: object) -> str:
    return str(text).replace("|", r"\|")


def _entries(line: str) -> list[str]:
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    return [re.sub(r"^\*\*(.*)\*\*$", r"\1", cell).replace(r"\|", "|") for cell in cells]
