"""The tables that MLflow shows: those of tasks, and those of each suite as they lie in its folder.

No record tells which request a suite's tables were built for (a suite file, settings, methods with a row before they
ran), so nothing here builds them again: what the last run or `tables --suite NAME` wrote is shown.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.folders import REPORT
from harness.markdown import from_markdown
from harness.tables import ResultTable

log = logging.getLogger(__name__)

SUFFIXES = (".md", ".tex", ".csv")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What one run of MLflow shows.

    Args:
        suite: whose tables; empty for those of tasks.
        tables: what a reader sees, by the table's name.
        files: each table as Markdown, LaTeX and CSV.
        pages: what stands beside them: the report, where there is one.
    """

    suite: str = ""
    tables: Mapping[str, pd.DataFrame]
    files: Sequence[Path]
    pages: Sequence[Path] = ()

    def stamp(self, version: int) -> str:
        """The contents in short; the version is that of how runs show them."""
        contents = [file.name.encode() + file.read_bytes() for file in (*self.files, *self.pages)]
        return hashlib.sha256(b"".join([b"%d" % version, *contents])).hexdigest()[:16]


def shown_tables(folder: Path, tables: Sequence[ResultTable], paths: Sequence[Path]) -> list[Shown]:
    """What there is to show: first the tables of tasks, then those of every suite that has a folder.

    Args:
        folder: the results folder of a scale.
        tables: of tasks, just built.
        paths: their Markdown files; the others lie beside them.
    """
    report = folder / REPORT
    of_tasks = Shown(
        tables={table.name: table.display for table in tables},
        files=_with_others(paths),
        pages=[report] if report.is_file() else [],
    )
    return [of_tasks, *(_of_suite(name, found) for name, found in suite_tables(folder).items())]


def suite_tables(folder: Path) -> dict[str, list[Path]]:
    """The Markdown files of whole tables, by suite.

    Args:
        folder: the results folder of a scale.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((folder / "tables").glob("*/*.md")):
        if all(file.is_file() for file in _with_others([path])):
            found.setdefault(path.parent.name, []).append(path)
    return found


def _of_suite(name: str, paths: Sequence[Path]) -> Shown:
    tables = {}
    for path in paths:
        try:
            tables[path.stem] = from_markdown(path.read_text(encoding="utf-8"))
        except ValueError as error:
            log.warning("%s cannot be read (%s): MLflow shows it as a file alone", path, error)
    return Shown(suite=name, tables=tables, files=_with_others(paths))


def _with_others(paths: Sequence[Path]) -> list[Path]:
    return [path.with_suffix(suffix) for path in paths for suffix in SUFFIXES]
