"""A suite's tables with their rows known: wildcards filled in, and a row for every method that came from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from benchmarks.layouts import METRICS, Column, Grid, Layout, Place, Row, at_scale
from benchmarks.layouts_paper import BACKBONES as BACKBONE_TITLES
from benchmarks.suites import cell_at
from harness.backbone_names import find_backbone
from harness.cells import Filled
from harness.plan import Expansion, Request
from harness.shelf import Shelf


@dataclass(frozen=True, kw_only=True)
class _Value:
    """One value of an axis: its name, its heading, and what it says of a place."""

    name: str
    title: str
    place: Place


def layouts_of(request: Request, expansion: Expansion, shelf: Shelf) -> list[Layout]:
    """The tables of a request's suite at its scale; rows that only newcomers have come last in their groups.

    Args:
        request: what was asked for; its filters leave out no row.
        expansion: the same with its names looked up.
        shelf: the records, which say what methods from outside there are.
    """
    layouts = []
    for form in expansion.suite.layouts:
        layout = _of_grid(form, _cells(request, expansion)) if isinstance(form, Grid) else form
        reduced = at_scale(layout, expansion.scale.build)
        if expansion.scale.build == "mini":
            reduced = _without_sizes(reduced)
        layouts.append(_with_newcomers(reduced, expansion, shelf))
    return layouts


def _without_sizes(layout: Layout) -> Layout:
    """Encoders by their names alone: what stands at the mini scale under `CLIP-L` is no ViT-L."""

    def short(text: str) -> str:
        return text.rpartition("-")[0] if text in BACKBONE_TITLES.values() else text

    return replace(
        layout,
        rows=tuple(replace(row, group=short(row.group), label=short(row.label)) for row in layout.rows),
        columns=tuple(replace(c, group=short(c.group), label=short(c.label)) for c in layout.columns),
    )


def _cells(request: Request, expansion: Expansion) -> list[Filled]:
    """All cells of the suite, and what the request adds to them."""
    whole = Expansion(replace(request, tasks=(), backbones=(), methods=(), settings=()))
    return [*whole.cells(), *expansion.cells()]


def _of_grid(grid: Grid, cells: Iterable[Filled]) -> Layout:
    (third,) = {"method", "backbone", "task"} - {grid.rows, grid.columns}
    held: dict[tuple[str, str], dict[str, None]] = {}
    values: dict[str, dict[str, _Value]] = {"method": {}, "backbone": {}, "task": {}}
    for filled in cells:
        found = _values(filled)
        for axis, value in found.items():
            values[axis].setdefault(value.name, value)
        held.setdefault((found[third].name, found[grid.rows].name), {})[found[grid.columns].name] = None
    rows = [
        Row(
            group=values[third][group].title,
            label=values[grid.rows][name].title,
            place=values[third][group].place.beside(values[grid.rows][name].place),
            only=tuple(columns),
            newcomers=grid.columns != "method",
        )
        for (group, name), columns in held.items()
    ]
    return Layout(
        name=grid.name,
        title=grid.title,
        rows=_sorted(rows, [value.title for value in values[third].values()]),
        columns=_columns(grid, values[grid.columns]),
        corner=grid.rows.capitalize(),
    )


def _sorted(rows: Iterable[Row], groups: list[str]) -> tuple[Row, ...]:
    """Groups as they first came, and in them a method's variants beside it."""
    listed = list(rows)
    methods = list(dict.fromkeys(row.place.method for row in listed))
    return tuple(sorted(listed, key=lambda row: (groups.index(row.group), methods.index(row.place.method))))


def _columns(grid: Grid, values: Mapping[str, _Value]) -> tuple[Column, ...]:
    alone = len(grid.metrics) == 1
    columns = [
        Column(
            group="" if alone else value.title,
            label=value.title if alone else METRICS[metric],
            place=value.place,
            name=value.name,
            metric=metric,
        )
        for value in values.values()
        for metric in grid.metrics
    ]
    if grid.average and len(values) > 1:
        means = [metric for metric in grid.metrics if metric in ("miou", "macc", "source_miou")]
        columns += [
            Column(
                group="" if alone else "Avg.",
                label="Avg." if alone else METRICS[metric],
                metric=metric,
                average=True,
            )
            for metric in means
        ]
    return tuple(columns)


def _values(filled: Filled) -> dict[str, _Value]:
    cell, task, backbone, method = filled
    changes = {**cell.options, **cell.protocol}
    if cell.severity is not None:
        changes["severity"] = cell.severity
    said = ", ".join(f"{name}={value}" for name, value in changes.items())
    title = method.options_class.title + (f" ({said})" if said else "")
    place = Place(method=method.name, options=cell.options, protocol=cell.protocol, severity=cell.severity)
    return {
        "task": _Value(name=task.name, title=task.name, place=Place(task=task.name)),
        "backbone": _Value(name=backbone, title=find_backbone(backbone).title, place=Place(backbone=backbone)),
        "method": _Value(name=f"{method.name} {said}", title=title, place=place),
    }


def _with_newcomers(layout: Layout, expansion: Expansion, shelf: Shelf) -> Layout:
    """The layout with a row for each method that it lacks: those that the user names, and outsiders with records."""
    named = {name: method.options_class.title for name, method in expansion.given_methods.items()}
    groups: dict[str, list[Row]] = {}
    for row in layout.rows:
        groups.setdefault(row.group, []).append(row)
    for name, title in {**shelf.outsiders(), **named}.items():
        added = {group: _newcomer(own, name, title) for group, own in groups.items()}
        if name in named or any(_has_record(one, layout, expansion, shelf) for one in added.values() if one):
            for group, row_of_it in added.items():
                groups[group] += [row_of_it] if row_of_it else []
    return replace(layout, rows=tuple(row for own in groups.values() for row in own))


def _newcomer(group: list[Row], name: str, title: str) -> Row | None:
    """A method's row in a group, or None where it has one or where none is for newcomers."""
    template = next((row for row in group if row.newcomers), None)
    if template is None or name in {row.place.method for row in group}:
        return None
    place = replace(template.place, method=name, options={})
    return replace(template, label=title, place=place, printed="", published_only=False)


def _has_record(row: Row, layout: Layout, expansion: Expansion, shelf: Shelf) -> bool:
    cells = (cell_at(row, column) for column in layout.columns)
    found = (shelf.find(cell, expansion.known.get(cell.method)) for cell in cells if cell)
    return any(entry.done or entry.failed for entry in found)
