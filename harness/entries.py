"""What stands in the entries of a suite's table: numbers with their intervals, or the name of a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.layouts import Column, Layout, Row
from benchmarks.suites import cell_at
from harness.evidence import evidence_of
from harness.records import Record
from harness.shelf import Found, Shelf
from harness.split import SOURCE_VAL, TARGET
from harness.statistics import estimates

NOT_RUN, FAILED, INCOMPLETE, ABSENT = "not run", "failed", "incomplete", "–"
"""Gaps: no record; only failed ones; a mean of which a part is missing; an entry that the table does not have."""
SCORES = ("miou", "macc", "source_miou")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry.

    Args:
        value: mean over seeds, or None.
        low: lower end of its 95 % interval; NaN without one.
        high: upper end.
        gap: why there is no value.
        failed: how many seeds failed.
        records: the done ones behind it.
    """

    value: float | None = None
    low: float = float("nan")
    high: float = float("nan")
    gap: str = ""
    failed: int = 0
    records: Sequence[Record] = field(default=(), repr=False)


class Reading:
    """Reads a table's entries from a shelf.

    Args:
        shelf: the records.
        selection: the rule that chose the checkpoints, where a column says no other.
    """

    def __init__(self, shelf: Shelf, selection: str) -> None:
        """Nothing is read yet."""
        self.shelf, self.selection = shelf, selection
        self._intervals: dict[tuple[tuple[str, ...], str], tuple[float, float]] = {}

    def table(self, layout: Layout) -> list[list[Entry]]:
        """Every entry of a table, by row and column."""
        return [self._row(layout, row) for row in layout.rows]

    def _row(self, layout: Layout, row: Row) -> list[Entry]:
        plain = [
            Entry(gap=ABSENT)
            if column.average
            else self._of_any(layout, row)
            if column.metric == "parameters" and cell_at(row, column) is None
            else self._entry(row, column)
            for column in layout.columns
        ]
        return [
            _mean_gap(layout, plain, self.selection)
            if column.average and column.metric == "gap"
            else _average(layout, column, plain)
            if column.average
            else _difference(layout, column, entry, plain)
            if column.minus
            else entry
            for column, entry in zip(layout.columns, plain, strict=True)
        ]

    def _of_any(self, layout: Layout, row: Row) -> Entry:
        """Parameters of a row, from whatever of it has run."""
        found = [self._found(row, column) for column in layout.columns]
        done = [record for one in found if one for record in one.done][:1]
        value = _parameters(done[0]) if done else None
        return Entry(value=value, gap="" if done else ABSENT, records=done)

    def _found(self, row: Row, column: Column) -> Found | None:
        cell = cell_at(row, column)
        return self.shelf.find(cell, self.shelf.expansion.known.get(cell.method)) if cell else None

    def _entry(self, row: Row, column: Column) -> Entry:
        found = self._found(row, column)
        if found is None:
            return Entry(gap=ABSENT)
        if not found.done:
            return Entry(gap=FAILED if found.failed else NOT_RUN, failed=found.failed)
        selection = column.selection or self.selection
        values = [READERS[column.metric](record, selection) for record in found.done]
        low, high = self._interval(found.done, selection) if column.metric == "miou" else (np.nan, np.nan)
        return Entry(value=float(np.mean(values)), low=low, high=high, failed=found.failed, records=found.done)

    def _interval(self, records: Sequence[Record], selection: str) -> tuple[float, float]:
        """95 % over target scenes and seeds, from two seeds on."""
        if len(records) < 2:
            return (np.nan, np.nan)
        place = (tuple(record.key for record in records), selection)
        if place not in self._intervals:
            row = evidence_of(records, selection)
            (found,) = estimates(row.areas, row.domains)
            self._intervals[place] = (found.low, found.high)
        return self._intervals[place]


def _score(domain: str, metric: str) -> Callable[[Record, str], float]:
    def read(record: Record, selection: str) -> float:
        value = record.result["selections"][selection]["scores"][domain][metric]
        return float("nan") if value is None else float(value)

    return read


def _gap(record: Record, selection: str) -> float:
    score = _score(TARGET, "miou")
    return score(record, "oracle") - score(record, selection)


def _parameters(record: Record, _: str = "") -> float:
    counts: Mapping[str, int] = record.result["parameters"]
    return sum(counts.get(group, 0) for group in ("adapter", "backbone")) / 1e6


def _of_run(name: str) -> Callable[[Record, str], float]:
    return lambda record, _: float(record.run.get(name, float("nan")))


READERS: dict[str, Callable[[Record, str], float]] = {
    "miou": _score(TARGET, "miou"),
    "macc": _score(TARGET, "macc"),
    "source_miou": _score(SOURCE_VAL, "miou"),
    "gap": _gap,
    "parameters": _parameters,
    "seconds": _of_run("train_seconds"),
    "step_ms": _of_run("step_ms_median"),
    "memory": _of_run("process_peak_memory_mb"),
}
"""How each metric is read from a record at a selection."""


def _average(layout: Layout, column: Column, entries: Sequence[Entry]) -> Entry:
    """The mean over the row's other entries of the metric; a gap where one is missing, or not part of the table."""
    parts = [
        entry
        for other, entry in zip(layout.columns, entries, strict=True)
        if other.metric == column.metric and not other.average and not other.minus
    ]
    values = [entry.value for entry in parts if entry.value is not None]
    if len(values) < len(parts):
        return Entry(gap=ABSENT if any(entry.gap == ABSENT for entry in parts) else INCOMPLETE)
    return Entry(value=float(np.mean(values)), records=[record for entry in parts for record in entry.records])


def _mean_gap(layout: Layout, entries: Sequence[Entry], selection: str) -> Entry:
    """What choosing the checkpoints on the target would add, on average over the row's entries."""
    parts = [
        entry
        for column, entry in zip(layout.columns, entries, strict=True)
        if column.metric == "miou" and not column.average and not column.minus and entry.gap != ABSENT
    ]
    if not parts or any(entry.value is None for entry in parts):
        return Entry(gap=INCOMPLETE if parts else ABSENT)
    means = [float(np.mean([_gap(record, selection) for record in entry.records])) for entry in parts]
    return Entry(value=float(np.mean(means)), records=[record for entry in parts for record in entry.records])


def _difference(layout: Layout, column: Column, entry: Entry, entries: Sequence[Entry]) -> Entry:
    """An entry minus the one of the named column in its group, over the seeds that both have."""
    (other,) = (
        second
        for first, second in zip(layout.columns, entries, strict=True)
        if (first.group, first.label) == (column.group, column.minus)
    )
    if entry.value is None or other.value is None:
        return Entry(gap=INCOMPLETE)
    return Entry(value=entry.value - other.value, records=[*entry.records, *other.records])
