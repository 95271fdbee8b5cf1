"""The commands on data sets: find, check, do, show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.catalogue import TASKS
from benchmarks.prepared.reader import PreparedReader
from benchmarks.recipes import RECIPES
from harness import data_screen
from harness.data_statistics import measure, store
from harness.lookup import find
from harness.prepare import check_room, claim, plan_preparation, prepare_scenes, withdraw, write_manifest
from harness.progress import counting
from harness.verify import file_source, jobs
from harness.verify import verify as verify_tiles


def prepare(
    task: str,
    *,
    raw: Path,
    out: Path,
    workers: int,
    tile_px: int,
    choose: Sequence[str],
    extras: Mapping[str, Path],
) -> None:
    """Prepare a task's tiles from its official files, or go on where a killed run stopped.

    `extras` are files that the user brings beside the official ones, by the option that names them.

    Raises:
        ValueError: a wrong name or choice; official files missing, damaged or not as they should be; no room.
    """
    find("task with a recipe", task, RECIPES)
    plan = plan_preparation(task, raw, out, tile_px, choose, extras)
    with claim(plan.folder):
        todo = plan.todo
        need, free = check_room(plan, todo)
        data_screen.show_preparation(plan, len(todo), need, free)
        withdraw(plan, todo)
        with counting("preparing scenes", len(todo)) as advance:
            prepare_scenes(plan, todo, workers, advance)
        manifest = write_manifest(plan)
    data_screen.show_prepared(plan, manifest)


def verify(task: str, *, data: Path, workers: int) -> int:
    """Check a prepared task, or a folder prepared for the released code.

    Returns:
        The exit code: 1 if there are faults, else 0.

    Raises:
        ValueError: a wrong name, or the data cannot be opened at all.
    """
    find("task", task, TASKS)
    reader = file_source(task).open(data)
    work = jobs(task, data, reader)
    with counting("verifying tiles", len(work)) as advance:
        found = verify_tiles(task, work, workers, reader, advance)
    data_screen.show_verification(task, found)
    return int(bool(found.faults))


def stats(task: str, *, data: Path, workers: int) -> None:
    """Measure the bands of each domain; store it beside the manifest, if there is one.

    Raises:
        ValueError: a wrong name, or missing or defective data.
    """
    find("task", task, TASKS)
    reader = file_source(task).open(data)
    work = jobs(task, data, reader)
    with counting("measuring tiles", len(work)) as advance:
        found = measure(task, work, workers, reader, advance)
    path = store(found, reader) if isinstance(reader, PreparedReader) else None
    data_screen.show_statistics(TASKS[task], found, path)
