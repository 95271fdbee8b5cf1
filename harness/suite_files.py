"""Suites by name or from a user's file, whose names are looked up before anything is planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.catalogue import TASKS
from benchmarks.suites import SUITES, Cell, Suite
from harness.backbone_names import find_backbone
from harness.lookup import find, find_method
from harness.sources import import_source
from harness.trial import MethodRef

SUFFIXES = (".yaml", ".yml", ".py")


def find_suite(name: str) -> tuple[Suite, list[MethodRef]]:
    """A suite by name, or of a file `path.yaml` or `path.py` (its `SUITE`); and the methods from outside it brings.

    Raises:
        ValueError: unknown; or the file is missing or wrong, or names something unknown.
    """
    if not name.endswith(SUFFIXES):
        if "/" in name:
            raise ValueError(f"suite file {name}: write it as YAML or Python, with a name that ends in {SUFFIXES[0]}")
        return find("suite", name, SUITES), []
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"suite file {path} does not exist: give --suite NAME (see `list suites`) or the file's path")
    suite = _of_python(path) if path.suffix == ".py" else _of_yaml(path)
    if suite.name in SUITES:
        raise ValueError(f"suite file {path}: there is a suite {suite.name!r} already; give yours another name")
    try:
        return _looked_up(suite, path)
    except ValueError as error:
        raise ValueError(f"suite file {path}: {error}") from error


def _of_yaml(path: Path) -> Suite:
    from benchmarks.suites.user import read_suite  # pydantic's models cost time to build, and only files need them

    return read_suite(path)


def _of_python(path: Path) -> Suite:
    module = import_source(str(path.resolve()), kind="suite")
    suite = getattr(module, "SUITE", None)
    if not isinstance(suite, Suite):
        raise ValueError(
            f"suite file {path}: write SUITE = Suite(...), with `from benchmarks.suites import Cell, Suite`"
        )
    if not suite.cells:
        raise ValueError(f"suite file {path}: its SUITE has no cells")
    return suite


def _looked_up(suite: Suite, path: Path) -> tuple[Suite, list[MethodRef]]:
    """The suite with its names looked up (`dinov3` for `dinov3_l`, outside methods by theirs), and those methods."""
    outside: dict[str, MethodRef] = {}
    cells = []
    for cell in suite.cells:
        named = _named(cell, path)
        if cell.task != "*":
            find("task", cell.task, TASKS)
        if cell.backbone != "*":
            named = replace(named, backbone=find_backbone(cell.backbone).name)
        if cell.method != "*":
            method = find_method(named.method)
            method.options_class.make(dict(cell.options))  # an unknown option is a mistake of this file
            named = replace(named, method=method.name)
            if method.source_sha256:
                outside[method.name] = method
        elif cell.options:
            raise ValueError("a cell with options needs a method: every method has its own")
        cells.append(named)
    return replace(suite, cells=tuple(cells)), list(outside.values())


def _named(cell: Cell, path: Path) -> Cell:
    """A method file is looked for beside the suite file."""
    file, colon, cls = cell.method.rpartition(":")
    beside = path.parent / file
    return replace(cell, method=f"{beside}:{cls}") if colon and file.endswith(".py") and beside.is_file() else cell
