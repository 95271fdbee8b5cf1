"""A suite's cells with their names filled in: wildcards, the user's filters, and what the user adds to the suite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeVar

from benchmarks.suites import Cell, Suite
from benchmarks.tasks import Task
from harness.trial import MethodRef
from harness.zoo import BackboneSpec

T = TypeVar("T")
Filled = tuple[Cell, Task, str, MethodRef]
"""A cell, and its task, backbone and method looked up."""


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the names in cells may stand for.

    Args:
        tasks: those that the filters keep.
        backbones: likewise.
        methods: likewise.
        contenders: those of the methods that a wildcard stands for.
        given_tasks: named by the user; empty if none was.
        given_backbones: likewise.
        given_methods: likewise.
    """

    tasks: Mapping[str, Task]
    backbones: Mapping[str, BackboneSpec]
    methods: Mapping[str, MethodRef]
    contenders: Mapping[str, MethodRef]
    given_tasks: Sequence[str] = ()
    given_backbones: Sequence[str] = ()
    given_methods: Sequence[str] = ()


def fill(suite: Suite, names: Names, build: str) -> list[Filled]:
    """Every cell that the suite has at a size of encoders, with wildcards filled in and filters applied.

    Tasks, backbones and methods that the user names and the suite does not have take part in it, a method in the cells
    for newcomers.

    Raises:
        ValueError: a method is named for which the suite has no place.
    """
    own = [cell for cell in suite.cells if cell.at in ("", build)]
    cells = [*own, *_asked_for(own, names)]
    found = _filled(cells, names)
    present = {method.name for *_, method in found}
    for method in names.given_methods:
        if method not in present:
            newcomers = [cell for cell in cells if cell.newcomers]
            if not newcomers:
                raise ValueError(_no_place(suite, method))
            # under filters that leave none of these, what the user names stands where any other method does
            found += _filled(_places(newcomers, method), names) or _filled(_places(cells, method), names)
    return found


def _filled(cells: Sequence[Cell], names: Names) -> list[Filled]:
    return [
        (cell, task, backbone, method)
        for cell in cells
        for task in _match(cell.task, names.tasks)
        for backbone in _match(cell.backbone, {name: name for name in names.backbones})
        for method in _match(cell.method, names.contenders if cell.method == "*" else names.methods)
    ]


def _places(cells: Sequence[Cell], method: str) -> list[Cell]:
    """What a method gets that the suite does not have, or not under these filters."""
    places: list[Cell] = []
    for cell in cells:
        place = replace(cell, method=method, options={}, seeds=0)
        if place not in places:
            places.append(place)
    return places


def _no_place(suite: Suite, method: str) -> str:
    held = ", ".join(dict.fromkeys(cell.method for cell in suite.cells))
    return f"--method {method}: suite {suite.name} is about {held} alone and has no place for it; take another suite"


def _asked_for(cells: Sequence[Cell], names: Names) -> Iterator[Cell]:
    """Cells for the tasks and backbones that the user names and the suite does not have, together or at all."""
    seeds = min((cell.seeds for cell in cells), default=0)
    for task, backbone in product(names.given_tasks or [""], names.given_backbones or [""]):
        has = any(
            (not task or cell.task in ("*", task)) and (not backbone or cell.backbone in ("*", backbone))
            for cell in cells
        )
        for cell in () if has else cells:
            yield replace(cell, task=task or cell.task, backbone=backbone or cell.backbone, seeds=seeds)


def _match(name: str, known: Mapping[str, T]) -> list[T]:
    if name == "*":
        return list(known.values())
    return [known[name]] if name in known else []
