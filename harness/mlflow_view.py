"""What MLflow shows of a results folder: one run per trial, one with the tables of tasks, one for each suite's."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.mlflow_record import VERSION, metrics_of, millis_of, name_of, params_of, stamp_of, tags_of
from harness.records import Record, replace_file
from harness.status import Status

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.shown_tables import Shown
    from harness.tables import ResultTable

BUSY = 20.0  # seconds to wait for a locked database; MLflow itself waits as long at every call
TABLES = "tables"
_NOTE = "See the tab *Artifacts*: each `.json` opens as a table; `files` holds them as Markdown, LaTeX and CSV."
_ENDED = {Status.DONE: "FINISHED", Status.FAILED: "FAILED"}
_METRICS, _PARAMS = 900, 100  # per call; MLflow takes 1000 together, 100 of them parameters


class Fault(Exception):
    """MLflow cannot be written; says why in a few words."""


@dataclass(frozen=True)
class Place:
    """Where the view of a results folder is kept: its own database, or what `MLFLOW_TRACKING_URI` names."""

    folder: Path

    @property
    def shared(self) -> bool:
        """Whether others may keep their runs there too."""
        return bool(os.environ.get("MLFLOW_TRACKING_URI"))

    @property
    def database(self) -> Path:
        """The folder's own database."""
        return self.folder.resolve() / "mlflow.db"

    @property
    def uri(self) -> str:
        """The store, as MLflow names it."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.database}"

    @property
    def artifacts(self) -> str:
        """Where the files of runs go, unless a server keeps them."""
        return (self.folder.resolve() / "mlartifacts").as_uri()

    def identity(self) -> str:
        """A lasting name for the folder, which moves with it."""
        path = self.folder / "mlflow.id"
        if not path.exists():
            replace_file(path, uuid.uuid4().hex.encode())
        return path.read_text()

    def __str__(self) -> str:
        """The URI without its password."""
        return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", self.uri)


class View:
    """The experiment `dgss-bench/SCALE`, open. Every public method may raise `Fault`."""

    def __init__(self, place: Place, scale: str, *, repair: bool = False) -> None:
        """Open the experiment or make it, and see which runs it holds; `repair` puts a corrupt database aside."""
        self._place, self._name = place, f"dgss-bench/{scale}"
        self._runs: dict[str, list[tuple[str, str]]] = {}  # by trial key: run id and what it shows
        self._shown: set[str] = set()  # the runs of tables that there should be
        with _faults():
            from mlflow import MlflowClient

            if not place.shared:
                _provide(place, self._name, repair)
            # among others' runs, those of this folder are known by a tag
            self._origin = {"results": place.identity()} if place.shared else {}
            self._client = MlflowClient(place.uri)
            self._experiment = self._open()
            self._look()

    def _open(self) -> str:
        experiment = self._client.get_experiment_by_name(self._name)
        if experiment is None:
            server = self._place.uri.startswith(("http:", "https:", "databricks"))
            return str(self._client.create_experiment(self._name, None if server else self._place.artifacts))
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _look(self) -> None:
        ours = " and ".join(f"tags.{name} = '{value}'" for name, value in self._origin.items())
        token: str | None = ""
        while token is not None:
            page = self._client.search_runs([self._experiment], ours, max_results=1000, page_token=token or None)
            for run in page:
                tags, whole = run.data.tags, run.info.status in _ENDED.values()  # else it was cut short
                key = _key_of(tags.get("suite", "")) if tags.get("kind") == TABLES else tags.get("trial_key")
                if key:
                    self._runs.setdefault(key, []).append((run.info.run_id, tags.get("record", "") if whole else ""))
            token = page.token or None

    def _keep(self, key: str, stamp: str) -> bool:
        """Keep the run of a trial if it shows just this; else delete it."""
        if not self._place.shared and not self._place.database.exists():
            raise Fault("it was deleted meanwhile")  # SQLite would put an empty file in its place
        if [shown for _, shown in self._runs.get(key, [])] == [stamp]:
            return True
        for run, _ in self._runs.pop(key, []):
            self._client.delete_run(run)
        return False

    def write_record(self, record: Record) -> None:
        """Write a record, unless it is there."""
        with _faults():
            if self._keep(record.key, stamp := stamp_of(record)):
                return
            tags = {"kind": "trial", "trial_key": record.key, "record": stamp, **self._origin, **tags_of(record)}
            started, finished = millis_of(record, "started"), millis_of(record, "finished")
            run = self._client.create_run(self._experiment, started, tags, name_of(record)).info.run_id
            self._client.log_dict(run, dict(record.inputs), "inputs.json")
            if record.error:
                self._client.log_text(run, record.error["traceback"], "traceback.txt")
            self._log(run, record, finished)
            self._client.set_terminated(run, _ENDED[record.status], finished)
            self._runs[record.key] = [(run, stamp)]

    def _log(self, run: str, record: Record, when: int) -> None:
        from mlflow.entities import Metric, Param

        params = [Param(name, value) for name, value in params_of(record).items()]
        metrics = [Metric(name, value, when, step) for name, value, step in metrics_of(record)]
        for i in range(max(-(-len(metrics) // _METRICS), -(-len(params) // _PARAMS))):
            some = metrics[i * _METRICS : (i + 1) * _METRICS], params[i * _PARAMS : (i + 1) * _PARAMS]
            self._client.log_batch(run, *some)

    def write_tables(self, tables: Sequence[ResultTable], paths: Sequence[Path]) -> None:
        """Write a run with the tables of tasks and, nested in it, one for each suite that has a folder of tables.

        A run that shows just these stays.

        Args:
            tables: of tasks.
            paths: their Markdown files.
        """
        from harness.shown_tables import shown_tables  # pandas

        with _faults():
            shown = {_key_of(one.suite): one for one in shown_tables(self._place.folder, tables, paths)}
            written = {key for key, one in shown.items() if self._show(key, one)}
            self._shown = set(shown)
            nested = shown if TABLES in written else written  # a new parent takes over the runs that stay
            for parent, _ in self._runs.get(TABLES, []):
                for key in set(nested) - {TABLES}:
                    self._client.set_tag(self._runs[key][0][0], "mlflow.parentRunId", parent)

    def _show(self, key: str, shown: Shown) -> bool:
        """Write a run of tables, unless it is there; whether it was written."""
        stamp = shown.stamp(VERSION)
        if self._keep(key, stamp) or not shown.files:
            return False
        name, suite = (f"{TABLES} · {shown.suite}", {"suite": shown.suite}) if shown.suite else (TABLES, {})
        tags = {"kind": TABLES, **suite, "record": stamp, "mlflow.note.content": _NOTE, **self._origin}
        run = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        for title, display in shown.tables.items():
            self._client.log_table(run, display, f"{title}.json")
        for file in shown.files:
            self._client.log_artifact(run, str(file), "files")
        for page in shown.pages:
            self._client.log_artifact(run, str(page))
        self._client.set_terminated(run, "FINISHED")
        self._runs[key] = [(run, stamp)]
        return True

    def prune(self, keys: set[str]) -> None:
        """Delete the runs of all other trials, and of tables not written last, unless the store is shared."""
        with _faults():
            for key in () if self._place.shared else set(self._runs) - keys - self._shown:
                self._keep(key, "")


def _key_of(suite: str) -> str:
    """What a run of tables goes by beside the trial keys: no hexadecimal number has these letters."""
    return f"{TABLES}/{suite}" if suite else TABLES


def _provide(place: Place, name: str, repair: bool) -> None:
    """See to the folder's own database: a new one where there is none, or where it came with another folder.

    Made under another name, because a creation that is cut short leaves a database MLflow cannot open.
    """
    try:
        if place.database.exists() and place.database.stat().st_size:
            with closing(sqlite3.connect(place.database, timeout=BUSY)) as connection:
                query = "SELECT artifact_location FROM experiments WHERE name = ?"
                if connection.execute(query, [name]).fetchone() in (None, (place.artifacts,)):
                    return
    except sqlite3.DatabaseError as error:
        if not repair or isinstance(error, sqlite3.OperationalError):  # it is locked, or may not be read
            raise
        os.replace(place.database, f"{place.database}.corrupt")
    from mlflow import MlflowClient

    temporary = place.database.with_name(f".mlflow.{uuid.uuid4().hex}.db")
    try:
        temporary.touch()  # where that fails, MLflow would try for two minutes
        MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
        os.replace(temporary, place.database)
    finally:
        for file in place.database.parent.glob(".mlflow.*.db*"):  # with what a killed program left
            file.unlink(missing_ok=True)


@contextmanager
def _faults() -> Iterator[None]:
    """Turn whatever a store, its driver or the network raises into one kind of error."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # MLflow prints what goes wrong with its traceback, urllib3 every retry; importing MLflow has set their levels
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        raise Fault(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """The words of the database or of the system, beneath those of the libraries on top."""
    said, cause = error, error.__cause__ or error.__context__
    while cause:
        said = cause if isinstance(cause, (sqlite3.Error, OSError)) else said
        cause = cause.__cause__ or cause.__context__
    text = said.strerror if isinstance(said, OSError) and said.strerror else str(said)
    return " ".join(text.split())[:120]
