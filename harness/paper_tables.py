"""The tables of a suite, in its own layouts: from records alone, beside the published numbers where asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.layouts import Column, Layout
from benchmarks.suites import Cell
from harness import latex
from harness.entries import Entry, Reading
from harness.evidence import SELECTIONS
from harness.markdown import to_markdown
from harness.plan import Expansion, Request
from harness.printed import Printed
from harness.records import Record
from harness.rows import current, refuse_mixed
from harness.shelf import Shelf, told_shift
from harness.suite_layouts import layouts_of
from harness.table_text import Line, Text, caption_of, texts_of
from harness.tables import ResultTable
from harness.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Style:
    """What tables show.

    Args:
        selection: the rule that chose the checkpoints, or `all` for a row of each.
        published: put the published numbers beside ours; None for: at the paper's scale.
    """

    selection: str = "source_val"
    published: bool | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown rule."""
        if self.selection not in (*SELECTIONS, "all"):
            raise ValueError(f"--selection {self.selection}: choose {', '.join(SELECTIONS)} or all")

    @property
    def selections(self) -> tuple[str, ...]:
        """The rules shown."""
        return SELECTIONS if self.selection == "all" else (self.selection,)


@dataclass(frozen=True, kw_only=True)
class PaperTable(ResultTable):
    """A table in a suite's layout.

    Args:
        latex: the same for LaTeX.
        bold: row and column of the display's entries that are the best of their group.
        ends: numbers of the rows after which a group ends.
    """

    latex: str = field(default="", repr=False)
    bold: frozenset[tuple[int, int]] = frozenset()
    ends: frozenset[int] = frozenset()


def build_paper_tables(
    records: Iterable[Record], request: Request, style: Style, planned: Iterable[Trial] = ()
) -> list[PaperTable]:
    """The tables of a request's suite: one of each layout and kind of data; none for a suite without layouts.

    Args:
        records: every record of the results folder.
        request: the suite, its scale, settings and shift, and methods that get a row whether they ran or not.
        style: what the tables show.
        planned: the trials at hand, beside which older records of the same rows are stale.

    Raises:
        ValueError: a name is unknown, or records of several protocol versions would stand in one table.
    """
    expansion, trials = Expansion(request), list(planned)
    kept = current(records, trials)
    kinds = sorted({str(record.inputs["data"]) for record in kept}) or ["embedded"]
    tables = []
    for kind in kinds:
        shelf = Shelf(kept, expansion, kind, {trial.key for trial in trials})
        for layout in layouts_of(request, expansion, shelf):
            table = _table(_with_gap(layout), shelf, style)
            if table.keys or len(kinds) == 1:
                tables.append(table)
    return tables


def write_paper_tables(tables: Sequence[PaperTable], folder: Path) -> list[Path]:
    """Write each table as Markdown, LaTeX and CSV, and `document.tex` that holds them all; returns the Markdown files.

    Args:
        tables: of one suite.
        folder: the suite's; others' tables lie in other folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        path = folder / f"{table.name}.md"
        path.write_text(_markdown(table), encoding="utf-8")
        path.with_suffix(".tex").write_text(table.latex, encoding="utf-8")
        table.values.to_csv(path.with_suffix(".csv"), index=False)
        written.append(path)
    (folder / "document.tex").write_text(latex.document([table.name for table in tables]), encoding="utf-8")
    return written


def _markdown(table: PaperTable) -> str:
    marked, display = table.display.copy(), table.display.to_numpy()
    for i, j in table.bold:
        marked.iat[i, j] = f"**{display[i][j]}**"
    texts = sum(name in ("Group", "Checkpoint") for name in marked.columns) + 1
    return f"# {table.heading}\n\n{to_markdown(marked, texts)}\n\n{table.caption}\n"


def _with_gap(layout: Layout) -> Layout:
    """With the oracle gap as the last column, where the layout shows scores and says nothing of selections itself."""
    scores = any(column.metric == "miou" for column in layout.columns)
    if not scores or any(column.metric == "gap" or column.selection for column in layout.columns):
        return layout
    return replace(layout, columns=(*layout.columns, Column(label="Gap", metric="gap", average=True)))


def _table(layout: Layout, shelf: Shelf, style: Style) -> PaperTable:
    scale = shelf.expansion.scale
    wanted = scale.name == "paper" if style.published is None else style.published
    printed = Printed(layout) if wanted and layout.published else None
    lines = _lines(layout, shelf, style)
    records = {record.key: record for line in lines for entry in line.entries for record in entry.records}
    refuse_mixed(f"table {layout.name}", records.values())
    heads, texts = texts_of(layout, lines, printed, scale.name)
    labels, corner = _labels(layout, lines, style)
    name, heading = _titles(layout, shelf)
    caption = caption_of(layout, lines, list(records.values()), style.selections)
    notes = printed.footnotes(text.codes for line in texts for text in line) if printed else ""
    caption = f"{caption} {notes}".strip()
    display = [[*label, *(text.plain for text in line)] for label, line in zip(labels, texts, strict=True)]
    return PaperTable(
        name=name,
        heading=heading,
        caption=caption,
        values=pd.DataFrame(_values(layout, lines, printed, labels, corner)),
        display=pd.DataFrame(display, columns=[*corner, *(" ".join(filter(None, head)) for head in heads)], dtype=str),
        keys=frozenset(records),
        latex=_latex(name, heading, caption, heads, corner, list(zip(lines, labels, texts, strict=True))),
        bold=frozenset(
            (i, j + len(corner)) for i, line in enumerate(texts) for j, text in enumerate(line) if text.bold
        ),
        ends=_ends(lines),
    )


def _lines(layout: Layout, shelf: Shelf, style: Style) -> list[Line]:
    """The rows, each at every checkpoint shown."""
    read = {rule: Reading(shelf, rule).table(layout) for rule in style.selections}
    return [
        Line(row=row, rule=rule, entries=read[rule][i])
        for i, row in enumerate(layout.rows)
        for rule in style.selections
    ]


def _titles(layout: Layout, shelf: Shelf) -> tuple[str, str]:
    """File name without suffix, and heading."""
    scale = shelf.expansion.scale
    said, asked = _changes(shelf)
    heading = f"{scale.title} ({_data(shelf)}) · {layout.title}" + (f" · {said}" if said else "")
    files = "files" if shelf.kind == "files" and scale.scenes else ""
    changes = re.sub(r"[^\w.+-]+", "-", asked.replace("protocol.", "").replace("=", ""))
    return "-".join(filter(None, (layout.name, files, changes))), heading


def _latex(
    name: str,
    heading: str,
    caption: str,
    heads: Sequence[tuple[str, str]],
    corner: Sequence[str],
    rows: Sequence[tuple[Line, Sequence[str], Sequence[Text]]],
) -> str:
    """The table for LaTeX, where groups have rows of their own."""
    first = 1 if corner[0] == "Group" else 0
    return latex.table(
        label=name,
        caption=heading,
        notes=caption,
        heads=heads,
        corner=corner[first:],
        rows=[
            (line.row.group, label[first:], [(text.text, text.bold, text.codes) for text in entries])
            for line, label, entries in rows
        ],
    )


def _labels(layout: Layout, lines: Sequence[Line], style: Style) -> tuple[list[list[str]], list[str]]:
    """What stands before the entries of each row, and the headings of it."""
    grouped, several = any(line.row.group for line in lines), len(style.selections) > 1
    labels = []
    for line in lines:
        label = line.row.label + (" (published only)" if line.row.published_only else "")
        labels.append([*[line.row.group] * grouped, label, *[line.rule] * several])
    return labels, [*["Group"] * grouped, layout.corner, *["Checkpoint"] * several]


def _ends(lines: Sequence[Line]) -> frozenset[int]:
    groups = [line.row.group for line in lines]
    return frozenset(i for i, group in enumerate(groups) if i + 1 == len(groups) or groups[i + 1] != group)


def _values(
    layout: Layout, lines: Sequence[Line], printed: Printed | None, labels: Sequence[Sequence[str]], corner: list[str]
) -> list[dict[str, Any]]:
    """Full precision, one row per entry: for CSV."""
    rows, paired = [], any(column.minus for column in layout.columns)
    for line, label in zip(lines, labels, strict=True):
        for column, entry in zip(layout.columns, line.entries, strict=True):
            number, codes = printed.number(line.row, column) if printed else (None, "")
            rows.append(
                {
                    **{name.lower().replace(" ", "_"): text for name, text in zip(corner, label, strict=True)},
                    "column": " ".join(filter(None, (column.group, column.label))),
                    "metric": column.metric,
                    "value": entry.value,
                    "low": _known(entry.low),
                    "high": _known(entry.high),
                    **({"p_holm": _p_holm(entry)} if paired else {}),
                    "n": entry.seeds,
                    "failed": entry.failed,
                    "gap": entry.gap,
                    **({"published": number, "flag": codes} if printed else {}),
                }
            )
    return rows


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _p_holm(entry: Entry) -> float | None:
    return _known(entry.difference.p_holm) if entry.difference else None


def _data(shelf: Shelf) -> str:
    return "synthetic" if shelf.kind == "embedded" else "files"


def _changes(shelf: Shelf) -> tuple[str, str]:
    """What differs from the scale's recipe, and what of it the suite does not say itself."""
    expansion = shelf.expansion
    default, own = asdict(expansion.scale.protocol), asdict(expansion.protocol(Cell()))
    recipe = [f"{name}={value}" for name, value in own.items() if value != default[name]]
    shift = [f"{name}={_joined(value)}" for name, value in told_shift(expansion.scale).items()]
    asked = [f"{owner}.{name}={value}" for owner, given in expansion.settings.items() for name, value in given.items()]
    options = [change for change in asked if not change.startswith("protocol.")]
    return ", ".join([*shift, *recipe, *options]), ", ".join([*shift, *asked])


def _joined(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
