"""Tasks: one source domain, several target domains, and where their tiles come from.

Nothing here imports torch, so that listing and planning stay instant.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from benchmarks.legends import FBP_24, ISPRS_6, LOVEDA_7
from benchmarks.synthetic.mirrors import MIRRORS

IGNORE = 255
"""The label value of pixels that count nowhere."""


class AbsentData(ValueError):
    """A data root holds nothing of a task: no defect, unless the user asked for that task by name."""


ImageHWC = npt.NDArray[np.uint8 | np.uint16 | np.float32]
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


INGREDIENTS = ("sensor", "haze", "season", "illumination", "composition", "resolution")
"""What the shift of an embedded task is made of."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How far the target domains of embedded scenes lie from the source.

    Args:
        severity: 0 for targets like the source, 1 for the task as it is, and anything between.
        ingredients: what of the shift applies; the rest stays as in the source.
    """

    severity: float = 1.0
    ingredients: tuple[str, ...] = INGREDIENTS

    def __post_init__(self) -> None:
        """Refuse what is no shift, and bring the ingredients into order."""
        if not 0 <= self.severity <= 1:
            raise ValueError(f"--severity {self.severity}: give a number from 0 to 1")
        for name in self.ingredients:
            if name not in INGREDIENTS:
                raise ValueError(f"--ingredients {name}: unknown (known: {', '.join(INGREDIENTS)})")
        if not self.ingredients:
            raise ValueError("--ingredients: name at least one; for none of the shift, give --severity 0")
        ordered = tuple(name for name in INGREDIENTS if name in self.ingredients)
        object.__setattr__(self, "severity", float(self.severity))
        object.__setattr__(self, "ingredients", ordered if self.severity else INGREDIENTS)


AS_IS = Shift()
"""Every task as it is."""


@dataclass(frozen=True, kw_only=True)
class SceneSizes:
    """How many embedded scenes a scale asks for, and their sizes in pixels (a scene is cut into square tiles).

    Args:
        shift: how far the targets lie from the source; no size, but as much a part of the data.
    """

    source_scenes: int
    target_scenes: int
    scene_px: int
    tile_px: int
    shift: Shift = AS_IS


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


@runtime_checkable
class Normalised(Protocol):
    """A reader that may hold stored statistics of its source."""

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation per band in digital numbers, or None."""


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


def _embedded(task: str) -> DataSource:
    """The synthetic mirror of a task."""
    mirror = MIRRORS[task]
    return DataSource(
        kind="embedded",
        title=mirror.title,
        opener=f"benchmarks.synthetic.scenes:open_{task}",
        classes=tuple(mirror.legend),
        source=mirror.source,
        targets=mirror.targets,
        sensors=mirror.domains,
    )


def _rgb(red_um: float, green_um: float, blue_um: float) -> tuple[Band, ...]:
    return (
        Band(name="R", centre_um=red_um),
        Band(name="G", centre_um=green_um),
        Band(name="B", centre_um=blue_um),
    )


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
    embedded=_embedded("fbp_cs"),
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

_OHS_UM = (
    *(0.466, 0.480, 0.500, 0.520, 0.536, 0.550, 0.566, 0.580, 0.596, 0.610, 0.626, 0.640, 0.656, 0.670, 0.686, 0.700),
    *(0.716, 0.730, 0.746, 0.760, 0.776, 0.790, 0.806, 0.820, 0.836, 0.850, 0.866, 0.880, 0.896, 0.910, 0.926, 0.940),
)

WHU_OHS_CR = Task(
    name="whu_ohs_cr",
    title="hyperspectral land cover across regions",
    version=1,
    bands=tuple(Band(name=f"b{number}", centre_um=um) for number, um in enumerate(_OHS_UM, 1)),
    embedded=_embedded("whu_ohs_cr"),
)

FBP_CR = Task(
    name="fbp_cr",
    title="land cover across regions of GF-2",
    version=1,
    bands=FBP_CS.bands,
    embedded=_embedded("fbp_cr"),
)

FLAIR_CR = Task(
    name="flair_cr",
    title="aerial land cover across regions",
    version=1,
    bands=(*_rgb(0.635, 0.55, 0.47), Band(name="NIR", centre_um=0.8)),
    embedded=_embedded("flair_cr"),
)

LOVEDA_R2U = Task(
    name="loveda_r2u",
    title="land cover from rural to urban scenes",
    version=1,
    bands=_rgb(0.65, 0.55, 0.47),
    embedded=_embedded("loveda_r2u"),
    files=DataSource(
        kind="files",
        title="LoveDA, rural to urban",
        opener="benchmarks.datasets.loveda:open_loveda",
        classes=tuple(LOVEDA_7),
        source="rural",
        targets=("urban",),
        sensors={"rural": "Google Earth", "urban": "Google Earth"},
    ),
)

POTSDAM2VAIHINGEN = Task(
    name="potsdam2vaihingen",
    title="aerial land cover from R, G, B to NIR, R, G, by their places in the file",
    version=1,
    bands=_rgb(0.635, 0.55, 0.47),
    embedded=_embedded("potsdam2vaihingen"),
    files=DataSource(
        kind="files",
        title="ISPRS Potsdam to Vaihingen",
        opener="benchmarks.datasets.isprs:open_isprs",
        classes=tuple(ISPRS_6),
        source="potsdam",
        targets=("vaihingen",),
        sensors={"potsdam": "aerial, RGB", "vaihingen": "aerial, NIR-R-G"},
    ),
)

OEM_CC = Task(
    name="oem_cc",
    title="land cover across continents, to Europe",
    version=1,
    bands=_rgb(0.65, 0.55, 0.47),
    embedded=_embedded("oem_cc"),
)

TASKS: dict[str, Task] = {
    task.name: task for task in (FBP_CS, WHU_OHS_CR, FBP_CR, FLAIR_CR, LOVEDA_R2U, POTSDAM2VAIHINGEN, OEM_CC)
}
