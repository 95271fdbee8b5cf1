"""The main job: plan, check the data, run what is missing, write the tables, keep MLflow in step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tasks import Normalised
from harness import screen
from harness.audit_status import renew
from harness.bench_setup import Setup
from harness.cluster import run_ray
from harness.folders import existing_records, scale_folder, whole_records
from harness.lookup import find, find_methods, find_scale
from harness.plan import Plan, Request, make_plan
from harness.progress import Screen, counting
from harness.records import Record, RecordStore, replace_file, writable
from harness.relevant import check_released_jitter
from harness.schedule import Executor, Outcome, Resources, exclusive, run_local
from harness.split import split_tiles
from harness.status import Status
from harness.suite_driver import write_suite_tables
from harness.suite_screen import show_suite_tables
from harness.tracking import Tracker, rebuild, ui_command
from harness.trial import Trial
from methods import OWN

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.tables import ResultTable

EXECUTORS: dict[str, Executor] = {"ray": run_ray, "local": run_local}


@dataclass(frozen=True, kw_only=True)
class Running:
    """How to run a suite; nothing here changes a number.

    Args:
        executor: name of the executor.
        resources: what trials may take.
        results: folder of all scales.
        fresh: run again what has a record.
        max_trials: run at most so many now; 0 for all.
        track: mirror records and tables to MLflow.
    """

    executor: str = "ray"
    resources: Resources = field(default_factory=Resources)
    results: Path = Path("results")
    fresh: bool = False
    max_trials: int = 0
    track: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be counted."""
        if self.max_trials < 0:
            raise ValueError(f"--max-trials {self.max_trials}: must not be negative")


def run_suite(request: Request, running: Running) -> int:
    """Run a suite.

    Returns:
        The exit code: 0 fine, 1 a trial failed, 2 data of a task are wrong (the others ran), 130 interrupted.

    Raises:
        ValueError: the user's mistake, before anything ran; or the results folder cannot be written.
    """
    execute = find("executor", running.executor, EXECUTORS)
    expanded = make_plan(request, None)  # mistakes come to light before the results folder is touched
    resources = running.resources.at(find_scale(request.scale))
    folder = scale_folder(running.results, request.scale)
    store = RecordStore(folder / "records", repair=True)
    store.prepare()
    with exclusive(folder):
        plan = expanded.beside(store, fresh=running.fresh)
        screen.show_plan(plan)
        plan = _check_files(plan, folder / "checked.json")
        _check_distortion(plan)
        renew([planned.trial for planned in plan.trials if planned.status is Status.CACHED], store)
        pending = plan.pending[: running.max_trials or None]
        # a suite without pending trials leaves MLflow alone: opening it costs seconds
        tracker = Tracker(folder, request.scale) if running.track and pending else None
        outcomes: list[Outcome] = []
        with tracker or nullcontext():
            if pending:
                with Screen(len(pending), tracker.record if tracker else None) as watcher:
                    outcomes = execute(pending, store, watcher, resources)
            records = list(store)
            planned = [planned.trial for planned in plan.trials]
            tables, paths = _write_tables(records, folder, planned)
            suite_tables, suite_paths = write_suite_tables(records, folder, request, planned=planned)
            if tracker:
                for record in records:  # also those of earlier runs, which cost next to nothing
                    tracker.record(record)
                tracker.tables([*suite_tables, *tables], [*suite_paths, *paths])
    keys = {trial.key for trial in planned}
    if suite_tables:
        show_suite_tables(suite_tables, suite_paths, folder / "tables", keys)
    else:
        screen.show_tables(tables, paths, keys)
    screen.show_summary(plan, outcomes, f"--scale {request.scale} --results {running.results}")
    if tracker:
        screen.show_hint("MLflow", ui_command(folder))
    return _exit_code(plan, pending, outcomes)


def _exit_code(plan: Plan, pending: Sequence[object], outcomes: Sequence[Outcome]) -> int:
    statuses = {outcome.status for outcome in outcomes}
    if Status.INTERRUPTED in statuses or len(outcomes) < len(pending):
        return 130
    if Status.FAILED in statuses:
        return 1
    return 2 if plan.defective else 0


def rebuild_tables(results: Path, scale: str) -> None:
    """Write and show the tables of each task in a results folder, from its records alone.

    Raises:
        ValueError: there are no records.
    """
    tables, paths = _write_tables(whole_records(results, scale), scale_folder(results, scale))
    screen.show_tables(tables, paths)


def rebuild_tracking(results: Path, scale: str) -> None:
    """Bring MLflow in step with the records of a results folder.

    Raises:
        ValueError: there are no records, or MLflow cannot be written.
    """
    store, folder = whole_records(results, scale), scale_folder(results, scale)
    with exclusive(folder):
        records = list(store)
        tables, paths = _write_tables(records, folder)
        with counting("writing to MLflow", len(records)) as advance:
            rebuild(folder, scale, records, tables, paths, advance)
    screen.show_hint(f"MLflow shows {len(records)} trials and {len(tables)} table(s)", ui_command(folder))


def bench_trial(executors: Sequence[str], *, workers: int, scale: str, trials: int, stubs: int, as_json: bool) -> None:
    """Measure and show what trials cost outside their steps.

    Raises:
        ValueError: an unknown name, or too few trials.
    """
    from harness.bench import measure_driver, measure_overhead

    for name in executors:
        find("executor", name, EXECUTORS)
    runs = [("local", 0), ("ray", 1), *([("ray", workers)] if workers > 1 else [])]
    chosen = [(name, number) for name, number in runs if not executors or name in executors]
    overheads = []
    with counting("trials through executors", len(chosen)) as advance:
        for name, number in chosen:
            overheads.append(measure_overhead(name, number, scale, trials))
            advance()
    shares = [measure_driver(workers, stubs)] if stubs else []
    screen.show_bench(overheads, shares, scale=scale, as_json=as_json)


def bench_modules(methods: Sequence[str], setup: Setup, *, as_json: bool) -> int:
    """Measure and show what methods cost in a block.

    Args:
        methods: names or files; empty for those with a file of their own.
        setup: how large the block is and how it is measured.
        as_json: print JSON instead of the table.

    Returns:
        The exit code: 1 if a method did not run, else 0.

    Raises:
        ValueError: an unknown name, a device that is not there, sizes that do not run on it.
    """
    refs = [ref for name in methods or OWN for ref in find_methods(name)]
    from harness.bench_modules import measure, measuring, presets
    from harness.bench_step import facts

    chosen = [(ref, options) for ref in refs for options in presets(ref.options_class)]
    told = facts(setup)
    with counting("measuring", 1 + len(chosen)) as advance, measuring(setup) as plain:
        advance()
        costs = []
        for ref, options in chosen:
            costs.append(measure(ref, options, setup))
            advance()
    screen.show_modules(plain, costs, told, as_json=as_json)
    return int(any(cost.error for cost in costs))


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


def _write_tables(
    records: Iterable[Record], folder: Path, planned: Iterable[Trial] = ()
) -> tuple[list[ResultTable], list[Path]]:
    """Build and write all tables; their Markdown files come back with them."""
    from harness.tables import build_tables, write_tables  # pandas

    tables = build_tables(records, folder.name, planned)
    with writable(folder / "tables"):
        return tables, write_tables(tables, folder / "tables")


def _check_files(plan: Plan, remembered: Path) -> Plan:
    """Read every file the pending trials use once, before any of them trains; what passed is not read again.

    Returns:
        The plan, in which the trials of defective data are skipped.

    Raises:
        ValueError: no trial is left.
    """
    passed = _read_stamps(remembered)
    defects: dict[str, str] = {}
    files = [trial for trial in plan.pending if trial.data.kind == "files"]
    for trial in {(trial.data_fingerprint, trial.protocol.max_tiles): trial for trial in files}.values():
        stamp = f"{trial.data_fingerprint}/{trial.protocol.max_tiles}"
        if stamp in passed or trial.data_fingerprint in defects:
            continue
        try:
            reader = trial.open_reader()
            if isinstance(reader, Normalised):
                _ = reader.normalisation  # stored statistics may be of other data
            split = split_tiles(reader, trial.data.source, trial.data.targets, trial.protocol.max_tiles)
            with counting("checking data files", len(split.tiles)) as advance:
                reader.check(split.tiles, advance)
        except ValueError as defect:
            defects[trial.data_fingerprint] = str(defect)
            continue
        passed.add(stamp)
        replace_file(remembered, json.dumps(sorted(passed)).encode())
    if not defects:
        return plan
    checked = plan.skip(defects)
    screen.show_skipped({name: why for name, why in checked.skipped.items() if name not in plan.skipped})
    return checked


def _check_distortion(plan: Plan) -> None:
    """Look at one tile of each data set whose colours pending trials distort as released, before any of them trains.

    Raises:
        ValueError: its tiles are no bytes.
    """
    distorted = {t.data_fingerprint: t for t in plan.pending if t.protocol.photometric == "released"}
    for trial in distorted.values():
        reader = trial.open_reader()
        first = reader.read(reader.tiles(trial.data.source)[0])
        check_released_jitter(first.image.dtype, f"the tiles of {trial.task.name}")


def _read_stamps(path: Path) -> set[str]:
    try:
        return set(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()  # nothing is lost: the files are checked again
