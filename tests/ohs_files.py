"""Writes a small copy of WHU-OHS: its subsets and names, 32 interleaved bands of 16-bit integers, index labels."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.data_files import tiff

SCENES = ("S1", "S6", "T1", "T6", "T5", "O1", "O7", "O8")
"""Two pairs, one of them 35 km apart; two more scenes of the northwest, and one whose place is not known."""

_FIRST = {"tr": 1, "val": 4, "ts": 5}
_COUNTS = {"tr": 2, "val": 1, "ts": 1}


def spectra() -> np.ndarray:
    """A spectrum [25, 32] for each raw value, from 200 to 9000."""
    rng = np.random.default_rng(9)
    return rng.uniform(400, 6000, (25, 1)) + np.cumsum(rng.uniform(-200, 250, (25, 32)), axis=1).clip(-200, 3000)


def patch(rng: np.random.Generator, px: int) -> tuple[np.ndarray, np.ndarray]:
    """One patch: image uint16 [px, px, 32], label [px, px] of raw values 0 to 24; undefined ground has values too."""
    label = rng.integers(0, 25, (-(-px // 16), -(-px // 16))).repeat(16, 0).repeat(16, 1)[:px, :px].astype(np.uint8)
    image = spectra()[label] + rng.normal(0, 60, (px, px, 32))
    return image.clip(1, 12_000).astype(np.uint16), label


def write_ohs(
    raw: Path, *, scenes: Sequence[str] = SCENES, px: int = 64, dtype: Any = np.uint16, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`tr` unpacked, `val` in an archive that holds its folder, `ts` in one named like it.

    Returns:
        Image and raw label of each patch, by the name that it has when prepared.
    """
    rng = np.random.default_rng(seed)
    written = {}
    files: dict[str, dict[str, bytes]] = {"tr": {}, "val": {}, "ts": {}}
    for scene in scenes:
        for subset, count in _COUNTS.items():
            for index in range(_FIRST[subset], _FIRST[subset] + count):
                image, label = patch(rng, px)
                place = {"epsg": 32650, "left": 400_000.0, "top": 4_300_000.0, "step": 10.0} if scene == "O1" else {}
                files[subset][f"image/{scene}_{index:04d}.tif"] = interleaved(image.astype(dtype), **place)
                files[subset][f"label/{scene}_{index:04d}.tif"] = tiff(label)
                written[f"{scene}_{index:04d}_{subset}"] = image, label
    for name, data in files["tr"].items():
        path = raw / "tr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for subset, folder in (("val", "val/"), ("ts", "")):
        with zipfile.ZipFile(raw / f"{subset}.zip", "w") as archive:
            for name, data in files[subset].items():
                archive.writestr(folder + name, data)
    return written


def interleaved(image: np.ndarray, *, epsg: int = 0, left: float = 0, top: float = 0, step: float = 0) -> bytes:
    """A TIFF of many bands, pixel by pixel, as GDAL writes it, with GeoTIFF tags if a coordinate system is given."""
    tags: list[Any] = []
    if epsg:
        keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, epsg)
        tags = [
            (33550, "d", 3, (step, step, 0.0), True),
            (33922, "d", 6, (0.0, 0.0, 0.0, left, top, 0.0), True),
            (34735, "H", len(keys), keys, True),
        ]
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, image, photometric="minisblack", planarconfig="contig", metadata=None, extratags=tags, rowsperstrip=1
    )
    return stream.getvalue()
