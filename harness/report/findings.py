"""What the records of a results folder hold, in the shape in which the sections of the page ask for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.records import Record, RecordStore
from harness.report.plots import Look, looks
from harness.rows import row_of
from harness.split import SOURCE_VAL, TARGET
from harness.status import Status
from harness.tables import ResultTable, build_tables
from harness.trial import special


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method variant in one table: its records by seed, and target mIoU with its interval as the table has it."""

    title: str
    records: tuple[Record, ...]
    target: float
    low: float
    high: float

    def mean(self, domain: str = TARGET, score: str = "miou") -> float:
        """Mean over seeds of a score at the checkpoint chosen on source validation, in percent; NaN if undefined."""
        return _mean([self._scores(record)[domain][score] for record in self.records])

    def classes(self) -> list[float]:
        """Mean IoU over seeds of each class, all target tiles pooled."""
        per_seed = [self._scores(record)[TARGET]["iou"] for record in self.records]
        return [_mean([seed[k] for seed in per_seed]) for k in range(len(per_seed[0]))]

    @property
    def domains(self) -> list[str]:
        """Target domains in the task's order."""
        return [name for name in self._scores(self.records[0]) if name not in (SOURCE_VAL, TARGET)]

    @staticmethod
    def _scores(record: Record) -> dict[str, Any]:
        scores: dict[str, Any] = record.result["selections"]["source_val"]["scores"]
        return scores


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows of one table on one backbone: what may stand in one drawing."""

    title: str
    slug: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Record:
        """Any record: task, classes, domains and recipe are the same in all."""
        return self.rows[0].records[0]

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.first.inputs["task"])

    @property
    def labels(self) -> dict[str, Any]:
        """Titles, as the record keeps them."""
        labels: dict[str, Any] = self.first.result["labels"]
        return labels


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that a page is made of.

    Args:
        scale: name of the scale.
        store: where attachments are read when a section asks.
        records: every record, in full.
        done: finished records that tables show, without their arrays.
        failed: those that failed.
        stale: number of finished records that tables leave out: an older source, version or weights of the same row.
        corrupt: files that hold no whole record.
        tables: every result table.
        comparisons: their rows by backbone.
    """

    scale: str
    store: RecordStore
    records: tuple[Record, ...]
    done: tuple[Record, ...]
    failed: tuple[Record, ...]
    stale: int
    corrupt: tuple[str, ...]
    tables: tuple[ResultTable, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def label(self) -> str:
        """Scale and kinds of data, as in `mini (synthetic)`: stands wherever results do."""
        kinds = {record.result["labels"]["data"] for record in (*self.done, *self.failed)}
        return f"{self.scale} ({', '.join(sorted(kinds, reverse=True))})"

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How each method is drawn."""
        return looks(row.title for comparison in self.comparisons for row in comparison.rows)


def gather(store: RecordStore, scale: str) -> Findings:
    """Read every record once.

    Raises:
        ValueError: there is none, or they cannot share a table.
    """
    records = list(store)
    files = {path.stem for path in store.folder.glob("*.json")}
    corrupt = sorted(files - {record.key for record in records})
    corrupt += [path.name for path in sorted(store.folder.glob("*.json.corrupt"))]
    if not records:
        raise ValueError(f"no record in {store.folder}: run a suite first, or give --results DIR")
    tables = build_tables(records, scale)
    shown = frozenset[str]().union(*(table.keys for table in tables))
    light = [replace(record, arrays={}) for record in records]
    done = tuple(record for record in light if record.key in shown)
    finished = sum(record.status is Status.DONE for record in records)
    return Findings(
        scale=scale,
        store=store,
        records=tuple(records),
        done=done,
        failed=tuple(record for record in light if record.status is Status.FAILED),
        stale=finished - len(done),
        corrupt=tuple(corrupt),
        tables=tuple(tables),
        comparisons=tuple(_comparisons(done, tables)),
    )


def _comparisons(done: Sequence[Record], tables: Sequence[ResultTable]) -> list[Comparison]:
    found: list[tuple[str, str, tuple[Row, ...]]] = []
    for table in tables:
        rows = _rows([record for record in done if record.key in table.keys], table)
        by_backbone: dict[str, list[Row]] = {}
        for row in rows:
            by_backbone.setdefault(row.records[0].result["labels"]["backbone"], []).append(row)
        for backbone, same in by_backbone.items():
            record = same[0].records[0]
            parts = (record.inputs["task"], backbone, record.result["labels"]["recipe"])
            found.append((" · ".join(filter(None, parts)), table.name, _distinct(same)))
    names = Counter(title for title, _, _ in found)
    return [
        Comparison(title=title if names[title] == 1 else f"{title} ({table})", slug=f"c{i}", rows=rows)
        for i, (title, table, rows) in enumerate(found)
    ]


def _rows(records: Sequence[Record], table: ResultTable) -> list[Row]:
    """The rows of a table, in its order, with the records behind them."""
    named: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        named.setdefault(row_of(record.inputs, record.result["labels"]), []).append(record)
    rows: list[Row] = []
    for same, values in zip(sorted(named.values(), key=_order), table.values.to_dict("records"), strict=True):
        labels = same[0].result["labels"]
        extra = special(labels)
        title = labels["method"] + (f" ({extra})" if extra else "")
        assert (title, len(same)) == (values["method"], values["seeds"]), "rows are ordered as in the table"
        ordered = tuple(sorted(same, key=lambda record: int(record.inputs["seed"])))
        low, high = float(values["target_low"]), float(values["target_high"])
        rows.append(Row(title=title, records=ordered, target=float(values["target_miou"]), low=low, high=high))
    return rows


def _distinct(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows in which methods that share a title have their names, too."""
    titles = Counter(row.title for row in rows)
    return tuple(
        row if titles[row.title] == 1 else replace(row, title=f"{row.title} [{row.records[0].inputs['method']}]")
        for row in rows
    )


def _order(records: Sequence[Record]) -> tuple[Any, ...]:
    inputs, labels = records[0].inputs, records[0].result["labels"]
    backbone, controls, method, options = row_of(inputs, labels)
    return (backbone, controls, not labels["baseline"], method, options)


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([np.nan if value is None else value for value in values]))
