"""The main job: plan, check the data, run what is missing, write the tables, keep MLflow in step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness import screen
from harness.bench_setup import Setup
from harness.cluster import run_ray
from harness.folders import REPORT, existing_records, scale_folder, whole_records
from harness.lookup import find, find_methods, find_scale
from harness.plan import Plan, Request, make_plan
from harness.preflight import checked
from harness.progress import Screen, counting
from harness.records import Record, RecordStore, writable
from harness.schedule import Executor, Outcome, Resources, exclusive, run_local
from harness.status import Status
from harness.suite_driver import write_suite_tables
from harness.suite_screen import show_suite_tables
from harness.tracking import Tracker, rebuild, ui_command
from harness.trial import Trial
from methods import OWN

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.paper_tables import PaperTable
    from harness.tables import ResultTable

EXECUTORS: dict[str, Executor] = {"ray": run_ray, "local": run_local}
INTERRUPTED = 130
"""The exit code after Ctrl-C."""


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
        plan = checked(expanded.beside(store, fresh=running.fresh), folder, store)
        pending = plan.pending[: running.max_trials or None]
        # a suite without pending trials leaves MLflow alone: opening it costs seconds
        tracker = Tracker(folder, request.scale) if running.track and pending else None
        outcomes: list[Outcome] = []
        with tracker or nullcontext():
            began = time.monotonic()
            if pending:
                with Screen(len(pending), tracker.record if tracker else None) as watcher:
                    outcomes = execute(pending, store, watcher, resources)
            seconds = time.monotonic() - began
            records = list(store)
            made = _make(records, folder, request, plan)
            code = _exit_code(plan, pending, outcomes)
            if made.suite and code != INTERRUPTED:
                _write_report(store, folder, changed=bool(outcomes))
            if tracker:
                for record in records:  # also those of earlier runs, which cost next to nothing
                    tracker.record(record)
                tracker.tables(made.tasks, made.task_paths)
    _show_end(plan, outcomes, seconds, made, running)
    if tracker:
        screen.show_hint("MLflow", ui_command(folder))
    return code


@dataclass(frozen=True, kw_only=True)
class _Made:
    """Records of a plan; tables and their Markdown files, of the suite in its own layouts and of each task."""

    records: Sequence[Record]
    suite: Sequence[PaperTable]
    suite_paths: Sequence[Path]
    tasks: Sequence[ResultTable]
    task_paths: Sequence[Path]


def _make(records: Sequence[Record], folder: Path, request: Request, plan: Plan) -> _Made:
    # without its weights a trial has a preliminary key, by which its records do not count as outdated
    planned = [each.trial for each in plan.trials if not each.trial.missing_weights]
    tasks, task_paths = _write_tables(records, folder, planned)
    suite, suite_paths = write_suite_tables(records, folder, request, planned=planned)
    return _Made(
        records=[record for record in records if record.key in plan.keys],
        suite=suite,
        suite_paths=suite_paths,
        tasks=tasks,
        task_paths=task_paths,
    )


def _write_report(store: RecordStore, folder: Path, *, changed: bool) -> None:
    """The page of a results folder, unless it is there and nothing was run."""
    page = folder / REPORT
    if changed or not page.exists():
        from harness.report.build import write_report  # pandas and matplotlib

        with screen.console.status("writing the report"):
            write_report(store, folder.name, page)


def _show_end(plan: Plan, outcomes: Sequence[Outcome], seconds: float, made: _Made, running: Running) -> None:
    """The last screen: tables, how the trials ended, what they say, and where everything is."""
    from harness.lessons import lessons_of  # scipy and statsmodels
    from harness.screen_results import show_lessons

    scale = plan.request.scale
    folder, options = scale_folder(running.results, scale), f"--scale {scale} --results {running.results}"
    if made.suite:
        show_suite_tables(made.suite, made.suite_paths, folder / "tables", plan.keys)
    else:
        screen.show_tables(made.tasks, made.task_paths, plan.keys)
    screen.show_summary(plan, outcomes, seconds, options)
    show_lessons(lessons_of(made.records, scale))
    page = folder / REPORT
    there = made.suite and page.exists()
    screen.show_hint(
        "report" if there else "report on one page", str(page) if there else f"python run.py report {options}"
    )


def _exit_code(plan: Plan, pending: Sequence[object], outcomes: Sequence[Outcome]) -> int:
    statuses = {outcome.status for outcome in outcomes}
    if Status.INTERRUPTED in statuses or len(outcomes) < len(pending):
        return INTERRUPTED
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
    """Bring MLflow in step with the records of a results folder, and with the tables of suites that lie there.

    Raises:
        ValueError: there are no records, or MLflow cannot be written.
    """
    from harness.shown_tables import suite_tables  # pandas

    store, folder = whole_records(results, scale), scale_folder(results, scale)
    with exclusive(folder):
        records = list(store)
        tables, paths = _write_tables(records, folder)
        with counting("writing to MLflow", len(records)) as advance:
            rebuild(folder, scale, records, tables, paths, advance)
    lying = suite_tables(folder)
    for suite, found in lying.items():
        screen.show_hint(f"suite {suite}", f"{len(found)} table(s) as they lie in {folder / 'tables' / suite}")
    told = f"{len(records)} trials, {len(tables)} table(s) of tasks, those of {len(lying)} suite(s)"
    screen.show_hint(f"MLflow shows {told}", ui_command(folder))


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
