"""Published numbers for the entries of a table, and the footnotes of what contradicts in them."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import published
from benchmarks.layouts import Column, Layout, Row

COMPARED = ("miou", "macc", "parameters")
"""The metrics of which there are published numbers."""


class Printed:
    """The published numbers of one layout."""

    def __init__(self, layout: Layout) -> None:
        """Load and check them."""
        self.layout = layout
        self._known = published.lookup(layout, published.load())
        self._notes = published.load_footnotes()

    def number(self, row: Row, column: Column) -> tuple[float | None, str]:
        """The published number of an entry, or None, and the codes of its contradictions, by comma."""
        if column.metric not in COMPARED or not row.printed:
            return None, ""
        if column.average:
            place = row.place
            backbone = published.PRINTED_NAMES.get(place.backbone, place.backbone)
            number = self._known.get((published.AVERAGE_TASK, backbone, place.method, row.printed, column.metric))
        else:
            number = published.find(self.layout, row, column, self._known)
        if number is None:
            return None, ""
        if column.metric == "parameters":
            return float(number["params_m"]), ""  # the codes are about scores
        return float(number["value"]), str(number["flag"]).replace(" ", ",")

    def shows(self, column: Column) -> bool:
        """Whether any row has a published number in a column."""
        return any(self.number(row, column)[0] is not None for row in self.layout.rows)

    def footnotes(self, codes: Iterable[str]) -> str:
        """What the codes say, in their order."""
        used = sorted({code for listed in codes for code in listed.split(",") if code})
        return " ".join(f"({code}) {self._notes[code]}." for code in used)
