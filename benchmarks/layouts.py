"""What a table looks like: rows and columns, each saying one part of what a cell shows. Free of torch and pandas.

The layouts of the paper's tables are in `benchmarks.layouts_paper`, ours in `benchmarks.layouts_ours`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BASELINE = "frozen"
"""The method without an adapter: what an encoder alone is worth, so that its rows are of encoders, not of methods."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a row or a column says of the trials behind its cells; what is empty, the other one says.

    Args:
        task: name of the task.
        backbone: name of the backbone.
        method: name of the method.
        options: the method's options.
        protocol: controls, fields of the protocol.
        severity: how far embedded targets lie from the source; None leaves it as asked for.
    """

    task: str = ""
    backbone: str = ""
    method: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    protocol: Mapping[str, object] = field(default_factory=dict)
    severity: float | None = None

    def beside(self, other: Place) -> Place:
        """Both together; where both speak, `other` wins."""
        return Place(
            task=other.task or self.task,
            backbone=other.backbone or self.backbone,
            method=other.method or self.method,
            options={**self.options, **other.options},
            protocol={**self.protocol, **other.protocol},
            severity=self.severity if other.severity is None else other.severity,
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row.

    Args:
        group: rows of one group stand together; the best of each column is marked within it.
        label: what stands in front.
        place: what the row says.
        only: names of the columns it has, where that is not all of them; the other cells are a dash.
        elsewhere: the backbone it takes for a task instead of its own.
        printed: the variant by which the published table calls it, and its own method and backbone if nobody here
            implements them (`published only`): no trial stands behind it.
        at: the one scale that has it; empty for every scale.
        seeds: number of seeds of its trials; 0 for the suite's.
        newcomers: a method that the suite does not have gets a row in this row's group.
    """

    group: str = ""
    label: str
    place: Place = Place()
    only: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    printed: str = "main"
    published_only: bool = False
    at: str = ""
    seeds: int = 0
    newcomers: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        group: heading over several columns.
        label: its own heading.
        place: what the column says.
        name: what rows call it that have only some columns; empty for its task's name.
        metric: `miou`, `macc`, `source_miou`, `parameters` (trainable, without the head, in millions), `seconds` of
            training, `step_ms` (median), `memory` (peak of the process, in MB), or `gap` (what choosing the checkpoint
            on the target would add to mIoU).
        selection: the rule that chose the checkpoint; empty for the table's.
        average: the mean over all other columns of its metric, over the seeds that all have; it has no place.
        minus: label of the column whose value is taken away: a difference of two columns of the same group, paired over
            the seeds that both have and their scenes, which must be the same.
        at: the one scale that has it; empty for every scale.
    """

    group: str = ""
    label: str
    place: Place = Place()
    name: str = ""
    metric: str = "miou"
    selection: str = ""
    average: bool = False
    minus: str = ""
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A table without its numbers.

    Args:
        name: file name without suffix; of a table of the paper also the name of its published numbers.
        title: what it compares.
        rows: in order; rows of a group stand together.
        columns: in order.
        corner: heading of the rows' labels.
        published: there are published numbers of it.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    corner: str = "Method"
    published: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table made from a suite's cells: one of task, backbone and method down, one across, the third as groups.

    A method stands with its options and controls. Names are known only where wildcards are filled in, hence no rows.

    Args:
        name: file name without suffix.
        title: what it compares.
        rows: what its rows are: `method`, `backbone` or `task`.
        columns: what its columns are, another of the three.
        metrics: of each column (see `Column`).
        average: a last column with the mean over the others.
    """

    name: str
    title: str
    rows: str = "method"
    columns: str = "task"
    metrics: tuple[str, ...] = ("miou",)
    average: bool = True


AXES = ("method", "backbone", "task")
METRICS = {
    "miou": "mIoU",
    "macc": "mAcc",
    "source_miou": "Source mIoU",
    "parameters": "Params (M)",
    "seconds": "Train (s)",
    "step_ms": "Step (ms)",
    "memory": "Memory (MB)",
    "gap": "Gap",
}
"""What a column may show, and its heading."""


def place_of(row: Row, column: Column) -> Place | None:
    """What the cell of a row and a column shows, or None where it is a dash: an average, or a task it does not have."""
    if column.average:
        return None
    place = row.place.beside(column.place)
    if place.task in row.elsewhere:
        place = place.beside(Place(backbone=row.elsewhere[place.task]))
    name = column.name or column.place.task
    return place if not (row.only and name) or name in row.only else None


def at_scale(layout: Layout, build: str) -> Layout:
    """The rows and columns that a scale's build (`mini` or `paper`) has."""
    return Layout(
        name=layout.name,
        title=layout.title,
        rows=tuple(row for row in layout.rows if row.at in ("", build)),
        columns=tuple(column for column in layout.columns if column.at in ("", build)),
        corner=layout.corner,
        published=layout.published,
    )
