"""How fast data are prepared and fed, per core, beside plainly reading (and writing) the same files.

Machines differ and are shared: what is measured and the plain reading take turns, and only ratios of neighbours are
compared. Bytes per second of our own CPU time say which disks keep up.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import threadpoolctl
import torch

from benchmarks.catalogue import TASKS
from benchmarks.prepared.raw import RawFile
from benchmarks.prepared.reader import PreparedReader, open_prepared
from benchmarks.prepared.recipe import Scene
from benchmarks.tasks import Task, TileRef
from harness.bench_files import CHOICES, TILE_PX, write_official, write_tiles
from harness.bench_setup import BANDS, DataSetup
from harness.pipeline import Statistics, train_batches
from harness.prepare import Plan, plan_preparation, prepare_scenes, write_manifest
from harness.scales import SCALES, Protocol

_PASSES = 2
_MOST_TILES = 96

Times = tuple[float, float]
"""Seconds by wall clock and of CPU."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast one thing goes on one core, medians over the repeats.

    Args:
        what: `prepare`, `reader` (files to arrays) or `pipeline` (reader, recipe, pack, collate).
        recipe: what the pipeline does to each tile, by the task's protocol at scale paper; of others empty.
        bands: of the tiles.
        tiles: how many a repeat handles.
        megabytes: that it reads and writes (10^6 bytes).
        tiles_per_second: by wall clock.
        plain_tiles_per_second: of plainly reading, and for `prepare` writing, the same bytes.
        ratio: median over the repeats of its time over that of the plain reading just before.
        ratio_low: their lower quartile.
        ratio_high: their upper quartile.
        cpu_ratio: the like of CPU times, which depends less on who else is at work.
        cpu_megabytes_per_second: `megabytes` by CPU time: a disk that is slower is what one waits for.
    """

    what: str
    recipe: str
    bands: int
    tiles: int
    megabytes: float
    tiles_per_second: float
    plain_tiles_per_second: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ratio: float
    cpu_megabytes_per_second: float


def measure(setup: DataSetup, on_part: Callable[[], None]) -> list[Speed]:
    """Prepare and feed what a setup says, in a temporary folder; `on_part` is called after each of its `parts`.

    Raises:
        ValueError: a wrong choice, or official files missing or damaged.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw, choose = setup.raw, setup.choose
        if raw is None:
            raw, choose = folder / "raw", (*CHOICES, *choose)
            write_official(raw)
        plan = plan_preparation(setup.task, raw, folder / "data", TILE_PX, choose, setup.extras)
        plan = _some_scenes(plan, setup.scenes)
        found = [_measure_prepare(plan, setup.repeats)]
        on_part()
        reader = open_prepared(plan.folder.parent, setup.task)
        source = reader.tiles(reader.manifest.tiles[0].domain)
        found += _measure_feeding(reader, source, TASKS[setup.task], setup.repeats)
        on_part()
        for number in setup.bands:
            task, dtype = BANDS[str(number)]
            made = folder / "made"
            made.mkdir()
            reader = write_tiles(made, TASKS[task], dtype)
            found += _measure_feeding(reader, reader.tiles("made"), TASKS[task], setup.repeats)
            shutil.rmtree(made)
            on_part()
    return found


def parts(setup: DataSetup) -> int:
    """How often `measure` says that it got on."""
    return 2 + len(setup.bands)


def _some_scenes(plan: Plan, per_domain: int) -> Plan:
    """A plan of the first few scenes of each domain."""
    chosen: dict[str, list[Scene]] = defaultdict(list)
    for scene in plan.scenes:
        chosen[scene.domain] += [scene] * (len(chosen[scene.domain]) < per_domain)
    return replace(plan, scenes=[scene for scenes in chosen.values() for scene in scenes])


def _measure_prepare(plan: Plan, repeats: int) -> Speed:
    """Time `data prepare` in this process; leaves the tiles and their manifest in the plan's folder."""
    files = [file for scene in plan.scenes for file in scene.files]
    _prepare(plan)
    manifest = write_manifest(plan)
    written = [plan.folder / name for row in manifest.tiles for name in (row.image, row.label)]
    data = [path.read_bytes() for path in written]
    copies = plan.folder.with_name("copies")

    def plain() -> None:
        for file in files:
            _read(file)
        copies.mkdir()
        for number, content in enumerate(data):
            with (copies / str(number)).open("wb") as copy:
                copy.write(content)
                copy.flush()
                os.fsync(copy.fileno())  # as prepare does: nothing half-written is ever taken for whole

    def clear() -> None:
        shutil.rmtree(copies, ignore_errors=True)
        shutil.rmtree(plan.folder)

    samples = []
    for _ in range(repeats):
        clear()
        samples.append([_clocked(plain), _clocked(lambda: _prepare(plan))])
    shutil.rmtree(copies)
    write_manifest(plan)
    bands = len(next(iter(plan.recipe.domains.values())).bands)
    volume = sum(file.size for file in files) + sum(map(len, data))
    return _speed("prepare", bands, len(manifest.tiles), volume, [(plain, own) for plain, own in samples])


def _prepare(plan: Plan) -> None:
    plan.folder.mkdir(parents=True, exist_ok=True)
    prepare_scenes(plan, plan.scenes, 1, lambda: None)


def _read(file: RawFile) -> None:
    with file.open() as stream:
        stream.read()


def _measure_feeding(reader: PreparedReader, tiles: Sequence[TileRef], task: Task, repeats: int) -> list[Speed]:
    """Time the reader and the training pipeline of the paper scale over prepared tiles, in this process."""
    protocol = SCALES["paper"].protocol_of(task)
    steps = max(1, min(_MOST_TILES, _PASSES * len(tiles)) // protocol.batch_size)
    shown = list(islice(cycle(tiles), steps * protocol.batch_size))
    paths = [reader.folder / name for row in map(reader.row, shown) for name in (row.image, row.label)]
    statistics = Statistics(mean=(100.0,) * len(task.bands), std=(60.0,) * len(task.bands))
    classes = reader.manifest.header.classes

    def plain() -> None:
        _exhaust(path.read_bytes() for path in paths)

    def read() -> None:
        _exhaust(map(reader.read, shown))

    def feed() -> None:
        _exhaust(train_batches(reader, task, classes, tiles, statistics, protocol, steps=steps, seed=0, workers=0))

    with _one_thread():
        feed()
        samples = [[_clocked(step) for step in (plain, read, plain, feed)] for _ in range(repeats)]
    volume = sum(path.stat().st_size for path in paths)
    return [
        _speed(what, len(task.bands), len(shown), volume, [(sample[i], sample[i + 1]) for sample in samples], recipe)
        for what, i, recipe in (("reader", 0, ""), ("pipeline", 2, _recipe(protocol)))
    ]


def _recipe(protocol: Protocol) -> str:
    steps = [f"resize by {min(protocol.resize):g} to {max(protocol.resize):g}"] if protocol.resize else []
    steps += ["crop", *["flip"] * protocol.flip, *["jitter"] * bool(protocol.photometric)]
    return ", ".join(steps)


@contextmanager
def _one_thread() -> Iterator[None]:
    """As trials run."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _exhaust(items: Iterable[object]) -> None:
    deque(items, maxlen=0)


def _clocked(step: Callable[[], None]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def _speed(
    what: str, bands: int, tiles: int, volume: int, samples: Sequence[tuple[Times, Times]], recipe: str = ""
) -> Speed:
    plain, own, cpu = (median(times) for times in zip(*((p[0], *o) for p, o in samples), strict=True))
    low, middle, high = (float(q) for q in np.percentile([o[0] / p[0] for p, o in samples], (25, 50, 75)))
    return Speed(
        what=what,
        recipe=recipe,
        bands=bands,
        tiles=tiles,
        megabytes=volume / 1e6,
        tiles_per_second=tiles / own,
        plain_tiles_per_second=tiles / plain,
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        cpu_ratio=median(o[1] / p[1] for p, o in samples),
        cpu_megabytes_per_second=volume / 1e6 / cpu,
    )
