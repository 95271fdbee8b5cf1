"""The main job: plan, check the data, run what is missing, write the tables."""

from __future__ import annotations

import json
from pathlib import Path

from harness import screen
from harness.lookup import find, find_scale
from harness.plan import Plan, Request, make_plan
from harness.records import Record, RecordStore, replace_file, writable
from harness.schedule import EXECUTORS, exclusive
from harness.split import split_tiles


def run_suite(request: Request, *, executor: str, results: Path, fresh: bool) -> int:
    """Run a suite; returns the exit code: 0 fine, 1 if a trial failed.

    Raises:
        ValueError: the user's mistake, before anything ran.
    """
    execute = find("executor", executor, EXECUTORS)
    expanded = make_plan(request, None)  # mistakes come to light before the results folder is touched
    folder = scale_folder(results, request.scale)
    store = RecordStore(folder / "records", repair=True)
    store.prepare()
    with exclusive(folder):
        plan = expanded.beside(store, fresh=fresh)
        screen.show_plan(plan)
        _check_files(plan, folder / "checked.json")
        records: list[Record] = []
        if plan.pending:
            with screen.Screen(len(plan.pending)) as watcher:
                records = execute(plan.pending, store, watcher)
        _write_tables(store, folder, request.scale, {planned.trial.key for planned in plan.trials})
    failed = [record for record in records if record.status == "failed"]
    screen.show_failures(failed, f"--scale {request.scale} --results {results}")
    return 1 if failed else 0


def rebuild_tables(results: Path, scale: str) -> None:
    """Write and show all tables of a results folder, from its records alone.

    Raises:
        ValueError: there are no records.
    """
    store = existing_records(results, scale)
    if store is None:
        raise ValueError(f"no records in {scale_folder(results, scale)}: run a suite first, or give --results DIR")
    _write_tables(store, scale_folder(results, scale), scale, None)


def find_record(results: Path, scale: str, key: str) -> Record:
    """The one record whose key begins like this.

    Raises:
        ValueError: none does, or several do.
    """
    store = existing_records(results, scale)
    keys = [path.stem for path in sorted(store.folder.glob(f"{key}*.json"))] if store and key.isalnum() else []
    record = store.load(keys[0]) if store and len(keys) == 1 else None
    if record is None:
        found = f"{len(keys)} records begin with" if len(keys) > 1 else "no record begins with"
        raise ValueError(f"{found} {key!r} in {scale_folder(results, scale)}: `plan --suite NAME` lists the keys")
    return record


def scale_folder(results: Path, scale: str) -> Path:
    """Where a scale's records and tables are."""
    return results / find_scale(scale).name


def existing_records(results: Path, scale: str) -> RecordStore | None:
    """The records of a scale, or None if nothing was ever run."""
    folder = scale_folder(results, scale) / "records"
    return RecordStore(folder) if folder.is_dir() else None


def _write_tables(store: RecordStore, folder: Path, scale: str, keys: set[str] | None) -> None:
    """Write all tables; show those that hold one of the keys (None: all)."""
    from harness.tables import build_tables, write_tables  # pandas

    tables = build_tables(store, scale)
    with writable(folder / "tables"):
        paths = write_tables(tables, folder / "tables")
    for table, path in zip(tables, paths, strict=True):
        if keys is None or table.keys & keys:
            screen.show_table(table, path)


def _check_files(plan: Plan, remembered: Path) -> None:
    """Read every file the pending trials use once, before any of them trains; what passed is not read again."""
    passed = _read_stamps(remembered)
    files = [trial for trial in plan.pending if trial.data.kind == "files"]
    for trial in {(trial.data_fingerprint, trial.protocol.max_tiles): trial for trial in files}.values():
        stamp = f"{trial.data_fingerprint}/{trial.protocol.max_tiles}"
        if stamp in passed:
            continue
        reader = trial.open_reader()
        split = split_tiles(reader, trial.data.source, trial.data.targets, trial.protocol.max_tiles)
        with screen.checking(len(split.tiles)) as advance:
            reader.check(split.tiles, advance)
        passed.add(stamp)
        replace_file(remembered, json.dumps(sorted(passed)).encode())


def _read_stamps(path: Path) -> set[str]:
    try:
        return set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()  # nothing is lost: the files are checked again
