"""The numbers that papers print, tidy in `results/published`: loaded, checked, and set as the papers set them.

One row per number: table, suite, task, backbone, method, variant, trainable parameters in millions, metric, value in
percent (counts for `n_*`, millions for `params_*`), and the codes of the contradictions it takes part in
(`benchmarks.contradictions`). Sources: SpectralMoE's Tab. 1 to 7 and text, and a digest of CrossEarth-Gate.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.catalogue import TASKS
from benchmarks.layouts import Column, Layout, Row, place_of
from benchmarks.layouts_paper import BACKBONES, FOREIGN, METHODS

FOLDER = Path(__file__).parents[1] / "results" / "published"
COLUMNS = ("table", "suite", "task", "backbone", "method", "variant", "params_m", "metric", "value", "flag")
AVERAGE_TASK = "avg"
"""The task of a printed mean over the three multispectral tasks."""

PRINTED_NAMES = {name: name if name in FOREIGN else f"{name}_{'h' if name == 'sam' else 'l'}" for name in BACKBONES}
"""Our backbones by the names of their published sizes."""
_CASID = {f"casid_{domain}_avg" for domain in ("sub", "tem", "tms", "trf")} | {"casid_mean"}
_KNOWN: Mapping[str, frozenset[str]] = {
    "suite": frozenset({"hsi", "msi", "rgb", "casid_dg", "uda", "all"}),
    "task": frozenset({*TASKS, AVERAGE_TASK, *_CASID, "da_avg", "all"}),
    "backbone": frozenset({"", *PRINTED_NAMES.values(), *FOREIGN}),
    "method": frozenset({*METHODS, "dstc", "earth_adapter", "crossearth_gate"}),
}
_PERCENT = ("miou", "macc", "gain_printed", "margin_printed", "max_gain_miou")
_COUNTS = ("n_sota", "n_benchmarks", "n_casid", "n_disaster", "n_da")
_MILLIONS = ("params_m", "params_m_min", "params_m_max")
FLAGGED_VARIANTS = ("suspect_backbone", "unverified_backbone")
"""Variants of an ordinary entry that stands under a backbone it was hardly measured on."""


def load(folder: Path = FOLDER) -> pd.DataFrame:
    """All published numbers, checked; `file` says which file each comes from.

    Raises:
        ValueError: a file is missing or of another form, or a row names something unknown, or its value cannot be.
    """
    files = sorted(path for path in folder.glob("*.csv") if path.name != "footnotes.csv")
    if not files:
        raise ValueError(f"no published numbers in {folder}: restore its CSV files, which belong to the repository")
    return pd.concat([_load(path) for path in files], ignore_index=True)


def load_footnotes(folder: Path = FOLDER) -> dict[str, str]:
    """What each footnote code says, by code.

    Raises:
        ValueError: the file is missing.
    """
    path = folder / "footnotes.csv"
    if not path.is_file():
        raise ValueError(f"{path} is missing: restore it, it belongs to the repository")
    notes = pd.read_csv(path, dtype=str, keep_default_na=False)
    return dict(zip(notes["code"], notes["text"], strict=True))


def _load(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8", newline="") as file:  # pandas would take a row with one comma too many
        header, *rows = csv.reader(file)
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path}: columns {', '.join(header)}; write {', '.join(COLUMNS)}")
    for line, cells in enumerate(rows, start=2):
        if len(cells) != len(COLUMNS):
            raise ValueError(f"{path}, line {line}: {len(cells)} columns instead of {len(COLUMNS)}; mind the commas")
    numbers = pd.DataFrame(rows, columns=list(COLUMNS))
    for line, row in enumerate(numbers.to_dict("records"), start=2):
        _check(f"{path}, line {line}", row)
    place = [*COLUMNS[:6], "metric"]
    if numbers.duplicated(place).any():
        first = numbers[numbers.duplicated(place)].index[0]
        raise ValueError(f"{path}, line {first + 2}: a second number for the same place; keep one")
    numbers["value"] = numbers["value"].astype(float)
    numbers["params_m"] = pd.to_numeric(numbers["params_m"])
    return numbers.assign(file=path.stem)


def _check(where: str, row: Mapping[Any, str]) -> None:
    for column, known in _KNOWN.items():
        if row[column] not in known:
            raise ValueError(f"{where}: unknown {column} {row[column]!r} (known: {', '.join(sorted(known))})")
    metric = row["metric"]
    if metric not in (*_PERCENT, *_COUNTS, *_MILLIONS):
        raise ValueError(f"{where}: unknown metric {metric!r}")
    try:
        value, _ = float(row["value"]), float(row["params_m"] or 0)
    except ValueError:
        raise ValueError(f"{where}: value {row['value']!r}, params_m {row['params_m']!r}: write numbers") from None
    # a share instead of percent, or parameters instead of millions, would be a hundred or a million times off
    fits = 1 < value < 100 if metric in ("miou", "macc") else 0 <= value < 100
    if not fits:
        raise ValueError(f"{where}: {metric} {row['value']} is out of range: scores are in percent, params in millions")
    if task := TASKS.get(row["task"]):
        family = "rgb" if len(task.bands) == 3 else "msi" if len(task.bands) == 4 else "hsi"
        if row["suite"] != family:
            raise ValueError(f"{where}: task {row['task']} has {len(task.bands)} bands: its suite is {family}")


def rebuild(layout: Layout, numbers: pd.DataFrame) -> pd.DataFrame:
    """A table of the paper in its own layout: rows (group, label), columns (group, label); NaN where it has a dash.

    Averages are computed, not looked up; parameters are the ones it prints.

    Args:
        layout: one with published numbers.
        numbers: those of `load`.
    """
    known = lookup(layout, numbers)
    values = [[_value(layout, row, column, known) for column in layout.columns] for row in layout.rows]
    return pd.DataFrame(
        values,
        index=pd.MultiIndex.from_tuples([(row.group, row.label) for row in layout.rows]),
        columns=pd.MultiIndex.from_tuples([(column.group, column.label) for column in layout.columns]),
    )


Number = Mapping[str, Any]
Numbers = Mapping[tuple[str, ...], Number]


def lookup(layout: Layout, numbers: pd.DataFrame) -> Numbers:
    """A table's numbers by task, backbone, method, variant and metric."""
    own = numbers[numbers["table"] == layout.name]
    variants = own["variant"].replace(dict.fromkeys(FLAGGED_VARIANTS, "main"))
    places = zip(own["task"], own["backbone"], own["method"], variants, own["metric"], strict=True)
    return {place: number for place, number in zip(places, _plain(own), strict=True)}


def _plain(numbers: pd.DataFrame) -> list[Number]:
    return [{str(name): value for name, value in row.items()} for row in numbers.to_dict("records")]


def find(layout: Layout, row: Row, column: Column, known: Numbers) -> Number | None:
    """The published number of a cell, or None; for parameters, any number of its row.

    Args:
        layout: one with published numbers.
        row: one of its rows.
        column: one of its columns; no average.
        known: those of `lookup`.
    """
    if column.metric == "parameters":
        others = [other for other in layout.columns if not other.average and other.metric != "parameters"]
        found = (find(layout, row, other, known) for other in others)
        return next((number for number in found if number), None)
    place = place_of(row, column)
    if place is None:
        return None
    backbone = PRINTED_NAMES.get(place.backbone, place.backbone)
    return known.get((place.task, backbone, place.method, row.printed, column.metric))


def _value(layout: Layout, row: Row, column: Column, known: Numbers) -> float:
    if column.average:
        scores = [other for other in layout.columns if other.metric == column.metric and not other.average]
        return sum(_value(layout, row, score, known) for score in scores) / len(scores)
    number = find(layout, row, column, known)
    if number is None:
        return float("nan")
    return float(number["params_m" if column.metric == "parameters" else "value"])
