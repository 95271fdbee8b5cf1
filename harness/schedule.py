"""Executors: hand pending trials to workers and collect their records."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from filelock import FileLock, Timeout

from harness.records import Record, RecordStore
from harness.trial import Trial


class Watcher(Protocol):
    """Is told how trials fare; the screen is one."""

    def started(self, trial: Trial) -> None:
        """A trial begins."""

    def stepped(self, trial: Trial, step: int, steps: int, loss: float) -> None:
        """A trial made a step."""

    def ended(self, trial: Trial, record: Record) -> None:
        """A trial left a record, done or failed."""


def run_local(trials: Sequence[Trial], store: RecordStore, watcher: Watcher) -> list[Record]:
    """Run trials one after the other in this process."""
    # imported late: torch and the model libraries cost seconds, and a fully cached suite needs none of them
    from harness.train import run_trial

    records = []
    with _Interrupts() as interrupts:
        for trial in trials:

            def report(step: int, steps: int, loss: float, trial: Trial = trial) -> None:
                interrupts.check()
                watcher.stepped(trial, step, steps, loss)

            watcher.started(trial)
            record = run_trial(trial, store, report)
            if interrupts.seen and record.status == "failed":
                store.discard(record.key)  # it was interrupted, it did not fail
            interrupts.check()
            watcher.ended(trial, record)
            records.append(record)
    return records


class _Interrupts:
    """Remembers Ctrl-C: a library that swallows the exception, or wraps it in another, must not hide it."""

    seen = False

    def __enter__(self) -> _Interrupts:
        self.before = signal.getsignal(signal.SIGINT)
        if self.before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.seen = True
        raise KeyboardInterrupt

    def check(self) -> None:
        if self.seen:
            raise KeyboardInterrupt


EXECUTORS: dict[str, Callable[[Sequence[Trial], RecordStore, Watcher], list[Record]]] = {"local": run_local}


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a results folder against a second driver; the lock dies with the process, however it ends.

    Raises:
        ValueError: another driver holds it.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"another run is writing to {folder}: wait for it to end, or choose another folder with --results DIR"
        ) from None
    try:
        yield
    finally:
        lock.release()
