"""The entries of a suite's table as text: numbers, gaps, footnote codes, and the caption below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.layouts import Column, Layout, Row
from harness.audit_status import audit_text
from harness.entries import FAILED, INCOMPLETE, NOT_RUN, SCORES, Entry
from harness.printed import Printed
from harness.records import Record
from harness.scales import Protocol
from harness.statistics import MIN_SCENES, MIN_SEEDS

_CHOSEN = {
    "source_val": "chosen on held-out source scenes",
    "last": "of the final weights",
    "oracle": "chosen on the target: not to be had in earnest",
}

_PAIRED = (
    "Differences are paired over the scenes and seeds that both columns have; * marks p < 0.05, corrected by Holm's "
    "method for all differences of the table at that checkpoint "
    f"with {MIN_SEEDS} seeds and {MIN_SCENES} scenes or more."
)


@dataclass(frozen=True, kw_only=True)
class Text:
    """An entry as text: bold if it is the best of its group, with the codes of its footnotes."""

    text: str
    bold: bool = False
    codes: str = ""

    @property
    def plain(self) -> str:
        """The text with its codes."""
        return f"{self.text} ({self.codes})" if self.codes else self.text


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of the table: the layout's row, the rule that chose its checkpoints, and its entries."""

    row: Row
    rule: str
    entries: Sequence[Entry]


def texts_of(
    layout: Layout, lines: Sequence[Line], printed: Printed | None, scale: str
) -> tuple[list[tuple[str, str]], list[list[Text]]]:
    """Headings (group, label) of the columns shown, and the text of every entry."""
    common = _common_seeds(layout, lines)
    heads: list[tuple[str, str]] = []
    columns: list[list[Text]] = []
    for j, column in enumerate(layout.columns):
        ours = [line.entries[j] for line in lines]
        best = _best([(line.row.group, line.rule) for line in lines], ours) if _comparable(column) else set()
        heads.append((column.group, column.label))
        digits = _digits(column, ours)
        columns.append(
            [Text(text=_entry(entry, digits, column, common), bold=i in best) for i, entry in enumerate(ours)]
        )
        if printed and printed.shows(column):
            numbers = [printed.number(line.row, column) for line in lines]
            heads.append((column.group, f"{column.label}, paper"))
            columns.append([Text(text="–" if n is None else f"{n:.2f}", codes=codes) for n, codes in numbers])
            if scale == "paper":
                heads.append((column.group, f"Δ {column.label}"))
                columns.append([Text(text=_minus(e.value, n)) for e, (n, _) in zip(ours, numbers, strict=True)])
    return heads, [list(line) for line in zip(*columns, strict=True)]


def _minus(ours: float | None, paper: float | None) -> str:
    return "" if ours is None or paper is None else f"{ours - paper:+.2f}"


def _comparable(column: Column) -> bool:
    return column.metric in SCORES and not column.minus


def _best(groups: Sequence[object], entries: Sequence[Entry]) -> set[int]:
    """Numbers of the entries that are the best of their group, of several; ties by the shown digit included."""
    found = set()
    for group in set(groups):
        values = {
            i: round(entry.value, 1)
            for i, entry in enumerate(entries)
            if groups[i] == group and entry.value is not None and not math.isnan(entry.value)
        }
        if len(values) > 1:
            found |= {i for i, value in values.items() if value == max(values.values())}
    return found


def _digits(column: Column, entries: Sequence[Entry]) -> int:
    if column.metric == "parameters":
        return 2 if any(entry.value and entry.value >= 1 for entry in entries) else 3
    return 0 if column.metric in ("seconds", "step_ms", "memory") else 1


def _entry(entry: Entry, digits: int, column: Column, common: int) -> str:
    if entry.value is None:
        return entry.gap
    form = f"{'+' if column.minus or column.metric == 'gap' else ''}.{digits}f"
    text = f"{entry.value + 0.0:{form}}"
    if _bracketed(column, entry):
        text += f" [{entry.low:{form}}, {entry.high:{form}}]"
    if entry.difference and entry.difference.significant:
        text += "*"
    if column.metric == "parameters":
        return text
    short = f"n={entry.seeds}" if entry.seeds != common else ""
    failed = f"{entry.failed} {FAILED}" if entry.failed else ""
    return f"{text} ({', '.join(filter(None, (short, failed)))})" if short or failed else text


def _bracketed(column: Column, entry: Entry) -> bool:
    """Whether its interval is shown: that of a gap is for the CSV, as it takes the checkpoints chosen as given."""
    return column.metric != "gap" and not math.isnan(entry.low)


def _common_seeds(layout: Layout, lines: Sequence[Line]) -> int:
    """The number of seeds behind an entry with most of them."""
    return max(_seed_counts(layout, lines), default=0)


def _seed_counts(layout: Layout, lines: Sequence[Line]) -> set[int]:
    entries = [
        entry
        for line in lines
        for column, entry in zip(layout.columns, line.entries, strict=True)
        if column.metric != "parameters" and entry.records
    ]
    return {entry.seeds for entry in entries}


def caption_of(layout: Layout, lines: Sequence[Line], records: Sequence[Record], rules: Sequence[str]) -> str:
    """How the numbers came about, which gaps there are, and what stands behind them.

    Args:
        layout: the table's.
        lines: its rows.
        records: all behind it.
        rules: how checkpoints were chosen.
    """
    seeds = sorted(_seed_counts(layout, lines))
    gaps = [entry.gap for line in lines for entry in line.entries]
    named = [f"{gaps.count(gap)} {gap}" for gap in (NOT_RUN, FAILED, INCOMPLETE) if gap in gaps]
    rule = "; ".join(f"{name}: {_CHOSEN[name]}" for name in rules)
    heads = sorted({int(record.result["parameters"].get("head", 0)) for record in records})
    commits = sorted({str(record.run.get("commit", "unknown")) for record in records})
    parts = [
        "mIoU and mAcc in %, pooled over all target tiles.",
        f"Checkpoint {rule}.",
        f"n = {', '.join(map(str, seeds))} seed(s)." if seeds else "",
        *_of_statistics(layout, lines),
        f"Params: trainable, without the head, which has {_span(heads)}." if heads else "",
        "Bold: best of its group." if any(_comparable(column) for column in layout.columns) else "",
        f"Gaps: {', '.join(named)}." if named else "",
        f"Protocol version {records[0].inputs['protocol_version'] if records else Protocol.VERSION};",
        f"commit {', '.join(commits) or 'none'}.",
        audit_text(records) if records else "",
    ]
    return " ".join(filter(None, parts))


def _of_statistics(layout: Layout, lines: Sequence[Line]) -> list[str]:
    """What brackets, averages, differences and the gap mean, where they are shown."""
    shown = [
        (column, entry)
        for line in lines
        for column, entry in zip(layout.columns, line.entries, strict=True)
        if entry.value is not None
    ]
    bracketed = [column for column, entry in shown if _bracketed(column, entry)]
    means, counts = any(column.average for column, _ in shown), _seed_counts(layout, lines)
    tasks = "; those of an average are about its own columns" if any(column.average for column in bracketed) else ""
    gap = any(column.average and column.metric == "gap" for column in layout.columns)
    return [
        f"Brackets: 95 % intervals over target scenes and seeds{tasks}." if bracketed else "",
        "Averages are over the seeds that all their entries have." if means and len(counts) > 1 else "",
        _PAIRED if any(entry.difference for _, entry in shown) else "",
        "Gap: what choosing the checkpoint on the target would add, mean over the row." if gap else "",
    ]


def _span(counts: Sequence[int]) -> str:
    low, high = (f"{count / 1e6:.2f}" for count in (counts[0], counts[-1]))
    return f"{low} M" if low == high else f"{low} to {high} M"
