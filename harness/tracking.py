"""MLflow as a view of the records, written by the driver alone.

Nothing reads the view back: if it cannot be written the records are still complete, and `python run.py track` makes it
equal to them later. What a run holds stands in harness/mlflow_view.py.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Self

from harness.mlflow_view import Fault, Place, View
from harness.records import Record

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.tables import ResultTable

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds without one record or table written after which the program ends all the same."""

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # one connection per call: a pooled one would go on writing into a database file that was deleted
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    # by default a server that does not answer is asked 7 times, for 120 s each
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def store_uri(folder: Path) -> str:
    """Where MLflow keeps the view of a results folder: `MLFLOW_TRACKING_URI`, or a database in the folder."""
    return Place(folder).uri


def ui_command(folder: Path) -> str:
    """How to look at the view: a command to paste, or for a server its address."""
    place = Place(folder)
    if place.uri.startswith(("http:", "https:")):
        return f"open {place} in a browser"
    # a password does not belong on the screen
    argument = shlex.quote(place.uri) if str(place) == place.uri else '"$MLFLOW_TRACKING_URI"'
    # by this Python: its folder need not be on the PATH
    return f"{shlex.quote(sys.executable)} -m mlflow ui --backend-store-uri {argument}"


class Tracker:
    """Writes records and tables to MLflow in a thread of its own, so that nobody waits; a context manager.

    If MLflow cannot be written, it says so once and ignores everything further.
    """

    def __init__(self, folder: Path, scale: str) -> None:
        """Prepare a tracker.

        Args:
            folder: the results folder of the scale.
            scale: its name.
        """
        self._place, self._scale = Place(folder), scale
        self._jobs: SimpleQueue[Callable[[View], None] | None] = SimpleQueue()
        # a daemon: whoever interrupts the wait at the end is not kept
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._warned = False

    def __enter__(self) -> Self:
        """Start the thread."""
        _settle()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until everything is written, unless MLflow hangs."""
        self._jobs.put(None)
        left = None
        while self._thread.is_alive():
            if left == self._jobs.qsize():
                self._warn(f"no answer for {PATIENCE:.0f} s")
                return
            left = self._jobs.qsize()
            self._thread.join(PATIENCE)

    def record(self, record: Record) -> None:
        """Have a record written, done or failed; returns at once."""
        self._put(lambda view: view.write_record(record))

    def tables(self, tables: Sequence[ResultTable], paths: Sequence[Path]) -> None:
        """Have the tables of tasks written, with the files beside each Markdown path; returns at once.

        Those of suites are taken from their folders.
        """
        self._put(lambda view: view.write_tables(tables, paths))

    def _put(self, job: Callable[[View], None]) -> None:
        if self._thread.is_alive():
            self._jobs.put(job)

    def _work(self) -> None:
        try:
            view = View(self._place, self._scale)
            while job := self._jobs.get():
                job(view)
        except Fault as fault:
            self._warn(str(fault))

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "MLflow store %s cannot be written (%s): the records are complete, and `python run.py track` writes "
                "the view later",
                self._place,
                reason,
            )


def rebuild(
    folder: Path,
    scale: str,
    records: Iterable[Record],
    tables: Sequence[ResultTable],
    paths: Sequence[Path],
    on_record: Callable[[], None],
) -> None:
    """Make the view equal to the records; what is up to date stays as it is.

    Args:
        folder: the results folder of the scale.
        scale: its name.
        records: all its records.
        tables: all its tables of tasks; those of suites are taken from their folders.
        paths: the tables' Markdown files; the others lie beside them.
        on_record: called after each record.

    Raises:
        ValueError: MLflow cannot be written.
    """
    _settle()
    place = Place(folder)
    keys = set()
    try:
        view = View(place, scale, repair=True)
        for record in records:
            view.write_record(record)
            keys.add(record.key)
            on_record()
        view.write_tables(tables, paths)
        view.prune(keys)
    except Fault as fault:
        remedy = "check it, or unset MLFLOW_TRACKING_URI"
        if not place.shared:
            remedy = f"end the program that holds it, make room, or delete {place.database}; then run `track` again"
        raise ValueError(f"MLflow store {place} cannot be written ({fault}): {remedy}") from fault


def _settle() -> None:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
