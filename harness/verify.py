"""Is a data set whole and what it should be? Every tile read, compared with its checksums, counted by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.prepared.manifest import FILE, PART, load_part
from benchmarks.prepared.reader import PreparedReader
from benchmarks.tasks import IGNORE, DataSource, LonelyFiles, Reader, TileRef
from harness.lookup import find_task
from harness.pool import each

_CHUNK = 32
_ANEW = "run `data prepare` again, which lists the tiles anew"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What some tiles of one domain hold.

    Args:
        domain: their domain.
        tiles: how many were readable.
        scenes: names of their scenes.
        unlabelled: how many hold no labelled pixel.
        pixels: how many pixels.
        low: least value per band.
        high: greatest value per band.
        dtypes: types of the images.
        histogram: labelled pixels per class.
        faults: what is wrong, by file.
    """

    domain: str
    tiles: int = 0
    scenes: frozenset[str] = frozenset()
    unlabelled: int = 0
    pixels: int = 0
    low: npt.NDArray[np.float64] | None = None
    high: npt.NDArray[np.float64] | None = None
    dtypes: frozenset[str] = frozenset()
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE, np.int64))
    faults: tuple[str, ...] = ()

    def __add__(self, other: Found) -> Found:
        """Both together."""
        assert self.domain == other.domain, "counted by domain"
        return Found(
            domain=self.domain,
            tiles=self.tiles + other.tiles,
            scenes=self.scenes | other.scenes,
            unlabelled=self.unlabelled + other.unlabelled,
            pixels=self.pixels + other.pixels,
            low=_both(np.minimum, self.low, other.low),
            high=_both(np.maximum, self.high, other.high),
            dtypes=self.dtypes | other.dtypes,
            histogram=self.histogram + other.histogram,
            faults=(*self.faults, *other.faults),
        )


def _both(
    join: np.ufunc, first: npt.NDArray[np.float64] | None, second: npt.NDArray[np.float64] | None
) -> npt.NDArray[np.float64] | None:
    if first is None or second is None:
        return second if first is None else first
    return np.asarray(join(first, second), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The outcome: what each domain holds, every fault, and whether there were checksums to compare with."""

    source: DataSource
    domains: Sequence[Found]
    faults: Sequence[str]
    checksums: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """Some tiles of one domain as they travel to a worker."""

    task: str
    root: Path
    tiles: tuple[TileRef, ...]


def jobs(task: str, root: Path, reader: Reader, faults: list[str] | None = None) -> list[Job]:
    """All tiles of all domains, a few at a time.

    Args:
        task: name of the task.
        root: the data root.
        reader: of the data set.
        faults: takes the complaint about a domain without tiles.

    Raises:
        ValueError: a domain has no tiles, and there is no list to take the complaint.
    """
    open_once.cache_clear()  # what this process opened before may have changed since
    source = file_source(task)
    made = []
    for domain in (source.source, *source.targets):
        try:
            tiles = reader.tiles(domain)
        except ValueError as fault:
            if faults is None:
                raise
            faults.append(str(fault))
            continue
        made += [Job(task=task, root=root, tiles=tuple(tiles[i : i + _CHUNK])) for i in range(0, len(tiles), _CHUNK)]
    return made


def file_source(task: str) -> DataSource:
    """The supply of a task's real tiles, by name or task file. Raises `ValueError` if the task has none."""
    source = find_task(task).files
    if source is None:
        raise ValueError(f"task {task} has no reader for files")
    return source


def open_whole(task: str, root: Path) -> tuple[Reader, list[str]]:
    """The reader of the tiles that are whole, and a line about each file without its partner.

    Raises:
        ValueError: the data cannot be opened at all.
    """
    try:
        return file_source(task).open(root), []
    except LonelyFiles as found:
        return found.rest, list(found.faults)


@lru_cache(maxsize=1)
def open_once(task: str, root: Path) -> Reader:
    """The reader of a job's data, opened once per worker process."""
    return open_whole(task, root)[0]


def verify(
    task: str,
    work: Sequence[Job],
    workers: int,
    reader: Reader,
    on_tiles: Callable[[], None],
    known: Sequence[str] = (),
) -> Verification:
    """Read every tile of a data set once.

    Args:
        task: name of the task.
        work: its tiles, from `jobs`.
        workers: processes; 0 for one per core.
        reader: of the data set.
        on_tiles: called after every few tiles.
        known: faults that were found before.

    Raises:
        ValueError: a worker was killed.
    """
    source = file_source(task)
    by_domain = {domain: Found(domain=domain) for domain in (source.source, *source.targets)}
    for _, found in each(_examine, work, workers):
        assert isinstance(found, Found), found
        by_domain[found.domain] += found
        on_tiles()
    faults = [*known, *sorted(fault for found in by_domain.values() for fault in found.faults)]
    for found in by_domain.values():
        faults += _flat_bands(found)
    if isinstance(reader, PreparedReader):
        faults += strays(reader)
    checksums = isinstance(reader, PreparedReader)
    return Verification(source=source, domains=list(by_domain.values()), faults=faults, checksums=checksums)


def _examine(job: Job) -> Found:
    reader = open_once(job.task, job.root)
    found = Found(domain=job.tiles[0].domain)
    for tile in job.tiles:
        found += _tile(reader, tile)
    return found


def _tile(reader: Reader, tile: TileRef) -> Found:
    faults = []
    try:
        reader.check([tile], lambda: None)
    except ValueError as fault:
        faults.append(str(fault))
    try:
        sample = reader.read(tile)
    except ValueError as fault:
        return Found(domain=tile.domain, faults=tuple(dict.fromkeys([*faults, str(fault)])))
    counts = np.bincount(sample.label.reshape(-1), minlength=IGNORE + 1)[:IGNORE]
    return Found(
        domain=tile.domain,
        tiles=1,
        scenes=frozenset({tile.scene}),
        unlabelled=int(not counts.any()),
        pixels=sample.label.size,
        low=sample.image.min((0, 1)).astype(np.float64),
        high=sample.image.max((0, 1)).astype(np.float64),
        dtypes=frozenset({str(sample.image.dtype)}),
        histogram=counts.astype(np.int64),
        faults=tuple(faults),
    )


def _flat_bands(found: Found) -> list[str]:
    if found.low is None or found.high is None:
        return []
    flat = [str(i + 1) for i in np.flatnonzero(found.low == found.high)]
    if not flat:
        return []
    return [f"domain {found.domain}: band {', '.join(flat)} has one value everywhere; prepare it from whole files"]


def strays(reader: PreparedReader) -> list[str]:
    """Tile files beside the manifest that it does not list."""
    listed = {name for row in reader.manifest.tiles for name in (row.image, row.label)}
    there = {path.relative_to(reader.folder).as_posix(): path for path in reader.folder.glob("*/*/*")}
    strange = sorted(name for name in there.keys() - listed if name.endswith((".tif", ".png")) and name[0] != ".")
    made = {name for folder in {there[name].parent for name in strange} for name in _files_of(folder)}
    return [
        f"{there[name]} is not in {FILE}; {f'its scene lists it in {PART}: {_ANEW}' if name in made else 'remove it'}"
        for name in strange
    ]


def _files_of(folder: Path) -> Sequence[str]:
    """The tile files that a prepared scene says it holds."""
    part = load_part(folder / PART)
    return tuple(part.sizes) if part else ()
