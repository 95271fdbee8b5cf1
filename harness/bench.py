"""What the harness itself costs: measured side by side in one run, because machines differ and are shared."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from harness.cluster import run_ray
from harness.lookup import find_scale
from harness.means import Means
from harness.plan import Request, make_plan
from harness.records import Record, RecordStore, surroundings
from harness.scales import Protocol
from harness.schedule import RUN_TRIAL, Outcome, Report, Resources, run_local
from harness.status import Status
from harness.trial import Trial

STEPS = 8
"""Steps of a timed trial: what is outside the steps does not depend on their number."""
STUB_SECONDS = 0.5
"""CPU time that a stub trial burns."""


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """Seconds of a trial outside its steps, medians over trials.

    Args:
        executor: how the trials ran.
        trials: how many were measured: all but the first of each process.
        start: once per run, until the first trial begins (Ray, imports).
        between: from a trial's end to the next one's start in the same process; holds `write`.
        write: writing the record.
        build: reader, statistics, model.
        rest: inside the trial and neither build nor batches nor steps nor evaluation.
        share: `between`, `build` and `rest` as a share of a trial of the scale's full length.
    """

    executor: str
    trials: int
    start: float
    between: float
    write: float
    build: float
    rest: float
    share: float


@dataclass(frozen=True, kw_only=True)
class DriverShare:
    """CPU time of the driver beside that of stub trials, which burn CPU and write a record.

    Args:
        trials: number of stub trials.
        theirs: their CPU seconds.
        driver: the driver's CPU seconds, from before Ray starts until after it has ended.
        share: one by the other.
    """

    trials: int
    theirs: float
    driver: float
    share: float


def measure_overhead(executor: str, workers: int, scale: str, trials: int) -> Overhead:
    """Run short trials of the frozen baseline through an executor and take their times apart.

    Raises:
        ValueError: too few trials, or a trial failed.
    """
    if trials <= max(workers, 1):
        raise ValueError(f"--trials {trials}: give more than --workers, the first of each process is not measured")
    settings = (f"protocol.steps={STEPS}", "protocol.evaluations=1")
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder))
        began = datetime.now(UTC)
        records = _run(executor, workers, _trials(scale, trials, settings), store, RUN_TRIAL)
        write = median([_time_write(store, record) for record in records])
    later, between = _by_process(records)
    build = median([record.run["build_seconds"] for record in later])
    rest = median([_rest(record) for record in later])
    protocol = find_scale(scale).protocol
    full = median([_full_length(record, protocol) for record in later])
    outside = median(between) + build + rest
    return Overhead(
        executor=f"{executor} --workers {workers}" if workers else executor,
        trials=len(later),
        start=min((_when(record, "started") - began).total_seconds() for record in records),
        between=median(between),
        write=write,
        build=build,
        rest=rest,
        share=outside / (outside + full),
    )


def measure_driver(workers: int, trials: int) -> DriverShare:
    """Run stub trials through Ray and compare the driver's CPU time with theirs."""
    with tempfile.TemporaryDirectory() as folder:
        before = time.process_time()
        records = _run("ray", workers, _trials("test", trials, ()), _store(Path(folder)), "harness.bench:stub_trial")
        driver = time.process_time() - before
    theirs = sum(record.run["cpu_seconds"] for record in records)
    return DriverShare(trials=trials, theirs=theirs, driver=driver, share=driver / theirs)


def stub_trial(trial: Trial, report: Report, _means: Means) -> Record:
    """A trial that trains nothing: it burns CPU, reports steps and leaves a small record."""
    started, before = datetime.now(UTC), time.process_time()
    step = 0
    while time.process_time() - before < STUB_SECONDS:
        step += 1
        report(step, step, 0.0)
    return Record(
        key=trial.key,
        status=Status.DONE,
        result={"inputs": trial.inputs(), "labels": trial.labels()},
        run={"cpu_seconds": time.process_time() - before, **surroundings(started)},
        arrays={"areas/1": np.zeros((64, 8, 3), dtype=np.int64)},
    )


class _Silent:
    """A watcher that looks away."""

    def noted(self, text: str) -> None: ...

    def started(self, trial: Trial) -> None: ...

    def stepped(self, trial: Trial, step: int, steps: int, loss: float) -> None: ...

    def retried(self, trial: Trial, reason: str) -> None: ...

    def ended(self, outcome: Outcome) -> None: ...


def _trials(scale: str, number: int, settings: Sequence[str]) -> list[Trial]:
    request = Request(suite="cost", scale=scale, methods=("frozen",), seeds=number, settings=settings)
    return make_plan(request, None).pending


def _store(folder: Path) -> RecordStore:
    store = RecordStore(folder / "records")
    store.prepare()
    return store


def _run(executor: str, workers: int, trials: Sequence[Trial], store: RecordStore, work: str) -> list[Record]:
    resources = Resources(workers=workers, cpus=1, gpus=0.0)
    run = run_ray if executor == "ray" else run_local
    outcomes = run(trials, store, _Silent(), resources, work)
    records = [outcome.record for outcome in outcomes if outcome.record]
    failed = [record for record in records if record.error]
    if failed or len(records) < len(trials):
        reason = failed[0].error["message"] if failed and failed[0].error else "interrupted"
        raise ValueError(f"{len(trials) - len(records) + len(failed)} of {len(trials)} trials did not end: {reason}")
    return records


def _by_process(records: Sequence[Record]) -> tuple[list[Record], list[float]]:
    """All but the first record of each process, and the gaps before them."""
    processes: dict[int, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: str(record.run["started"])):
        processes[record.run["process"]].append(record)
    pairs = [pair for same in processes.values() for pair in pairwise(same)]
    gaps = [(_when(later, "started") - _when(earlier, "finished")).total_seconds() for earlier, later in pairs]
    return [later for _, later in pairs], gaps


def _when(record: Record, what: str) -> datetime:
    return datetime.fromisoformat(record.run[what])


def _rest(record: Record) -> float:
    run = record.run
    parts = ("build_seconds", "data_seconds", "train_seconds", "evaluate_seconds")
    return float(run["seconds"] - sum(run[name] for name in parts))


def _full_length(record: Record, protocol: Protocol) -> float:
    """Seconds of batches, steps and evaluations, had the trial run as long as the protocol says."""
    step = record.run["step_ms_median"] / 1000 + record.run["data_seconds"] / STEPS
    return float(protocol.steps * step + protocol.evaluations * record.run["evaluate_seconds"])


def _time_write(store: RecordStore, record: Record) -> float:
    clock = time.perf_counter()
    store.write(record)
    return time.perf_counter() - clock
