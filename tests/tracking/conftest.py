"""Records, a folder whose view was written once, and an empty one to change."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.records import Record, RecordStore
from harness.tables import ResultTable
from harness.tracking import Tracker
from tests.tracking.view import failed, tables_of


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def records(smoke_results: Path) -> list[Record]:
    """The smoke run's records and a failed one."""
    done = list(RecordStore(smoke_results / "test" / "records"))
    return [*done, failed(done[0], "f" * 16)]


@pytest.fixture(scope="module")
def tracked(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ResultTable]]:
    """A folder whose view a tracker wrote, and its tables. Not to be changed."""
    folder = tmp_path_factory.mktemp("tracked") / "with space" / "test"
    tables, paths = tables_of(records, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with Tracker(folder, "test") as tracker:
            for record in records:
                tracker.record(record)
            tracker.tables(tables, paths)
    return folder, tables


@pytest.fixture
def folder(tracked: tuple[Path, list[ResultTable]], tmp_path: Path) -> Path:
    """A results folder with an empty database, copied because making one takes seconds."""
    template = tracked[0].parent / "empty.db"
    if not template.exists():
        shutil.copy(tracked[0] / "mlflow.db", template)
        with closing(sqlite3.connect(template)) as database:
            for table in ("latest_metrics", "metrics", "params", "tags", "runs", "experiment_tags"):
                database.execute(f"DELETE FROM {table}")
            database.execute("DELETE FROM experiments WHERE name = 'dgss-bench/test'")
            database.commit()
    made = tmp_path / "results" / "test"
    made.mkdir(parents=True)
    shutil.copy(template, made / "mlflow.db")
    return made


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """The one warning there is; nothing else may be on the screen."""

    def message() -> str:
        assert "Traceback" not in capfd.readouterr().err
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "the records are complete" in record.getMessage()
        assert "python run.py track" in record.getMessage()
        return record.getMessage()

    with caplog.at_level(logging.WARNING):
        yield message
