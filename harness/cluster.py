"""The executor `ray`: one core task per trial and one wait loop, on this machine or on a running cluster.

On CPU a worker process serves many trials, because imports cost seconds; on GPU each trial has a process of its own,
because a process keeps the GPU memory it once had. Ray retries nothing: what the system failed runs once more, what
raised does not.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text

from harness.connection import connected, slots
from harness.lookup import pack
from harness.means import Means
from harness.records import Record, RecordStore, failed_record
from harness.schedule import RUN_TRIAL, Interrupts, Outcome, Resources, Watcher, overdue
from harness.status import Status
from harness.trial import Trial
from harness.worker import Board, Progress, carry_out

if TYPE_CHECKING:  # Ray costs a second to import, and a cached suite does not need it
    from ray import ObjectRef
    from ray.exceptions import RayError

log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at the progress."""
GRACE = 0.5
"""Seconds that interrupted trials have to write what they have."""
ATTEMPTS = 2
"""How often a trial may start, if the system is to blame."""

_REASONS = {
    "OutOfMemoryError": "the worker was killed because memory ran out: fewer --workers, or more --cpus-per-trial",
    "WorkerCrashedError": "the worker died: killed from outside, or a crash in native code",
    "NodeDiedError": "the machine that ran it is gone",
    "TaskCancelledError": "the task was cancelled from outside",
}


def run_ray(
    trials: Sequence[Trial], store: RecordStore, watcher: Watcher, resources: Resources, work: str = RUN_TRIAL
) -> list[Outcome]:
    """Run trials side by side in Ray's workers.

    Raises:
        ValueError: the cluster cannot be reached or has not what is asked for, or a record cannot be written.
    """
    watcher.noted("starting Ray")
    # Ray is never interrupted while it starts: its processes would be left half made
    with Interrupts(at_once=False) as interrupts, connected(resources):
        interrupts.take()
        at_once = slots(resources)
        watcher.noted("starting workers")
        return _Loop(trials, store, watcher, resources, work, at_once).run(interrupts)


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    trial: Trial
    number: int = 1
    since: datetime
    begun: bool = False
    late: bool = False


class _Loop:
    """One run of the loop: trials waiting, running and ended."""

    def __init__(
        self,
        trials: Sequence[Trial],
        store: RecordStore,
        watcher: Watcher,
        resources: Resources,
        work: str,
        slots: int,
    ) -> None:
        import ray

        self.ray = ray
        self.store, self.watcher, self.resources, self.work, self.slots = store, watcher, resources, work, slots
        self.waiting = deque((trial, 1) for trial in trials)
        self.running: dict[ObjectRef[Any], _Attempt] = {}
        self.outcomes: list[Outcome] = []
        self.said: set[str] = set()
        self.lost = False
        self.board = cast(Any, ray.remote(num_cpus=0, max_restarts=-1)(Board)).remote()
        self.asked = self.board.take.remote()
        options: dict[str, Any] = {"num_cpus": resources.cpus, "max_retries": 0}
        if resources.gpus:
            options |= {"num_gpus": resources.gpus, "max_calls": 1}
        self.task: Any = ray.remote(**options)(carry_out)

    def run(self, interrupts: Interrupts) -> list[Outcome]:
        while (self.waiting or self.running) and not (interrupts.seen or self.lost):
            while self.waiting and len(self.running) < self.slots:
                self.submit(*self.waiting.popleft())
            ready, _ = self.ray.wait(list(self.running), timeout=TICK)
            for ref in ready:
                self.finish(ref)
            self.look()
        if interrupts.seen or self.lost:
            self.stop()
        return self.outcomes

    def submit(self, trial: Trial, number: int) -> None:
        folder, means = self.store.folder.resolve(), Means(gpu=bool(self.resources.gpus), thrift=self.resources.thrift)
        ref = self.task.remote(pack(trial), trial.key, number, folder, self.board, self.work, means)
        self.running[ref] = _Attempt(trial=trial, number=number, since=datetime.now(UTC))

    def finish(self, ref: ObjectRef[Any]) -> None:
        """Collect a task that ended, however it did."""
        from ray.exceptions import LocalRayletDiedError, RayError

        attempt = self.running.pop(ref)
        written = False
        try:
            record, written = self.ray.get(ref)
        except LocalRayletDiedError:
            self.lost = True  # no trial can run any more: all of them are left for the next run
            log.error("Ray's own process on this machine has died: stopping")
            self.end(Outcome(trial=attempt.trial))
            return
        except RayError as error:
            blame = self.blame(attempt, error)
            if blame is None:
                self.waiting.append((attempt.trial, attempt.number + 1))
                self.watcher.retried(attempt.trial, _reason(error))
                return
            record = blame
        if not written:
            self.store.write(record)
        self.end(Outcome(trial=attempt.trial, record=record))

    def blame(self, attempt: _Attempt, error: RayError) -> Record | None:
        """The failed record of a task that ended with an error; None if the system is to blame and it may run again."""
        from ray.exceptions import RayTaskError, TaskCancelledError

        if attempt.late:
            return failed_record(attempt.trial, overdue(self.resources.timeout), attempt.since)
        by_itself = isinstance(error, RayTaskError) and not isinstance(error, TaskCancelledError)
        if not by_itself and attempt.number < ATTEMPTS:
            return None
        cause = getattr(error, "cause", None) or error
        trace = Text.from_ansi(str(error)).plain
        return failed_record(attempt.trial, cause, attempt.since, message=_reason(cause), trace=trace)

    def look(self) -> None:
        """Pass progress on, and end what takes too long."""
        latest = self.news()
        now, limit = datetime.now(UTC), self.resources.timeout
        for ref, attempt in self.running.items():
            told = latest.get((attempt.trial.key, attempt.number))
            if told and not attempt.begun:
                self.running[ref] = attempt = replace(attempt, begun=True, since=now)
                self.watcher.started(attempt.trial)
            if told and told[0]:
                self.watcher.stepped(attempt.trial, *told)
            taken = (now - attempt.since).total_seconds()
            if limit and attempt.begun and taken > limit and not attempt.late:
                self.running[ref] = replace(attempt, late=True)
                self.ray.cancel(ref, force=True)

    def news(self) -> dict[tuple[str, int], Progress]:
        """What the workers told since the last time."""
        from ray.exceptions import RayError

        if not self.ray.wait([self.asked], timeout=0)[0]:
            return {}
        try:
            news: tuple[dict[tuple[str, int], Progress], list[str]] = self.ray.get(self.asked)
        except RayError:  # the board restarts by itself; only a picture of the progress is lost
            news = {}, []
        self.asked = self.board.take.remote()
        for text in set(news[1]) - self.said:
            log.warning(text)
            self.said.add(text)
        return news[0]

    def stop(self) -> None:
        """After Ctrl-C: what is being written may end; the rest dies with the connection, and is left for the next run.

        Nothing is cancelled: a task that replies while Ray cancels it makes Ray abort the driver (2.60).
        """
        self.watcher.noted("stopping")
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=GRACE)
        for ref, attempt in self.running.items():
            self.end(Outcome(trial=attempt.trial, record=self._finished(ref)))

    def _finished(self, ref: ObjectRef[Any]) -> Record | None:
        """The record of a trial that was done when the interrupt came."""
        from ray.exceptions import RayError

        try:
            found: tuple[Record, bool] = self.ray.get(ref, timeout=0)
        except RayError:
            return None
        record, written = found
        if record.status is not Status.DONE:
            return None
        if not written:
            self.store.write(record)
        return record

    def end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.watcher.ended(outcome)


def _reason(error: Exception) -> str:
    """What happened, without Ray's pages of advice."""
    known = _REASONS.get(type(error).__name__)
    return known or str(error)
