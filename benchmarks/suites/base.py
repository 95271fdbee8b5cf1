"""What a suite is: cells, run under one protocol, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.layouts import Column, Grid, Layout, Row, place_of


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Task x backbone x method, the method's options and what its protocol changes, for controls.

    Args:
        task: name of the task; `*` stands for every known one, here and below.
        backbone: name of the backbone.
        method: name of the method.
        options: the method's options.
        protocol: fields of the protocol.
        seeds: number of seeds; 0 for the suite's.
        severity: how far embedded targets lie from the source; None leaves it as asked for.
        at: the one size of encoders (`mini` or `paper`) at which the suite has it; empty for both.
        newcomers: a method that the suite does not have takes part here, too.
    """

    task: str = "*"
    backbone: str = "*"
    method: str = "*"
    options: Mapping[str, object] = field(default_factory=dict)
    protocol: Mapping[str, object] = field(default_factory=dict)
    seeds: int = 0
    severity: float | None = None
    at: str = ""
    newcomers: bool = True


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Cells run under one protocol.

    Args:
        seeds: default number of seeds.
        protocol: what the suite changes of its scale's protocol, for all cells.
        mini: what it changes besides at the mini scale, to stay affordable there.
        layouts: its tables; without any, the tables of each task show it.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    seeds: int
    protocol: Mapping[str, object] = field(default_factory=dict)
    mini: Mapping[str, object] = field(default_factory=dict)
    layouts: tuple[Layout | Grid, ...] = ()


def cells_of(layouts: Iterable[Layout]) -> tuple[Cell, ...]:
    """The cells behind tables, each once, in the order of rows and columns; what is published only has none."""
    cells: list[Cell] = []
    for layout in layouts:
        for row in layout.rows:
            for column in layout.columns:
                cell = cell_at(row, column)
                if cell and cell not in cells:
                    cells.append(cell)
    return tuple(cells)


def cell_at(row: Row, column: Column) -> Cell | None:
    """The cell of the trials behind an entry; None where no trial stands behind it alone."""
    place = place_of(row, column)
    # a column that says only what is shown (parameters, times) adds no trial to those of the others
    if place is None or row.published_only or not (place.task and place.backbone and place.method):
        return None
    return Cell(
        task=place.task,
        backbone=place.backbone,
        method=place.method,
        options=place.options,
        protocol=place.protocol,
        seeds=row.seeds,
        severity=place.severity,
        at=row.at or column.at,
        newcomers=row.newcomers,
    )
