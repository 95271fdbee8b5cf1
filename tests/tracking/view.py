"""Reads and writes the MLflow view of a results folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run

from harness.records import Record
from harness.status import Status
from harness.tables import ResultTable, build_tables, write_tables
from harness.tracking import rebuild, store_uri

Tables = tuple[list[ResultTable], list[Path]]


def client(folder: Path) -> MlflowClient:
    return MlflowClient(store_uri(folder))


def experiment(folder: Path) -> Experiment:
    found = client(folder).get_experiment_by_name("dgss-bench/test")
    assert found is not None
    return found


def runs(folder: Path, where: str = "") -> list[Run]:
    return list(client(folder).search_runs([experiment(folder).experiment_id], where))


def run_ids(folder: Path) -> dict[str, str]:
    """Run id by trial key, or by name for tables; fails if one is there twice."""
    found = [(run.data.tags.get("trial_key", str(run.info.run_name)), run.info.run_id) for run in runs(folder)]
    assert len(dict(found)) == len(found), found
    return dict(found)


def write(folder: Path, records: list[Record], tables: Tables = ([], [])) -> None:
    rebuild(folder, "test", records, *tables, on_record=lambda: None)


def tables_of(records: list[Record], folder: Path) -> Tables:
    tables = build_tables(records, "test")
    return tables, write_tables(tables, folder / "tables")


def failed(record: Record, key: str) -> Record:
    result = {name: record.result[name] for name in ("inputs", "labels")}
    error = {"type": "RuntimeError", "message": "broken on purpose", "traceback": "Traceback: all of it"}
    return replace(record, key=key, status=Status.FAILED, result=result, error=error, arrays={})


def artifact(folder: Path, run: Run, name: str) -> bytes:
    return Path(client(folder).download_artifacts(run.info.run_id, name)).read_bytes()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.02)
