"""The commands on data sets: find, check, do, show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.prepared.audit_report import report_path
from benchmarks.prepared.reader import PreparedReader
from benchmarks.recipes import RECIPES
from benchmarks.tasks import AS_IS, Described, Reader, Shift
from harness import audit_screen, data_screen
from harness.band_order import stated_bands, suspicions, unchecked
from harness.bench_setup import DataSetup
from harness.contact_sheet import make_sheet
from harness.data_info import show_sheet, show_task, task_facts
from harness.data_statistics import measure, store
from harness.lookup import find, find_scale, find_task
from harness.prepare import check_room, claim, plan_preparation, prepare_scenes, withdraw, write_manifest
from harness.progress import counting
from harness.records import replace_file
from harness.trial import shift_text
from harness.verify import file_source, jobs, open_whole
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
    if task.endswith(".toml"):
        raise ValueError(f"{task}: tiles of a task file are read as they are; go on with `data verify {task}`")
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


def bench(setup: DataSetup, *, as_json: bool) -> None:
    """Measure and show how fast a task is prepared and fed.

    Raises:
        ValueError: a wrong choice, or official files missing or damaged.
    """
    from harness.bench_data import measure, parts  # torch

    with counting("measuring", parts(setup)) as advance:
        found = measure(setup, advance)
    data_screen.show_speeds(found, setup, as_json=as_json)


def verify(task: str, *, data: Path | None, workers: int) -> int:
    """Check a prepared task, or a folder prepared for the released code.

    Returns:
        The exit code: 1 if there are faults, else 0.

    Raises:
        ValueError: a wrong name, or the data cannot be opened at all.
    """
    root = _root(task, data)
    reader, faults = open_whole(task, root)
    work = jobs(task, root, reader, faults if faults else None)
    with counting("verifying tiles", len(work)) as advance:
        found = verify_tiles(task, work, workers, reader, advance, faults)
    data_screen.show_verification(task, found, [band.name for band in find_task(task).bands])
    return int(bool(found.faults))


def audit(task: str, *, data: Path | None, workers: int, radius: int) -> int:
    """Look for common ground of source and targets; store the report, which tables cite.

    Returns:
        The exit code: 1 if there are leaks, else 0.

    Raises:
        ValueError: a wrong name or radius, or missing or defective data.
    """
    from harness.audit import audit as compare
    from harness.audit import check_radius, mark_all  # imagehash, shapely
    from harness.audit import store as store_report

    check_radius(radius)
    described, source = find_task(task), file_source(task)
    root, reader = _open(task, data)
    work = jobs(task, root, reader)
    with counting("reading tiles", len(work)) as advance:
        marks = mark_all(work, described.bands, reader, workers, advance)
    with counting("comparing source and targets", len(source.targets) + 1) as advance:
        report = compare(described.name, source, reader, marks, radius, workers, advance)
    path = report_path(described.name, reader, root)
    store_report(report, path)
    audit_screen.show_audit(report, path)
    return int(report.leaks > 0)


def stats(task: str, *, data: Path | None, workers: int) -> None:
    """Measure the bands of each domain; store it beside the manifest, if there is one.

    Raises:
        ValueError: a wrong name, or missing or defective data.
    """
    root, reader = _open(task, data)
    work = jobs(task, root, reader)
    with counting("measuring tiles", len(work)) as advance:
        found = measure(task, work, workers, reader, advance)
    path = store(found, reader) if isinstance(reader, PreparedReader) else None
    described = find_task(task)
    data_screen.show_statistics(described, found, path)
    bands = stated_bands(described, reader)
    data_screen.show_suspicions(suspicions(found, bands), unchecked(found, bands))


def _root(task: str, data: Path | None) -> Path:
    """Where a task's files lie. Raises `ValueError` if nobody says."""
    root = data or file_source(task).home
    if root is None:
        raise ValueError(f"task {task}: give --data DIR, the folder that `data prepare` was given as --out")
    return root


def _open(task: str, data: Path | None) -> tuple[Path, Reader]:
    """A task's data root and the reader of its files. Raises `ValueError` where there are none."""
    root = _root(task, data)
    return root, file_source(task).open(root)


def show(task: str, *, data: Path | None, shift: Shift, out: Path | None, tiles: int, seed: int) -> None:
    """Write a contact sheet of a task's files, or of its rendered scenes where no files are named.

    Raises:
        ValueError: a wrong name or number, missing or defective data, or a file that cannot be written.
    """
    found = find_task(task)
    path = out or Path(f"{found.name}.png")
    if path.suffix.lower() != ".png":
        raise ValueError(f"--out {path}: the sheet is a PNG; give a name that ends in .png")
    if data or found.embedded is None:
        if shift != AS_IS:
            raise ValueError("--severity and --ingredients shift synthetic scenes: drop them, or --data")
        source, (_, reader) = file_source(task), _open(task, data)
        note = ""
    else:
        scenes = find_scale("mini").shifted(shift, None).scenes
        assert scenes is not None, "the mini scale renders"
        source, reader = found.embedded, found.embedded.open(scenes)
        note = shift_text(shift)
    facts = reader.facts if isinstance(reader, Described) else task_facts(found, source)
    with counting("choosing tiles", 1 + len(source.targets)) as advance:
        sheet = make_sheet(found, source, reader, facts, count=tiles, seed=seed, note=note, on_domain=advance)
    from harness.contact_drawing import draw  # matplotlib

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, draw(sheet))
    except OSError as error:
        raise ValueError(f"--out {path} cannot be written ({error.strerror}); give another place") from error
    show_sheet(sheet, path)


def info(task: str) -> None:
    """Print what there is to know of a task. Raises `ValueError` for a wrong name or task file."""
    show_task(find_task(task), task)
