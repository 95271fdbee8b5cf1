"""What a task is: one source domain, several target domains, and where their tiles come from.

The tasks themselves are in `benchmarks.catalogue`, what their official files hold in `benchmarks.recipes`.

Nothing here imports torch, so that listing and planning stay instant.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # its checks cost time to import, and only some commands need them
    from benchmarks.prepared.manifest import DomainFacts

IGNORE = 255
"""The label value of pixels that count nowhere."""


def short_hash(data: str | bytes) -> str:
    """First 16 hexadecimal digits of the SHA-256 of some text or bytes: what fingerprints are made of."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


class AbsentData(ValueError):
    """A data root holds nothing of a task: no defect, unless the user asked for that task by name."""


ABSENT = "absent"
"""Stands for the fingerprint of data that are not here, in trials that are only foreseen."""

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

    @classmethod
    def of(cls, severity: float, ingredients: str) -> Shift:
        """As typed: ingredients by comma, empty for all. Raises `ValueError` for what is no shift."""
        return cls(severity=severity, ingredients=tuple(ingredients.split(",")) if ingredients else INGREDIENTS)


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


@runtime_checkable
class Described(Protocol):
    """A reader or a source of data that says what cameras took the tiles."""

    @property
    def facts(self) -> Mapping[str, Sequence[DomainFacts]]:
        """Of each domain its side, ground sampling distance and bands, once for each camera."""


class LonelyFiles(ValueError):
    """Files of a data set lack their partners, so that nothing may be trained on it; the rest can still be verified."""

    def __init__(self, message: str, faults: Sequence[str], rest: Reader) -> None:
        """Take the message, a line about each such file, and a reader of the tiles that are whole."""
        super().__init__(message)
        self.faults = tuple(faults)
        self.rest = rest


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
        palette: the classes' colours in index order, red, green and blue.
        licence: on what terms the data may be used; empty for embedded scenes.
        obtain: where the data are to be had; likewise.
        home: where the files lie unless a data root is given; None where one must be.
    """

    kind: str
    title: str
    opener: str
    classes: tuple[str, ...]
    source: str
    targets: tuple[str, ...]
    sensors: Mapping[str, str]
    palette: tuple[tuple[int, int, int], ...]
    licence: str = ""
    obtain: str = ""
    home: Path | None = None

    def open(self, where: SceneSizes | Path) -> Reader:
        """Open the tiles. Raises `ValueError` where the data are missing or defective, such as `LonelyFiles`."""
        module, function = self.opener.split(":")
        return cast(Reader, getattr(importlib.import_module(module), function)(where))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What a task's published recipe draws in training beside crop and flip, where it is not that of most tasks.

    Args:
        resize: shortest edges before the crop, in fractions of the tile's; empty for no resize.
        photometric: whether the colours are distorted.
    """

    resize: tuple[float, ...]
    photometric: bool


@dataclass(frozen=True, kw_only=True)
class Released:
    """Numbers of a task in the released code that are not ours by default.

    Args:
        mean: what it subtracts from each band, in the files' digital numbers.
        std: by what it divides then.
        depth_rgb: the bands that it feeds the depth encoder for R, G, B, by index.
        float_jitter: the bands that it distorts for R, G, B in floats, where hue and saturation go wrong; empty where
            it distorts 8-bit values, or nothing.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    depth_rgb: tuple[int, int, int]
    float_jitter: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A benchmark task. `version` rises whenever numbers can change; it is part of the trial key.

    Args:
        bands: the bands of the source domain in file order; targets are read by the same order.
        embedded: synthetic stand-in, or None.
        files: the published data set, or None.
        augmentation: its own one at published sizes, or None for that of the scale.
        released: its numbers in the released code, or None if there are none.
    """

    name: str
    title: str
    version: int
    bands: tuple[Band, ...]
    embedded: DataSource | None = None
    files: DataSource | None = None
    augmentation: Augmentation | None = None
    released: Released | None = None
