"""What runs in Ray's worker processes: one trial per task, and the board that all of them report to."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.lookup import unpack
from harness.means import Means
from harness.records import Record, RecordStore
from harness.schedule import Work, at_work, gpu_lack
from harness.status import Status

if TYPE_CHECKING:  # Ray costs a second to import; the driver does so when it needs it
    from ray.actor import ActorHandle

PERIOD = 0.25
"""Seconds between two reports of a trial."""

Progress = tuple[int, int, float]
"""Step, number of steps, loss; step 0 when a trial begins."""


class Board:
    """The actor that workers tell their steps to."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, int], Progress] = {}
        self._said: list[str] = []

    def put(self, key: str, attempt: int, progress: Progress) -> None:
        """Where an attempt at the trial of that key stands."""
        self._latest[key, attempt] = progress

    def say(self, text: str) -> None:
        """Something the user must know."""
        self._said.append(text)

    def take(self) -> tuple[dict[tuple[str, int], Progress], list[str]]:
        """The newest of each attempt, and what was said, since the last time."""
        taken = (self._latest, self._said)
        self._latest, self._said = {}, []
        return taken


def carry_out(
    parcel: Mapping[str, Any], key: str, attempt: int, folder: Path, board: ActorHandle[Board], work: str, means: Means
) -> tuple[Record, bool]:
    """One task: run a trial, write its record if it is done.

    Args:
        parcel: the trial, packed.
        key: its key.
        attempt: its number, because what a dead worker told may arrive after its successor was sent out.
        folder: the records; a machine that does not see it leaves the writing to the driver.
        board: where to report.
        work: `module:function` that makes the record.
        means: what it is given, but for the file halfway, which lies beside the records.

    Returns:
        The record, and whether it is written.
    """
    run: Work = pkgutil.resolve_name(work)  # a new process imports torch here, which is not the trial's time
    board.put.remote(key, attempt, (0, 0, 0.0))
    if means.gpu and (lack := gpu_lack()):
        board.say.remote(lack)
    reported = time.monotonic()

    def report(step: int, steps: int, loss: float) -> None:
        nonlocal reported
        if time.monotonic() - reported > PERIOD:
            reported = time.monotonic()
            board.put.remote(key, attempt, (step, steps, loss))

    shared = folder.is_dir()
    with at_work(folder.parent) if shared else nullcontext():
        trial = unpack(parcel)
        assert trial.key == key, "a trial changed on its way to the worker"
        halfway = RecordStore(folder).halfway(key) if shared else None
        record = run(trial, report, replace(means, halfway=halfway))
        # a failed record is the driver's to write, which warns if it would replace a done one
        written = shared and record.status is Status.DONE and _written(RecordStore(folder), record)
    # weights are large, and the driver needs them only to write them
    return replace(record, attachments={}) if written else record, written


def _written(store: RecordStore, record: Record) -> bool:
    try:
        store.write(record)
    except ValueError:
        return False  # the driver tries again, and tells what is wrong
    return True
