"""The executor `ray`: one core task per trial and one wait loop, on this machine or on a running cluster.

On CPU a worker process serves many trials, because imports cost seconds; on GPU each trial has a process of its own,
because a process keeps the GPU memory it once had. Ray retries nothing: what the system failed runs once more, what
raised does not.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from rich.text import Text

from harness.lookup import pack
from harness.records import Record, RecordStore, failed_record
from harness.schedule import RUN_TRIAL, Interrupts, Outcome, Resources, Watcher, overdue
from harness.status import Status
from harness.trial import Trial
from harness.worker import Board, Progress, carry_out

if TYPE_CHECKING:  # Ray costs a second to import, and a cached suite does not need it
    from ray import ObjectRef

log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at the progress."""
GRACE = 5.0
"""Seconds that interrupted trials have to end by themselves."""
HEALTH_SECONDS = 15.0
"""How long a cluster may take to answer."""
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
    with _connected(resources), Interrupts(at_once=False) as interrupts:
        slots = _slots(resources)
        watcher.noted("starting workers")
        return _Loop(trials, store, watcher, resources, work, slots).run(interrupts)


@contextmanager
def _connected(resources: Resources) -> Iterator[None]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # its pages on dead workers; the loop tells in a line
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died|were killed")
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if resources.address:
        _reach(resources.address)
        try:
            ray.init(address=resources.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"--address {resources.address}: no Ray cluster answers ({error}); start one with `ray start --head`, "
                f"or drop --address"
            ) from error
    else:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else can reach it
        # the object store carries records alone, and containers have little shared memory
        ray.init("local", include_dashboard=False, object_store_memory=256 * 2**20, **quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Try the port and Ray's own check first: `ray.init` gives up only after two minutes, by ending the process."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit() or "/" in host:
        raise ValueError(f"--address {address}: write HOST:PORT of a Ray cluster's head, or auto")
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
        ended = subprocess.run(check, capture_output=True, text=True, check=False, timeout=HEALTH_SECONDS)
        if not ended.returncode:
            return
        reason = "".join(ended.stderr.strip().splitlines()[-1:])
    except OSError as error:
        reason = str(error)
    except subprocess.TimeoutExpired:
        reason = f"nothing said for {HEALTH_SECONDS:g} s"
    raise ValueError(
        f"--address {address}: no Ray cluster answers there ({reason}); start one with `ray start --head`, or drop "
        f"--address"
    )


def _slots(resources: Resources) -> int:
    """How many trials run at the same time.

    Raises:
        ValueError: the cluster has not what is asked for.
    """
    import ray

    gpus = resources.gpus or 0.0
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    most = sum(_fitting(node, resources.cpus, gpus) for node in nodes)
    has = f"the cluster has {_amount(nodes, 'CPU')} CPUs and {_amount(nodes, 'GPU')} GPUs on {len(nodes)} machine(s)"
    asked = f"--cpus-per-trial {resources.cpus} --gpus-per-trial {gpus:g}"
    if not most:
        hint = "--gpus-per-trial 0 runs on CPU" if gpus else "ask for less"
        raise ValueError(f"{asked}: no machine can run one trial, {has}; {hint}")
    if resources.workers > most:
        raise ValueError(
            f"--workers {resources.workers} with {asked}: {has}, enough for {most} at once; lower --workers"
        )
    return resources.workers or most


def _fitting(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0.0) // cpus)
    if not gpus:
        return by_cpu
    have = int(node.get("GPU", 0.0))
    return min(by_cpu, int(have // gpus) if gpus >= 1 else have * int(1 / gpus))


def _amount(nodes: Sequence[Mapping[str, float]], kind: str) -> int:
    return int(sum(node.get(kind, 0.0) for node in nodes))


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
        self.board = cast(Any, ray.remote(num_cpus=0, max_restarts=-1)(Board)).remote()
        self.asked = self.board.take.remote()
        options: dict[str, Any] = {"num_cpus": resources.cpus, "max_retries": 0}
        if resources.gpus:
            options |= {"num_gpus": resources.gpus, "max_calls": 1}
        self.task: Any = ray.remote(**options)(carry_out)

    def run(self, interrupts: Interrupts) -> list[Outcome]:
        while (self.waiting or self.running) and not interrupts.seen:
            while self.waiting and len(self.running) < self.slots:
                self.submit(*self.waiting.popleft())
            ready, _ = self.ray.wait(list(self.running), timeout=TICK)
            for ref in ready:
                self.finish(ref)
            self.look()
        if interrupts.seen:
            self.stop()
        return self.outcomes

    def submit(self, trial: Trial, number: int) -> None:
        ref = self.task.remote(
            pack(trial), trial.key, self.store.folder.resolve(), self.board, self.work, bool(self.resources.gpus)
        )
        self.running[ref] = _Attempt(trial=trial, number=number, since=datetime.now(UTC))

    def finish(self, ref: ObjectRef[Any]) -> None:
        """Collect a task that ended, however it did."""
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        attempt = self.running.pop(ref)
        trial, written = attempt.trial, False
        try:
            record, written = self.ray.get(ref)
        except RayError as error:
            by_itself = isinstance(error, RayTaskError) and not isinstance(error, TaskCancelledError)
            if attempt.late:
                record = failed_record(trial, overdue(self.resources.timeout), attempt.since)
            elif not by_itself and attempt.number < ATTEMPTS:
                self.waiting.append((trial, attempt.number + 1))
                self.watcher.retried(trial, _reason(error))
                return
            else:
                cause = getattr(error, "cause", None) or error
                trace = Text.from_ansi(str(error)).plain
                record = failed_record(trial, cause, attempt.since, message=_reason(cause), trace=trace)
        if not written:
            self.store.write(record)
        self.end(Outcome(trial=trial, status=record.status, record=record))

    def look(self) -> None:
        """Pass progress on, and end what takes too long."""
        latest = self.news()
        now, limit = datetime.now(UTC), self.resources.timeout
        for ref, attempt in self.running.items():
            told = latest.get(attempt.trial.key)
            if told and not attempt.begun:
                self.running[ref] = attempt = replace(attempt, begun=True, since=now)
                self.watcher.started(attempt.trial)
            if told and told[0]:
                self.watcher.stepped(attempt.trial, *told)
            taken = (now - attempt.since).total_seconds()
            if limit and attempt.begun and taken > limit and not attempt.late:
                self.running[ref] = replace(attempt, late=True)
                self.ray.cancel(ref, force=True)

    def news(self) -> dict[str, Progress]:
        """What the workers told since the last time."""
        from ray.exceptions import RayError

        if not self.ray.wait([self.asked], timeout=0)[0]:
            return {}
        try:
            news: tuple[dict[str, Progress], list[str]] = self.ray.get(self.asked)
        except RayError:  # the board restarts by itself; only a picture of the progress is lost
            news = {}, []
        self.asked = self.board.take.remote()
        for text in set(news[1]) - self.said:
            log.warning(text)
            self.said.add(text)
        return news[0]

    def stop(self) -> None:
        """After Ctrl-C: running trials may end what they are writing; the rest is left for the next run."""
        self.watcher.noted("stopping (Ctrl-C again: at once)")
        for ref in self.running:
            self.ray.cancel(ref)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=GRACE)
        for ref, attempt in self.running.items():
            self.ray.cancel(ref, force=True)
            record = self._finished(ref)
            status = record.status if record else Status.INTERRUPTED
            self.end(Outcome(trial=attempt.trial, status=status, record=record))

    def _finished(self, ref: ObjectRef[Any]) -> Record | None:
        """The record of a trial that was done when the interrupt came."""
        from ray.exceptions import RayError

        try:
            record, written = self.ray.get(ref, timeout=0)
        except RayError:
            return None
        return record if written else None

    def end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.watcher.ended(outcome)


def _reason(error: Exception) -> str:
    """What happened, without Ray's pages of advice."""
    known = _REASONS.get(type(error).__name__)
    return known or str(error)
