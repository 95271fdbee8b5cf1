"""Tasks: one source domain, several target domains, and where their tiles come from.

Nothing here imports torch, so that listing and planning stay instant.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from benchmarks.legends import FBP_24, SCENES_7

IGNORE = 255
"""The label value of pixels that count nowhere."""

ImageHWC = npt.NDArray[np.uint8]
LabelHW = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Band:
    """One spectral band: its name and its centre wavelength in micrometres."""

    name: str
    centre_um: float


@dataclass(frozen=True, kw_only=True)
class TileRef:
    """Names one tile: its domain, the scene it was cut from (the unit of splits and bootstrap) and its own name."""

    domain: str
    scene: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One tile's pixels: image [H, W, bands] and label [H, W], class indices or `IGNORE`."""

    image: ImageHWC
    label: LabelHW


@dataclass(frozen=True, kw_only=True)
class SceneSizes:
    """How many embedded scenes a scale asks for, and their sizes in pixels (a scene is cut into square tiles)."""

    source_scenes: int
    target_scenes: int
    scene_px: int
    tile_px: int


class Reader(Protocol):
    """What every data set answers. Errors of the data are `ValueError`s naming the file, the value and the remedy."""

    @property
    def fingerprint(self) -> str:
        """A short hash of what the data are; equal fingerprints mean equal tiles."""

    def tiles(self, domain: str) -> list[TileRef]:
        """All tiles of a domain, in a fixed order."""

    def read(self, tile: TileRef) -> Sample:
        """The pixels of one tile."""

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        """Raise the first defect among the tiles; `on_tile` is called after each, for a progress bar."""


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One supply of a task's tiles.

    Args:
        kind: `embedded` (rendered on the spot) or `files` (read below `--data-root`).
        title: what the tiles are, for the heading of tables.
        opener: `module:function`; called with `SceneSizes` (embedded) or the data root (files), returns a `Reader`.
        classes: class names in index order.
        source: name of the source domain.
        targets: names of the target domains.
        sensors: for people, the sensor behind each domain's name.
    """

    kind: str
    title: str
    opener: str
    classes: tuple[str, ...]
    source: str
    targets: tuple[str, ...]
    sensors: Mapping[str, str]

    def open(self, where: SceneSizes | Path) -> Reader:
        """Open the tiles. Raises `ValueError` where the data are missing or defective."""
        module, function = self.opener.split(":")
        return cast(Reader, getattr(importlib.import_module(module), function)(where))


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task. `version` rises whenever numbers can change; it is part of the trial key.

    Args:
        bands: the bands of the source domain in file order; targets are read by the same order.
        embedded: synthetic stand-in, or None.
        files: the published data set, or None.
    """

    name: str
    title: str
    version: int
    bands: tuple[Band, ...]
    embedded: DataSource | None = None
    files: DataSource | None = None


_SENSORS = {"gf2": "GF-2", "planetscope": "PlanetScope", "gf1": "GF-1", "sentinel2": "Sentinel-2"}

FBP_CS = Task(
    name="fbp_cs",
    title="land cover across sensors: GF-2 to PlanetScope, GF-1 and Sentinel-2",
    version=1,
    bands=(
        Band(name="NIR", centre_um=0.83),
        Band(name="R", centre_um=0.66),
        Band(name="G", centre_um=0.555),
        Band(name="B", centre_um=0.485),
    ),
    embedded=DataSource(
        kind="embedded",
        title="rendered scenes in the shape of Five-Billion-Pixels cross-sensor",
        opener="benchmarks.synthetic.scenes:open_scenes",
        classes=SCENES_7,
        source="gf2",
        targets=("planetscope", "gf1", "sentinel2"),
        sensors=_SENSORS,
    ),
    files=DataSource(
        kind="files",
        title="Five-Billion-Pixels cross-sensor",
        opener="benchmarks.datasets.fbp:open_fbp",
        classes=tuple(FBP_24),
        source="gf2",
        targets=("planetscope", "gf1", "sentinel2"),
        sensors=_SENSORS,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in (FBP_CS,)}
