"""The section with the tables of suites, in their own layouts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from benchmarks.suites import SUITES
from harness.entries import ABSENT
from harness.paper_tables import PaperTable, Style, build_paper_tables
from harness.plan import Request
from harness.records import Record
from harness.report.findings import Findings
from harness.report.parts import Choice, Choices, Note, Part, Section, TableView, frame_table

LEAST = 0.5
"""A table is shown from this share of its entries on."""


@dataclass(frozen=True, kw_only=True)
class SuiteTable:
    """A table, the suite it is of, and how much of it there is: entries with a number, and entries that it has."""

    suite: str
    table: PaperTable
    there: int
    entries: int


def suite_tables(records: Iterable[Record], scale: str) -> list[SuiteTable]:
    """The tables of every suite of ours that hold a number; of suites that share one with the same records, the first.

    Args:
        records: every record of a results folder.
        scale: its name.
    """
    known = list(records)
    found: dict[tuple[str, frozenset[str]], SuiteTable] = {}
    for name, suite in SUITES.items():
        for table in build_paper_tables(known, Request(suite=name, scale=scale), Style()) if suite.layouts else ():
            if table.keys:
                there, entries = _extent(table.values)
                one = SuiteTable(suite=name, table=table, there=there, entries=entries)
                found.setdefault((table.name.partition("-")[0], table.keys), one)
    return list(found.values())


def suites(found: Findings) -> Section:
    """Every table of which at least half is there; the others are named."""
    tables = suite_tables(found.records, found.scale)
    shown = [one for one in tables if one.there >= LEAST * one.entries]
    options = [Choice(title=f"{one.suite}: {one.table.heading}", parts=[_view(one.table)]) for one in shown]
    parts: list[Part] = [Choices(label="Suite and table", options=options)] if options else []
    if not options:
        parts.append(Note(text="No suite with tables of its own was run, or less than half of one: `list suites`."))
    rest = [f"{one.table.name} of `{one.suite}` ({one.there} of {one.entries})" for one in tables if one not in shown]
    if rest:
        parts.append(Note(text=f"Left out, because less than half of their entries are there: {', '.join(rest)}."))
    return Section(
        slug="suites",
        title="Suite tables",
        lead=(
            "The tables of the suites in their own layouts, as written to tables/ in Markdown, LaTeX and CSV. Bold is "
            "the best of its group, which is not yet a finding: that takes a difference that can be told from 0. "
            "A gap is named, never a zero."
        ),
        parts=parts,
    )


def _extent(values: pd.DataFrame) -> tuple[int, int]:
    entries = values[values["gap"] != ABSENT]
    return int(entries["value"].notna().sum()), len(entries)


def _view(table: PaperTable) -> TableView:
    view = frame_table(table.display, table.caption, table.values, table.name)
    rows = [
        [replace(cell, style="font-weight:bold") if (i, j) in table.bold else cell for j, cell in enumerate(row)]
        for i, row in enumerate(view.rows)
    ]
    return replace(view, rows=rows)
