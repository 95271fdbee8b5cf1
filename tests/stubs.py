"""Work that costs nothing, for tests of scheduling: torch-free, so that a new worker process is ready in a second."""

from __future__ import annotations

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from harness.means import Means
from harness.plan import Request, make_plan
from harness.records import Record, RecordStore, surroundings
from harness.schedule import Executor, Outcome, Report, Resources, Watcher
from harness.status import Status
from harness.trial import Trial

HOG_STEP = 100 * 2**20
HOG_MOST = 6 * 2**30
PAUSE = 0.6
"""Longer than workers wait between two reports."""
FATES = ("fine", "raises", "hangs", "dies", "dies once", "fine too")
"""What `fateful` does with a trial, by its seed."""


def stub_trials(number: int, scratch: Path) -> list[Trial]:
    """Trials that differ by their seed; embedded ones have no use for a data root, so stubs take notes in it."""
    request = Request(suite="smoke", scale="test", methods=["frozen"], seeds=number)
    return [replace(trial, data_root=scratch) for trial in make_plan(request, None).pending]


def stubbed(run: Callable[..., list[Outcome]], work: str, scratch: Path) -> Executor:
    """An executor of the program that does a stub's work, for `harness.driver.EXECUTORS`."""

    def execute(trials: Sequence[Trial], store: RecordStore, watcher: Watcher, resources: Resources) -> list[Outcome]:
        noted = [replace(trial, data_root=scratch) for trial in trials]
        return run(noted, store, watcher, resources, work=f"tests.stubs:{work}")

    return execute


def done(trial: Trial, started: datetime, **run: Any) -> Record:
    """A small whole record, from which tables can be built."""
    domains = ("source_val", *trial.data.targets)
    scores = {name: {"miou": 10.0 + trial.seed, "macc": 50.0} for name in (*domains, "target")}
    return Record(
        key=trial.key,
        status=Status.DONE,
        result={
            "inputs": trial.inputs(),
            "labels": trial.labels(),
            "parameters": {"adapter": 0},
            "tiles": {"domain": list(domains), "scene": list(domains), "name": list(domains)},
            "selections": {name: {"step": 1, "scores": scores} for name in ("last", "oracle", "source_val")},
        },
        run={**surroundings(started), **run},
        arrays={"areas/1": np.full((len(domains), len(trial.data.classes), 3), 10 + trial.seed)},
    )


def begins(trial: Trial) -> int:
    """Note in the scratch folder that the trial begins; returns how often it did before."""
    assert trial.data_root is not None
    earlier = starts(trial.data_root, trial.seed)
    with (trial.data_root / f"{trial.seed}.starts").open("a") as file:
        file.write("began\n")
    return earlier


def starts(scratch: Path, seed: int) -> int:
    """How often the trial of that seed began."""
    path = scratch / f"{seed}.starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def probe(trial: Trial, _report: Report, means: Means) -> Record:
    """Tell about the process that does it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return done(trial, datetime.now(UTC), pid=os.getpid(), visible=visible, gpu=means.gpu, torch="torch" in sys.modules)


def fateful(trial: Trial, _report: Report, _means: Means) -> Record:
    """Meet the fate that the seed names."""
    earlier = begins(trial)
    match FATES[trial.seed]:
        case "raises":
            raise RuntimeError("broken on purpose\nin two lines [bold]and markup[/bold]")
        case "hangs":
            time.sleep(600)
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "dies once" if not earlier:
            os.kill(os.getpid(), signal.SIGKILL)
    return done(trial, datetime.now(UTC))


def hanging(trial: Trial, _report: Report, _means: Means) -> Record:
    """Hang with seed 1."""
    begins(trial)
    time.sleep(600 * (trial.seed == 1))
    return done(trial, datetime.now(UTC))


def stepping(trial: Trial, report: Report, _means: Means) -> Record:
    """Make steps that are long enough to be seen."""
    started = datetime.now(UTC)
    for step in range(1, 4):
        time.sleep(PAUSE)
        report(step, 3, 1.0 / step)
    time.sleep(PAUSE)
    return done(trial, started)


def unheard(trial: Trial, report: Report, _means: Means) -> Record:
    """Be done with seed 0; with the others be interrupted where Python swallows what a handler raises."""
    started = datetime.now(UTC)
    step = 0
    while trial.seed:
        watched = set[int]()
        weakref.finalize(watched, signal.raise_signal, signal.SIGINT)
        del watched
        report(step := step + 1, 1000, 1.0)
    return done(trial, started)


def endless(trial: Trial, report: Report, _means: Means) -> Record:
    """Be done with seed 0; with the others step on until interrupted."""
    started = datetime.now(UTC)
    for step in range(1, 0 if trial.seed == 0 else 6000):
        if step == 3:
            begins(trial)
        time.sleep(0.1)
        report(step, 6000, 1.0)
    return done(trial, started)


def stubborn(trial: Trial, report: Report, means: Means) -> Record:
    """The same, but no interrupt gets through: as in a library that swallows it."""
    while True:
        try:
            return endless(trial, report, means)
        except BaseException:
            assert trial.data_root is not None
            (trial.data_root / "swallowed").touch()


def hog(trial: Trial, _report: Report, _means: Means) -> Record:
    """Be done, but for seed 0, which takes memory until there is none."""
    begins(trial)
    taken = []
    while trial.seed == 0 and len(taken) * HOG_STEP < HOG_MOST:
        taken.append(np.ones(HOG_STEP, dtype=np.uint8))
        time.sleep(0.05)
    return done(trial, datetime.now(UTC))


class Notes:
    """A watcher that keeps what it is told, in order."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.events: list[tuple[str, Trial]] = []
        self.steps: list[tuple[int, int]] = []

    def noted(self, text: str) -> None:
        """Of no interest here."""

    def started(self, trial: Trial) -> None:
        """Keep it."""
        self.events.append(("started", trial))

    def stepped(self, trial: Trial, step: int, steps: int, loss: float) -> None:
        """Keep it."""
        self.events.append(("stepped", trial))
        self.steps.append((step, steps))

    def retried(self, trial: Trial, reason: str) -> None:
        """Keep it."""
        self.events.append(("retried", trial))

    def ended(self, outcome: Outcome) -> None:
        """Keep it."""
        self.events.append(("ended", outcome.trial))
