"""Records are the truth: one per trial, named by the trial key.

A record is `KEY.json` with two parts, `result` (bit-identical on a rerun, hashed) and `run` (never compared), and
beside it `KEY.safetensors` with the areas, written first and bound to the JSON by its SHA-256. What only some readers
need (trained weights, panels) lies in files of its own, `KEY.NAME.safetensors`, bound likewise and read when asked for.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import subprocess
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from harness.status import Status
from harness.trial import Trial, canonical

log = logging.getLogger(__name__)

SCHEMA = 1
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one trial after it ended.

    Args:
        key: the trial key.
        status: `done` or `failed`; only `done` counts as cached.
        result: inputs and, if done, metrics; plain JSON values without NaN (None instead).
        run: times, memory, host, commit, timestamps.
        error: type, message and traceback of a failed trial, else None.
        arrays: areas per tile and confusion matrices of a done trial.
        attachments: arrays in files of their own; only of a fresh record, see `RecordStore.attachment`.
    """

    key: str
    status: Status
    result: Mapping[str, Any]
    run: Mapping[str, Any]
    error: Mapping[str, str] | None = None
    arrays: Arrays = field(default_factory=dict)
    attachments: Mapping[str, Arrays] = field(default_factory=dict)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The trial's inputs, whose hash is the key."""
        inputs: Mapping[str, Any] = self.result["inputs"]
        return inputs


def failed_record(trial: Trial, error: BaseException, started: datetime, message: str = "", trace: str = "") -> Record:
    """The record of a trial that ended with an error, made by whoever noticed.

    Args:
        trial: the trial.
        error: what ended it.
        started: when it began.
        message: what to say of it; empty for the error's own words.
        trace: what to keep as traceback; empty for the error's own.
    """
    trace = trace or "".join(traceback.format_exception(error))
    return Record(
        key=trial.key,
        status=Status.FAILED,
        result={"inputs": trial.inputs(), "labels": trial.labels()},
        run=surroundings(started),
        error={"type": type(error).__name__, "message": message or str(error), "traceback": trace},
    )


def surroundings(started: datetime) -> dict[str, Any]:
    """For the `run` part: when, where and by which code. Free of torch."""
    finished = datetime.now(UTC)
    return {
        "seconds": (finished - started).total_seconds(),
        "started": started.isoformat(),
        "finished": finished.isoformat(),
        "host": platform.node(),
        "process": os.getpid(),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


@cache
def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


class RecordStore:
    """The folder of records."""

    def __init__(self, folder: Path, *, repair: bool = False) -> None:
        """Name the folder; it need not exist for reading.

        Args:
            folder: where the records are.
            repair: put corrupt records aside; only for who holds the folder's lock.
        """
        self.folder = folder
        self.repair = repair

    def prepare(self) -> None:
        """Make sure the folder can be written.

        Raises:
            ValueError: it cannot.
        """
        with writable(self.folder), tempfile.TemporaryFile(dir=self.folder):
            pass

    def path(self, key: str) -> Path:
        """Where the JSON of a record is."""
        return self.folder / f"{key}.json"

    def halfway(self, key: str) -> Path:
        """Where a trial under way keeps what it needs to go on; gone when its record is there."""
        return self.folder / f"{key}.halfway"

    def write(self, record: Record) -> None:
        """Write a record whole or not at all: the arrays first, then the JSON, each by rename.

        A failed record never takes the place of a done one.

        Raises:
            ValueError: the folder cannot be written.
        """
        if record.error and (earlier := self.load(record.key)) and earlier.status is Status.DONE:
            log.warning(
                "trial %s failed this time; its earlier record is kept\n%s", record.key, record.error["traceback"]
            )
            return
        result = dict(record.result)
        files = {".safetensors": _packed(record.arrays)} if record.arrays else {}
        if files:
            result["arrays_sha256"] = hashlib.sha256(files[".safetensors"]).hexdigest()
        if record.attachments:
            packed = {name: _packed(arrays) for name, arrays in record.attachments.items()}
            result["attachments"] = {name: hashlib.sha256(data).hexdigest() for name, data in packed.items()}
            files |= {_suffix(name): data for name, data in packed.items()}
        body = {
            "schema": SCHEMA,
            "key": record.key,
            "status": record.status,
            "result": result,
            "result_sha256": hashlib.sha256(canonical(result).encode()).hexdigest(),
            "run": dict(record.run),
            "error": record.error,
        }
        text = json.dumps(body, indent=1, allow_nan=False).encode()
        with writable(self.folder):
            for suffix, data in files.items():
                replace_file(self.path(record.key).with_suffix(suffix), data)
            replace_file(self.path(record.key), text)
            if record.status is Status.DONE:
                self.halfway(record.key).unlink(missing_ok=True)

    def annotate(self, key: str, **facts: Any) -> None:
        """Add facts to the `run` part of a record that is there; all else stays as it lies on the disk.

        Raises:
            ValueError: the folder cannot be written.
        """
        body = json.loads(self.path(key).read_bytes())
        body["run"] |= facts
        with writable(self.folder):
            replace_file(self.path(key), json.dumps(body, indent=1, allow_nan=False).encode())

    def load(self, key: str) -> Record | None:
        """The record of a key, or None. A corrupt one is warned about and counts as missing; `repair` renames it."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            return _parse(path)
        except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            fate = "its trial will run again"
            if self.repair:
                for file in (path, *self.folder.glob(f"{key}*.safetensors")):
                    os.replace(file, file.with_name(file.name + ".corrupt"))
                fate = f"renamed to {path.name}.corrupt; {fate}"
            log.warning("record %s is corrupt (%s): %s", key, error, fate)
            return None

    def attachment(self, record: Record, name: str) -> Arrays:
        """What lies beside a record under a name: `weights` or `panels`.

        Raises:
            ValueError: the record has none, or its file is gone or damaged. Names the remedy.
        """
        remedy = f"run its trial again without {self.path(record.key)}"
        expected = record.result.get("attachments", {}).get(name)
        if expected is None:
            raise ValueError(f"record {record.key} has no {name}: an older version made it; {remedy}")
        path = self.path(record.key).with_suffix(_suffix(name))
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): restore it, or {remedy}") from error
        if hashlib.sha256(data).hexdigest() != expected:
            raise ValueError(f"{path} does not match its hash in the record: restore it, or {remedy}")
        return load_arrays(data)

    def __iter__(self) -> Iterator[Record]:
        """All whole records, by key."""
        for path in sorted(self.folder.glob("*.json")):
            record = self.load(path.stem)
            if record:
                yield record


def _suffix(attachment: str) -> str:
    return f".{attachment}.safetensors"


def _packed(arrays: Arrays) -> bytes:
    return save_arrays({name: np.asarray(array, order="C") for name, array in arrays.items()})


def _parse(path: Path) -> Record:
    body = json.loads(path.read_bytes())
    if body["schema"] != SCHEMA:
        raise ValueError(f"schema {body['schema']} instead of {SCHEMA}")
    if body["key"] != path.stem:
        raise ValueError(f"its key {body['key']} is not its file name")
    result = body["result"]
    if hashlib.sha256(canonical(result).encode()).hexdigest() != body["result_sha256"]:
        raise ValueError("its result does not match its hash")
    arrays: Arrays = {}
    if "arrays_sha256" in result:
        data = path.with_suffix(".safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != result["arrays_sha256"]:
            raise ValueError("its array file does not match its hash")
        arrays = load_arrays(data)
    if body["status"] not in (Status.DONE, Status.FAILED) or (body["status"] == Status.DONE) != bool(arrays):
        raise ValueError(f"status {body['status']!r} does not fit its parts")
    return Record(
        key=body["key"],
        status=Status(body["status"]),
        result=result,
        run=body["run"],
        error=body["error"],
        arrays=arrays,
    )


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Create a results folder and write below it.

    Raises:
        ValueError: that fails; the message names the folder and the remedy.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise ValueError(
            f"results folder {folder} cannot be written ({error.strerror}{where}): free space or change its "
            f"permissions, or choose another with --results DIR; what it holds is kept"
        ) from error


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: beside the target, flushed to the disk, renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
