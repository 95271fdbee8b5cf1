"""What stands in the entries of a suite's table: numbers with their intervals, or the name of a gap."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.layouts import Column, Layout, Row
from benchmarks.suites import cell_at
from harness.evidence import Evidence, evidence_of
from harness.jackknife import Statistic
from harness.metrics import mean_accuracy, mean_iou
from harness.records import Record
from harness.shelf import Found, Shelf
from harness.split import SOURCE_VAL, TARGET
from harness.statistics import Difference, Estimate, corrected, differences, mean_difference, mean_estimate

NOT_RUN, FAILED, INCOMPLETE, ABSENT = "not run", "failed", "incomplete", "–"
"""Gaps: no record; only failed ones; a mean of which a part is missing; an entry that the table does not have."""
SCORES = ("miou", "macc", "source_miou")
STATISTICS: Mapping[str, Statistic] = {"miou": mean_iou, "macc": mean_accuracy}
"""The scores that target scenes give an interval."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry.

    Args:
        value: mean over seeds, or None.
        low: lower end of its 95 % interval; NaN without one.
        high: upper end.
        difference: of two columns, where scenes tell how sure it is.
        gap: why there is no value.
        failed: how many seeds failed.
        records: the done ones behind it.
    """

    value: float | None = None
    low: float = float("nan")
    high: float = float("nan")
    difference: Difference | None = None
    gap: str = ""
    failed: int = 0
    records: Sequence[Record] = field(default=(), repr=False)

    @property
    def seeds(self) -> int:
        """The number of seeds behind it."""
        return len(_seeds(self.records))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Records of a cell at the checkpoints of one rule."""

    records: Sequence[Record]
    selection: str

    def only(self, seeds: Collection[int]) -> _Part:
        return replace(self, records=[record for record in self.records if record.inputs["seed"] in seeds])

    def mean(self, metric: str) -> float:
        return float(np.mean([READERS[metric](record, self.selection) for record in self.records]))


class Reading:
    """Reads a table's entries from a shelf.

    Args:
        shelf: the records.
        selection: the rule that chose the checkpoints, where a column says no other.
    """

    def __init__(self, shelf: Shelf, selection: str) -> None:
        """Nothing is read yet."""
        self.shelf, self.selection = shelf, selection
        self._evidence: dict[tuple[tuple[str, ...], str], Evidence] = {}

    def table(self, layout: Layout) -> list[list[Entry]]:
        """Every entry of a table, by row and column; its differences are corrected as one family."""
        rows = [self._row(layout, row) for row in layout.rows]
        family = iter(corrected([entry.difference for row in rows for entry in row]))
        return [[replace(entry, difference=next(family)) for entry in row] for row in rows]

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
            self._average(layout, column, plain)
            if column.average
            else self._difference(layout, column, entry, plain)
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
        part = self._part(column, found.done)
        # a difference of columns has an interval of its own
        low, high = (np.nan, np.nan) if column.minus else self._interval(column.metric, [part])
        value = part.mean(column.metric)
        return Entry(value=value, low=low, high=high, failed=found.failed, records=found.done)

    def _average(self, layout: Layout, column: Column, entries: Sequence[Entry]) -> Entry:
        """The mean over the row's other entries of the metric, over the seeds that all have; else the name of a gap.

        That of a gap is over the entries that are part of the table, another over all.
        """
        of = "miou" if column.metric == "gap" else column.metric
        parts = [
            (other, entry)
            for other, entry in zip(layout.columns, entries, strict=True)
            if other.metric == of and not other.average and not other.minus
        ]
        held = [(other, entry) for other, entry in parts if entry.gap != ABSENT]
        if not held or (column.metric != "gap" and len(held) < len(parts)):
            return Entry(gap=ABSENT)
        seeds = set.intersection(*(_seeds(entry.records) for _, entry in held))
        if not seeds:
            return Entry(gap=INCOMPLETE)
        kept = [self._part(other, entry.records).only(seeds) for other, entry in held]
        low, high = self._interval(column.metric, kept)
        value = float(np.mean([part.mean(column.metric) for part in kept]))
        return Entry(value=value, low=low, high=high, records=[record for part in kept for record in part.records])

    def _difference(self, layout: Layout, column: Column, entry: Entry, entries: Sequence[Entry]) -> Entry:
        """An entry minus the one of the named column in its group, over the seeds that both have."""
        ((second, other),) = (
            (second, found)
            for second, found in zip(layout.columns, entries, strict=True)
            if (second.group, second.label) == (column.group, column.minus)
        )
        seeds = _seeds(entry.records) & _seeds(other.records)
        if not seeds:
            return Entry(gap=INCOMPLETE)
        mine, theirs = self._part(column, entry.records).only(seeds), self._part(second, other.records).only(seeds)
        value = mine.mean(column.metric) - theirs.mean(column.metric)
        records = [*mine.records, *theirs.records]
        if len(seeds) < 2 or column.metric not in STATISTICS:
            return Entry(value=value, records=records)
        (found,) = differences(self._row_of(mine), self._row_of(theirs), STATISTICS[column.metric])
        return Entry(value=value, low=found.low, high=found.high, difference=found, records=records)

    def _interval(self, metric: str, parts: Sequence[_Part]) -> tuple[float, float]:
        """95 % over target scenes and seeds, of the mean over parts with equal seeds; from two seeds on."""
        if len(parts[0].records) < 2 or metric not in (*STATISTICS, "gap"):
            return np.nan, np.nan
        rows = [self._row_of(part) for part in parts]
        found: Estimate | None
        if metric == "gap":
            oracles = [self._row_of(replace(part, selection="oracle")) for part in parts]
            found = mean_difference(list(zip(oracles, rows, strict=True)))
        else:
            found = mean_estimate(rows, STATISTICS[metric])
        return (found.low, found.high) if found else (np.nan, np.nan)

    def _part(self, column: Column, records: Sequence[Record]) -> _Part:
        return _Part(records=records, selection=column.selection or self.selection)

    def _row_of(self, part: _Part) -> Evidence:
        place = (tuple(record.key for record in part.records), part.selection)
        if place not in self._evidence:
            self._evidence[place] = evidence_of(part.records, part.selection)
        return self._evidence[place]


def _seeds(records: Sequence[Record]) -> set[int]:
    return {int(record.inputs["seed"]) for record in records}


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
