"""Whatever MLflow suffers: one warning, nothing lost, and nobody waits."""

from __future__ import annotations

import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from harness import mlflow_view, tracking
from harness.records import Record
from harness.tracking import Tracker, ui_command
from tests.conftest import run_process
from tests.tracking.view import client, experiment, run_ids, runs, wait_for, write


def test_a_database_deleted_in_the_middle(folder: Path, records: list[Record], warned: Callable[[], str]) -> None:
    with Tracker(folder, "test") as tracker:
        tracker.record(records[0])
        wait_for(lambda: (folder / "mlartifacts").exists() and [r.info.status for r in runs(folder)] == ["FINISHED"])
        (folder / "mlflow.db").unlink()
        for record in records[1:]:
            tracker.record(record)
    message = warned()
    assert "(it was deleted meanwhile)" in message
    assert str(folder / "mlflow.db") in message
    assert not (folder / "mlflow.db").exists()
    write(folder, records)
    assert len(run_ids(folder)) == len(records)


def test_a_corrupt_database(folder: Path, records: list[Record], warned: Callable[[], str]) -> None:
    (folder / "mlflow.db").write_bytes(b"no database" * 1000)
    with Tracker(folder, "test") as tracker:
        tracker.record(records[0])
        tracker.record(records[1])
    assert "file is not a database" in warned()
    write(folder, records)
    assert len(run_ids(folder)) == len(records)
    assert (folder / "mlflow.db.corrupt").read_bytes() == b"no database" * 1000


def test_a_locked_database(
    folder: Path, records: list[Record], warned: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_view, "BUSY", 0.1)
    with closing(sqlite3.connect(folder / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with Tracker(folder, "test") as tracker:
            tracker.record(records[0])
        assert "database is locked" in warned()
        with pytest.raises(ValueError, match=r"mlflow\.db cannot be written \(database is locked\): end the program"):
            write(folder, records)
    write(folder, records)


@pytest.mark.slow
def test_a_database_locked_in_the_middle(folder: Path, records: list[Record], warned: Callable[[], str]) -> None:
    with Tracker(folder, "test") as tracker:
        tracker.record(records[0])
        wait_for(lambda: (folder / "mlartifacts").exists() and [r.info.status for r in runs(folder)] == ["FINISHED"])
        other = sqlite3.connect(folder / "mlflow.db")
        other.execute("BEGIN EXCLUSIVE")
        tracker.record(records[1])
        tracker.record(records[2])
    other.close()
    assert "database is locked" in warned()


def test_a_database_that_may_not_be_written(
    folder: Path, records: list[Record], warned: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)  # MLflow takes file: for a folder's name, and makes it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{folder}/mlflow.db?mode=ro&uri=true")
    with Tracker(folder, "test") as tracker:
        tracker.record(records[0])
    assert "readonly" in warned()
    with pytest.raises(ValueError, match=r"\(attempt to write a readonly database\): check it, or unset MLFLOW_TRACK"):
        write(folder, records)


def test_a_server_that_is_not_there(
    folder: Path, records: list[Record], warned: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free.getsockname()[1]}")
        with Tracker(folder, "test") as tracker:
            tracker.record(records[0])
    assert "http://me:***@127.0.0.1" in warned()
    assert "refused" in warned()


def test_a_server_that_hangs_keeps_nobody(
    folder: Path, records: list[Record], warned: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.3)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with Tracker(folder, "test") as tracker:
            tracker.record(records[0])
        assert time.monotonic() - start < 1.5
        wait_for(lambda: not tracker._thread.is_alive())
    assert "no answer" in warned()


def test_a_deleted_experiment_comes_back(folder: Path, records: list[Record]) -> None:
    write(folder, records[:1])
    client(folder).delete_experiment(experiment(folder).experiment_id)
    write(folder, records)
    assert len(run_ids(folder)) == len(records)


def test_the_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/two words/mlflow.db"
    assert ui_command(tmp_path / "two words") == f"{sys.executable} -m mlflow ui --backend-store-uri '{uri}'"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert ui_command(tmp_path) == "open http://tracking:5000 in a browser"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/db")
    assert ui_command(tmp_path) == f'{sys.executable} -m mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, harness.tracking; print({'mlflow', 'pandas', 'torch', 'sqlalchemy'} & set(sys.modules))"
    assert run_process(code=code).out == "set()\n"
