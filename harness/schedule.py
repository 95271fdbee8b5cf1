"""What executors share: resources, outcomes, interrupts, the locks on a results folder; and the executor `local`.

An executor hands pending trials to workers and collects their records. The other one is in `harness/cluster.py`.
"""

from __future__ import annotations

import fcntl
import logging
import math
import pkgutil
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock, Timeout

from harness.means import Means, Thrift
from harness.records import Record, RecordStore, failed_record
from harness.scales import Scale
from harness.status import Status
from harness.trial import Trial

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

log = logging.getLogger(__name__)

LEFTOVER_SECONDS = 60.0
"""How long the workers of a killed driver are waited for."""

Report = Callable[[int, int, float], None]
"""Called after every step with the step, the number of steps and the loss."""

Work = Callable[[Trial, Report, Means], Record]
"""What a worker does with a trial."""

RUN_TRIAL = "harness.train:run_trial"
"""The work, by name: torch and the model libraries cost seconds, and a driver needs none of them."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What trials may take.

    Args:
        workers: trials at the same time; 0 for as many as fit.
        cpus: cores per trial; 0 for one, plus one per process that reads tiles.
        gpus: GPUs per trial, a fraction to share one; None for what the scale asks for.
        address: HOST:PORT of a running Ray cluster, or `auto`; empty for one of its own.
        timeout: seconds after which a trial has failed; 0 for none.
        thrift: how trials save memory or time.
    """

    workers: int = 0
    cpus: int = 0
    gpus: float | None = None
    address: str = ""
    timeout: float = 0.0
    thrift: Thrift = field(default_factory=Thrift)

    def __post_init__(self) -> None:
        """Refuse what no executor can give."""
        for option, value in (("workers", self.workers), ("cpus-per-trial", self.cpus), ("timeout", self.timeout)):
            if not 0 <= value < math.inf:
                raise ValueError(f"--{option} {value:g}: must be a number that is not negative")
        gpus = self.gpus or 0.0
        if not 0 <= gpus < math.inf or (gpus > 1 and gpus % 1):
            raise ValueError(f"--gpus-per-trial {gpus:g}: give 0, a fraction of one GPU, or a whole number")

    def at(self, scale: Scale) -> Resources:
        """The same with the scale's needs where nothing was asked for."""
        gpus = scale.gpus_per_trial if self.gpus is None else self.gpus
        return replace(self, cpus=self.cpus or 1 + scale.loader_workers, gpus=gpus)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended: done or failed with its record, or interrupted without one."""

    trial: Trial
    record: Record | None = None

    @property
    def status(self) -> Status:
        """The record's, or interrupted."""
        return self.record.status if self.record else Status.INTERRUPTED


class Watcher(Protocol):
    """Is told how trials fare; the screen is one."""

    def noted(self, text: str) -> None:
        """What the executor itself is doing."""

    def started(self, trial: Trial) -> None:
        """A trial begins."""

    def stepped(self, trial: Trial, step: int, steps: int, loss: float) -> None:
        """A trial made a step."""

    def retried(self, trial: Trial, reason: str) -> None:
        """The system failed a trial; it will run once more."""

    def ended(self, outcome: Outcome) -> None:
        """A trial ended."""


Executor = Callable[[Sequence[Trial], RecordStore, Watcher, Resources], list[Outcome]]
"""Runs trials; fewer outcomes than trials means that it was interrupted."""


def run_local(
    trials: Sequence[Trial], store: RecordStore, watcher: Watcher, resources: Resources, work: str = RUN_TRIAL
) -> list[Outcome]:
    """Run trials one after the other in this process."""
    if resources.workers > 1 or resources.address:
        option = f"--address {resources.address}" if resources.address else f"--workers {resources.workers}"
        raise ValueError(f"{option}: --executor local runs one trial at a time, here; use --executor ray")
    outcomes: list[Outcome] = []
    with Interrupts(at_once=True) as interrupts, suppress(KeyboardInterrupt):
        run: Work = pkgutil.resolve_name(work)
        if resources.gpus and (lack := gpu_lack()):
            log.warning(lack)
        for trial in trials:
            outcome = _run_here(trial, run, store, watcher, resources, interrupts)
            outcomes.append(outcome)
            watcher.ended(outcome)
            if outcome.status is Status.INTERRUPTED:
                break
            interrupts.check()
    return outcomes


def _run_here(
    trial: Trial, run: Work, store: RecordStore, watcher: Watcher, resources: Resources, interrupts: Interrupts
) -> Outcome:
    def report(step: int, steps: int, loss: float) -> None:
        interrupts.check()
        watcher.stepped(trial, step, steps, loss)

    watcher.started(trial)
    started = datetime.now(UTC)
    means = Means(gpu=bool(resources.gpus), thrift=resources.thrift, halfway=store.halfway(trial.key))
    try:
        try:
            with _alarm(resources.timeout):
                record = run(trial, report, means)
        except TimeoutError as error:  # it rang outside the trial's own handler
            record = failed_record(trial, error, started)
        interrupts.check()
        store.write(record)
    except KeyboardInterrupt:
        return Outcome(trial=trial)
    return Outcome(trial=trial, record=record)


def gpu_lack() -> str:
    """What is wrong if a trial that asked for a GPU sees none here; imports torch."""
    import torch

    if torch.cuda.is_available():
        return ""
    return (
        f"a trial asked for a GPU, but torch {torch.__version__} sees none on {platform.node()} and runs it on CPU: "
        f"check the driver, or say --gpus-per-trial 0"
    )


def overdue(seconds: float) -> TimeoutError:
    """What stands in the record of a trial that was stopped by `--timeout`."""
    return TimeoutError(f"not finished after --timeout {seconds:g} s: raise it, or mend what hangs")


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the main thread after so many seconds; 0 for never."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise overdue(seconds)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Interrupts:
    """Remembers Ctrl-C and SIGTERM: a library that swallows the exception, or wraps it in another, must not hide it.

    Args:
        at_once: raise `KeyboardInterrupt` at the first signal; otherwise at the second, the first is only remembered.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.seen = False

    def __enter__(self) -> Interrupts:
        """Take the signals over, but for one that is ignored."""
        self.before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self.take()
        return self

    def take(self) -> None:
        """Take the signals, also from a library that took them meanwhile."""
        for number, handler in self.before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self.hook

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        again, self.seen = self.seen, True
        if self.at_once or again:
            raise KeyboardInterrupt

    def _unraisable(self, what: UnraisableHookArgs) -> None:
        # Python swallows what a callback of the garbage collector raises and prints its traceback; `check` raises it
        if not isinstance(what.exc_value, KeyboardInterrupt):
            self.hook(what)

    def check(self) -> None:
        """Raise again what was swallowed."""
        if self.seen:
            raise KeyboardInterrupt


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a results folder against a second driver, once the workers of a killed one are gone.

    The locks die with their process, however it ends.

    Raises:
        ValueError: another driver holds it, or workers are left over that do not end.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"another run is writing to {folder}: wait for it to end, or choose another folder with --results DIR"
        ) from None
    try:
        _wait_for_leftovers(folder)
        yield
    finally:
        lock.release()


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Mark a results folder as written to by this worker."""
    with (folder / ".workers").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _wait_for_leftovers(folder: Path) -> None:
    deadline = time.monotonic() + LEFTOVER_SECONDS
    with (folder / ".workers").open("a") as file:
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"workers of an earlier run still use {folder}: end them (`fuser -k {file.name}`), or choose "
                        f"another folder with --results DIR"
                    ) from None
                if not said:
                    log.warning("waiting for the workers of an earlier run that was killed")
                    said = True
                time.sleep(0.1)
            else:
                return
