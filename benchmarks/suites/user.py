"""A user's own suite in YAML: checked, and turned into a `Suite`. Names are looked up by who knows them."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmarks.layouts import METRICS, Grid
from benchmarks.suites.base import Cell, Suite

Axis = Literal["method", "backbone", "task"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CellFile(_Part):
    """Cells of a suite file: lists multiply.

    Args:
        task: name or names; left out, every task. The same for backbone and method (a name, or path/to/file.py:Class).
        options: the method's options.
        protocol: fields of the protocol.
        seeds: number of seeds; 0 for the suite's.
        severity: how far embedded targets lie from the source.
    """

    task: str | list[str] = "*"
    backbone: str | list[str] = "*"
    method: str | list[str] = "*"
    options: dict[str, Any] = {}
    protocol: dict[str, Any] = {}
    seeds: int = Field(default=0, ge=0)
    severity: float | None = Field(default=None, ge=0, le=1)

    def cells(self) -> list[Cell]:
        """Every combination of its names."""
        return [
            Cell(
                task=task,
                backbone=backbone,
                method=method,
                options=self.options,
                protocol=self.protocol,
                seeds=self.seeds,
                severity=self.severity,
            )
            for task, backbone, method in product(*map(_listed, (self.task, self.backbone, self.method)))
        ]


class TableFile(_Part):
    """The table of a suite file (see `benchmarks.layouts.Grid`)."""

    rows: Axis = "method"
    columns: Axis = "task"
    metrics: list[str] = ["miou"]
    average: bool = True

    @model_validator(mode="after")
    def _agrees(self) -> TableFile:
        if self.rows == self.columns:
            raise ValueError(f"rows and columns are both {self.rows}: choose two of method, backbone, task")
        for metric in self.metrics:
            if metric not in METRICS:
                raise ValueError(f"unknown metric {metric!r} (known: {', '.join(METRICS)})")
        return self


class SuiteFile(_Part):
    """A suite file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    seeds: int = Field(default=3, ge=1)
    protocol: dict[str, Any] = {}
    cells: list[CellFile] = Field(min_length=1)
    table: TableFile = TableFile()

    def suite(self) -> Suite:
        """The suite it describes."""
        table = Grid(
            name=self.name,
            title=self.title,
            rows=self.table.rows,
            columns=self.table.columns,
            metrics=tuple(self.table.metrics),
            average=self.table.average,
        )
        return Suite(
            name=self.name,
            title=self.title,
            cells=tuple(cell for part in self.cells for cell in part.cells()),
            seeds=self.seeds,
            protocol=self.protocol,
            layouts=(table,),
        )


def read_suite(path: Path) -> Suite:
    """The suite of a YAML file; its names are not looked up yet.

    Raises:
        ValueError: it is no YAML, or holds an unknown key or a value that does not fit; the message names the place.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"suite file {path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise ValueError(f"suite file {path}: write the keys {', '.join(SuiteFile.model_fields)} (docs/suites.md)")
    try:
        return SuiteFile.model_validate(body).suite()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise ValueError(f"suite file {path}: unknown key {place} (known: {_known(first['loc'])})") from None
        raise ValueError(f"suite file {path}: {place or 'it'}: {first['msg']}") from None


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _known(place: tuple[int | str, ...]) -> str:
    parts: dict[str, type[_Part]] = {"cells": CellFile, "table": TableFile}
    part = parts[str(place[0])] if len(place) > 1 else SuiteFile
    return ", ".join(part.model_fields)
