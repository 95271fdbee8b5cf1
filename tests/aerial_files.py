"""Writes small copies of FLAIR and OpenEarthMap in their official layouts, as GDAL writes them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from benchmarks.datasets.oem import regions
from tests.data_files import Image8, blobs, colours, zipped

LAMBERT_93 = CRS.from_epsg(2154)
UNNAMED = CRS.from_wkt('LOCAL_CS["unnamed",UNIT["metre",1]]')
"""A grid without a named system, as in FLAIR's masks."""

FLAIR_ZONES = {
    "train": (("D004_2021", "Z10_AU"), ("D004_2021", "Z14_AU"), ("D006_2020", "Z1_UU")),
    "flair1": (("D012_2019", "Z10_UU"), ("D022_2021", "Z2_NN")),
    "flair2": (("D015_2020", "Z3_FA"), ("D022_2021", "Z9_NU")),
}
"""Zones by set; the two tests share a department."""


def geotiff(
    pixels: npt.NDArray[Any], crs: CRS | None, left: float = 0, top: float = 0, step: float = 0, **options: Any
) -> bytes:
    """A TIFF as GDAL writes it, of pixels [H, W, bands] or [H, W]; without a grid if `step` is 0."""
    bands = np.atleast_3d(pixels)
    height, width, count = bands.shape
    shape = {"height": height, "width": width, "count": count, "dtype": pixels.dtype.name}
    place = {"crs": crs, "transform": Affine(step, 0, left, 0, -step, top)} if step else {}
    with MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="GTiff", **shape, **place, **options) as file:
            file.write(np.moveaxis(bands, -1, 0))
        return bytes(memory.read())


def flair_corner(scene: str, number: str) -> tuple[float, float]:
    """Where a patch of the copy begins: x and y in Lambert-93."""
    return 700_000.0 + 1000 * int(scene[1:4]) + 12.8 * int(number), 6_500_000.0


def flair_patch(scene: str, number: str, px: int, rng: np.random.Generator) -> tuple[dict[str, bytes], Image8, Image8]:
    """A patch: its two files, its five bands and its raw label."""
    palette = colours("flair19_to_12")
    legend = {value: (*palette[value], 90 + value, 5 * value) for value in (1, 5, 7, 10, 11, 12, 13, 19)}
    image, label = blobs(rng, px, px, legend)
    left, top = flair_corner(scene, number)
    files = {
        "IMG": geotiff(image, LAMBERT_93, left, top, 0.2, interleave="pixel"),
        "MSK": geotiff(label, UNNAMED, left, top, 0.2, compress="lzw"),
    }
    return files, image, label


def write_flair(
    raw: Path, *, layout: str = "original", per_zone: int = 2, px: int = 64, seed: int = 0
) -> dict[str, tuple[Image8, Image8]]:
    """The original archives, or with `layout="hub"` one per department: training set and both test sets.

    Returns:
        Image of five bands and raw label by the name that a patch has when prepared. Numbers repeat in departments.
    """
    rng = np.random.default_rng(seed)
    archives: dict[str, dict[str, bytes]] = {}
    written: dict[str, tuple[Image8, Image8]] = {}
    folder = {"train": "train-val", "flair1": "flair#1-test", "flair2": "flair#2-test"}
    for which, zones in FLAIR_ZONES.items():
        original = "flair_{}_train" if which == "train" else f"flair_{which[-1]}_{{}}_test"
        for i, (department, zone) in enumerate(zones):
            for k in range(per_zone):
                same = 826 + k + (per_zone * i if i < 2 else 0) + 1000 * (which != "train")
                number = f"{same:06d}"
                files, image, label = flair_patch(department, number, px, rng)
                for kind, inner, what in (("IMG", "img", "aerial"), ("MSK", "msk", "labels")):
                    root = original.format(what)
                    if layout == "original":
                        path, member = f"{root}.zip", f"{root}/{department}/{zone}/{inner}/{kind}_{number}.tif"
                    else:
                        path = f"data/{folder[which]}/{department}.zip"
                        member = f"{what}/{zone}/{kind}_{number}.tif"
                    archives.setdefault(path, {})[member] = files[kind]
                written[f"{department}_{zone}_{number}"] = image, label
    for path, members in archives.items():
        zipped(raw / path, members)
    return written


OEM_SIZES = {"accra_1": (100, 70), "vienna_1": (40, 50), "tokyo_1": (65, 130)}
"""Height and width of the copy's images that are not square tiles."""

OEM_PLACES: dict[str, tuple[str, float, float, float]] = {
    "accra": ("EPSG:32630", 810_000, 620_000, 0.5),
    "dolnoslaskie": ("EPSG:2180", 360_000, 360_000, 0.25),
    "vienna": ("EPSG:4326", 16.3, 48.2, 5e-6),
}
"""Coordinate system, left, top and step of the copy's regions that have them."""


def write_oem(
    raw: Path, *, compiled: Sequence[str] = (), swapped: bool = False, seed: int = 0
) -> dict[str, tuple[Image8, Image8]]:
    """The folder `OpenEarthMap_wo_xBD`: every region, few images, no labels of the test.

    Args:
        raw: where.
        compiled: xBD regions whose images the user has added.
        swapped: exchange the names of the lists `val` and `test`.
        seed: of the pixels.

    Returns:
        Image and raw label of each labelled image that has its pixels, xBD's too.
    """
    rng, home = np.random.default_rng(seed), raw / "OpenEarthMap_wo_xBD"
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    written: dict[str, tuple[Image8, Image8]] = {}
    for region in regions().values():
        for folder in ("images", "labels"):
            (home / region.name / folder).mkdir(parents=True)
        for split in ("train", *(("val", "test") if region.name in ("accra", "svaneti", "vienna") else ("test",))):
            name = f"{region.name}_{1 + ('train', 'val', 'test').index(split)}"
            lists[split].append(f"{name}.tif")
            image, label = blobs(rng, *OEM_SIZES.get(name, (64, 64)), colours("oem8"))
            # of the regions without a system, some have a grid
            system, left, top, step = OEM_PLACES.get(region.name, ("", 500_000, 0, len(region.name) % 2))
            crs = CRS.from_string(system) if system else None
            if not region.xbd or region.name in compiled:
                data = geotiff(image, crs, left, top, step, photometric="RGB")
                (home / region.name / "images" / f"{name}.tif").write_bytes(data)
            if split != "test":
                data = geotiff(label, crs, left, top, step, compress="deflate")
                (home / region.name / "labels" / f"{name}.tif").write_bytes(data)
                if not region.xbd or region.name in compiled:
                    written[name] = image, label
    for split, names in lists.items():
        other = {"val": "test", "test": "val"}.get(split, split) if swapped else split
        (home / f"{other}.txt").write_text("\n".join(names) + "\n")
    return written


def region_of(name: str) -> str:
    """The region of an image's name."""
    return re.sub(r"_\d+$", "", name)
