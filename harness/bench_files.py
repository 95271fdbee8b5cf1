"""Files for `bench data`: official ones of Five-Billion-Pixels in small, and prepared tiles of any number of bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from benchmarks.datasets.fbp import PALETTE
from benchmarks.datasets.fbp_official import WINDOW
from benchmarks.datasets.fbp_scenes import BOTTOM, LEFT, RIGHT, TOP
from benchmarks.legends import FBP_24
from benchmarks.prepared.manifest import BandFacts, DomainFacts, DType, Header, Manifest
from benchmarks.prepared.raw import RawFile
from benchmarks.prepared.reader import PreparedReader
from benchmarks.prepared.recipe import Pixels, Recipe, Scene
from benchmarks.prepared.tiling import write_scene
from benchmarks.tasks import Task

CHOICES = ("scene_size=any",)
"""What `data prepare` must be told of them."""

TILE_PX = 512
_SOURCE = ("GF2_PMS1__L1A0000000001-MSS1", "GF2_PMS1__L1A0000000002-MSS1")
_TARGET = "T50TMK_20210929T030539"
_SIDE = 2048
_PARCEL_PX = 48
_TILE_BYTES = 1 << 27


def write_official(raw: Path) -> None:
    """Two GF-2 cut-outs of 2048 x 2048 annotated pixels and one window of Sentinel-2: 36 tiles of 512 px.

    Images are uncompressed and tagged CMYK, labels PNGs of mode P.
    """
    rng = np.random.default_rng(0)
    source, index = raw / "Image__8bit_NirRGB", raw / "Annotation__index"
    image, label = (raw / "megacities" / name for name in ("image", "label"))
    for folder in (source, index, image, label):
        folder.mkdir(parents=True)
    size = (_SIDE + TOP + BOTTOM, _SIDE + LEFT + RIGHT)
    for stem in _SOURCE:
        _write_pair(rng, size, source / f"{stem}.tif", index / f"{stem}_24label.png")
    _write_pair(rng, (WINDOW, WINDOW), image / f"{_TARGET}.tif", label / f"{_TARGET}.png")


def _write_pair(rng: np.random.Generator, size: tuple[int, int], tiff: Path, png: Path) -> None:
    image, label = _draw(rng, size, 4, "uint8")
    tifffile.imwrite(tiff, image, photometric="separated", metadata=None)
    coded = Image.fromarray(label + np.uint8(1), mode="P")
    coded.putpalette([channel for colour in ((0, 0, 0), *PALETTE) for channel in colour])
    coded.save(png)


def write_tiles(folder: Path, task: Task, dtype: DType) -> PreparedReader:
    """At least 8 and about 128 MiB of prepared tiles with a task's bands, all of one domain `made`.

    Args:
        folder: an empty folder.
        task: whose bands.
        dtype: of the pixels.
    """
    bands = len(task.bands)
    count = min(32, max(8, _TILE_BYTES // (TILE_PX**2 * bands * np.dtype(dtype).itemsize)))
    drawn, label = _draw(np.random.default_rng(0), (TILE_PX, TILE_PX * count), bands, dtype)
    facts = tuple(BandFacts(name=band.name, centre_nm=1000 * band.centre_um) for band in task.bands)
    nothing = RawFile(path=folder, member="", where="", size=0)
    recipe = Recipe(
        task=task.name,
        version=0,
        domains={"made": DomainFacts(side="source", sensor="made up", gsd_m=1, bands=facts)},
        labels="fbp24",
        choices=(),
        find=lambda tree, choices: (),
        read=lambda scene, choices: Pixels(image=drawn, label=label),
        expect=lambda choices: (),
        dtype=dtype,
    )
    scene = Scene(name="scene", domain="made", image=nothing, label=nothing)
    part = write_scene(recipe, scene, {"edge": "drop"}, TILE_PX, folder, ".")
    header = Header(
        task=task.name,
        recipe_version=0,
        tile_px=TILE_PX,
        dtype=dtype,
        classes=tuple(FBP_24),
        tiles=len(part.tiles),
        choices={},
        domains=recipe.domains,
    )
    return PreparedReader(folder, Manifest(header=header, tiles=part.tiles), "")


def _draw(
    rng: np.random.Generator, size: tuple[int, int], bands: int, dtype: DType
) -> tuple[npt.NDArray[np.uint8 | np.uint16], npt.NDArray[np.uint8]]:
    """Parcels of one class each with wandering borders, and noise: image [H, W, bands] without zeros, label [H, W]."""
    rows, cols = np.ogrid[: size[0], : size[1]]
    # straight borders would compress to nothing
    across = (rows + 9 * np.sin(cols / 23) + 4 * np.sin(cols / 7)).astype(int) // _PARCEL_PX + 1
    along = (cols + 9 * np.sin(rows / 19) + 4 * np.sin(rows / 5)).astype(int) // _PARCEL_PX + 1
    parcels = rng.integers(0, len(FBP_24), (across.max() + 1, along.max() + 1), dtype=np.uint8)
    label = parcels[across, along]
    means = rng.integers(40, 160, (len(FBP_24), bands)).astype(dtype)
    return means[label] + rng.integers(0, 60, (*size, bands), dtype=np.uint8), label
