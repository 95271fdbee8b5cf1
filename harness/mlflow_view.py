"""What MLflow shows of the records: one run per trial and one that holds the tables."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import Record, replace_file
from harness.split import SOURCE_VAL, TARGET
from harness.status import Status
from harness.trial import digest, special

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.tables import ResultTable

VERSION = 1
"""Rises when a run's contents change, so that `track` writes older runs again."""

BUSY = 20.0  # seconds to wait for a locked database; MLflow itself waits as long at every call
TABLES = "tables"
_NOTE = "See the tab *Artifacts*: each `.json` opens as a table; `files` holds them as Markdown, LaTeX and CSV."
_ENDED = {Status.DONE: "FINISHED", Status.FAILED: "FAILED"}
_LONGEST = 5000  # characters of a parameter or tag; MLflow takes 6000 and 8000
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
                key = TABLES if tags.get("kind") == TABLES else tags.get("trial_key")
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
            if self._keep(record.key, stamp := _stamp(record)):
                return
            tags = {"kind": "trial", "trial_key": record.key, "record": stamp, **self._origin, **_tags(record)}
            started, finished = _millis(record, "started"), _millis(record, "finished")
            run = self._client.create_run(self._experiment, started, _cut(tags), _name(record)).info.run_id
            self._client.log_dict(run, dict(record.inputs), "inputs.json")
            if record.error:
                self._client.log_text(run, record.error["traceback"], "traceback.txt")
            self._log(run, record, finished)
            self._client.set_terminated(run, _ENDED[record.status], finished)
            self._runs[record.key] = [(run, stamp)]

    def _log(self, run: str, record: Record, when: int) -> None:
        from mlflow.entities import Metric, Param

        params = [Param(name, value) for name, value in _cut(_params(record)).items()]
        metrics = [Metric(name, value, when, step) for name, value, step in _metrics(record)]
        for i in range(max(-(-len(metrics) // _METRICS), -(-len(params) // _PARAMS))):
            some = metrics[i * _METRICS : (i + 1) * _METRICS], params[i * _PARAMS : (i + 1) * _PARAMS]
            self._client.log_batch(run, *some)

    def write_tables(self, tables: Sequence[ResultTable], paths: Sequence[Path]) -> None:
        """Write the run that holds the tables, unless it shows just these."""
        with _faults():
            files = [path.with_suffix(suffix) for path in paths for suffix in (".md", ".tex", ".csv")]
            contents = [file.name.encode() + file.read_bytes() for file in files]
            stamp = hashlib.sha256(b"".join([b"%d" % VERSION, *contents])).hexdigest()[:16]
            if self._keep(TABLES, stamp) or not tables:
                return
            tags = {"kind": TABLES, "record": stamp, "mlflow.note.content": _NOTE, **self._origin}
            run = self._client.create_run(self._experiment, tags=tags, run_name=TABLES).info.run_id
            for table in tables:
                self._client.log_table(run, table.display, f"{table.name}.json")
            for file in files:
                self._client.log_artifact(run, str(file), "files")
            self._client.set_terminated(run, "FINISHED")
            self._runs[TABLES] = [(run, stamp)]

    def prune(self, keys: set[str]) -> None:
        """Delete the runs of all other trials, unless the store is shared."""
        with _faults():
            for key in () if self._place.shared else set(self._runs) - keys - {TABLES}:
                self._keep(key, "")


def _name(record: Record) -> str:
    """What differs from the defaults comes last, because the list of runs cuts names short."""
    inputs, extra = record.inputs, special(record.result["labels"])
    name = f"{inputs['method']} · {inputs['backbone']} · {inputs['task']} · seed {inputs['seed']}"
    return f"{name} ({extra})" if extra else name


def _stamp(record: Record) -> str:
    """What a run shows. A record just made does not hold the hash of its array file yet."""
    result = {name: value for name, value in record.result.items() if name != "arrays_sha256"}
    return digest([VERSION, record.status, result, record.run["finished"]])


def _tags(record: Record) -> dict[str, Any]:
    error = {"error": record.error["type"], "error_message": record.error["message"]} if record.error else {}
    return {
        "status": record.status,
        "port": record.result["labels"]["port"],
        **{name: record.inputs[name] for name in ("task", "method", "backbone")},
        **{name: record.run[name] for name in ("commit", "host", "device") if name in record.run},
        **error,
    }


def _params(record: Record) -> dict[str, Any]:
    inputs, labels = record.inputs, record.result["labels"]
    return {
        **{name: inputs[name] for name in ("task", "backbone", "method", "seed", "scale")},
        "preset": inputs["options"]["preset"],
        **{name: labels[name] for name in ("data", "options", "controls", "recipe")},
        **{f"option.{name}": value for name, value in inputs["options"].items()},
        **{f"protocol.{name}": value for name, value in inputs["protocol"].items()},
    }


def _metrics(record: Record) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of everything that is defined; what holds for the whole trial stands at step 0."""
    values = [(name, value, 0) for name, value in _finals(record).items()]
    for point in record.result.get("points", []):
        values += [(f"by_step/{name}", point[name], point["step"]) for name in ("task_loss", "auxiliary_loss")]
        values += [(f"by_step/mIoU/{domain}", value, point["step"]) for domain, value in point["miou"].items()]
    yield from ((re.sub(r"[^\w\-./: ]", "_", name), value, step) for name, value, step in values if value is not None)


def _finals(record: Record) -> dict[str, Any]:
    run, result = record.run, record.result
    values = {}
    if "selections" in result:
        scores = {selection: found["scores"] for selection, found in result["selections"].items()}
        chosen = scores["source_val"]
        values = {
            "target_mIoU": chosen[TARGET]["miou"],
            "source_mIoU": chosen[SOURCE_VAL]["miou"],
            "last_target_mIoU": scores["last"][TARGET]["miou"],
            "oracle_target_mIoU": scores["oracle"][TARGET]["miou"],
            "target_mAcc": chosen[TARGET]["macc"],
        }
        values |= {f"mIoU/{name}": score["miou"] for name, score in chosen.items() if name not in (SOURCE_VAL, TARGET)}
    cost = {"seconds": "seconds", "step_ms": "step_ms_median", "peak_memory_mb": "process_peak_memory_mb"}
    values |= {f"cost/{name}": run.get(source) for name, source in cost.items()}
    return values | {f"parameters/{group}": count for group, count in result.get("parameters", {}).items()}


def _cut(values: Mapping[str, Any]) -> dict[str, str]:
    texts = {name: str(value) for name, value in values.items()}
    return {name: text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for name, text in texts.items()}


def _millis(record: Record, event: str) -> int:
    return round(1000 * datetime.fromisoformat(record.run[event]).timestamp())


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
