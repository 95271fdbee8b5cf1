"""Where a scale's records and tables are."""

from __future__ import annotations

from pathlib import Path

from harness.lookup import find_scale
from harness.records import RecordStore

REPORT = "report.html"
"""The page that `report` writes beside a scale's records, unless told otherwise."""


def scale_folder(results: Path, scale: str) -> Path:
    """Where a scale's records and tables are."""
    return results / find_scale(scale).name


def existing_records(results: Path, scale: str) -> RecordStore | None:
    """The records of a scale, or None if nothing was ever run."""
    folder = scale_folder(results, scale) / "records"
    return RecordStore(folder) if folder.is_dir() else None


def whole_records(results: Path, scale: str) -> RecordStore:
    """The records of a scale; `ValueError` if nothing was ever run."""
    store = existing_records(results, scale)
    if store is None:
        raise ValueError(f"no records in {scale_folder(results, scale)}: run a suite first, or give --results DIR")
    return store
