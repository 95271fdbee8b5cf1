"""Writes the files that docs/examples/my_task.toml describes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from tests.conftest import ROOT
from tests.data_files import blobs, png

EXAMPLE = ROOT / "docs" / "examples" / "my_task.toml"
COLOURS = {0: (9, 9, 9, 9), 1: (70, 90, 60, 20), 2: (60, 80, 120, 90), 3: (50, 90, 60, 200), 4: (20, 40, 30, 180),
           5: (160, 160, 165, 170)}  # fmt: skip
"""Mean B, G, R, NIR of each label value that occurs, in twentieths of a digital number."""

CLASS = np.array([255, 0, 1, 1, 2, 3], np.uint8)
"""Class index of each label value."""


def write_valley(folder: Path, *, px: int = 64, seed: int = 0) -> dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """The task file and its images and labels.

    Returns:
        By domain and tile name, the image [px, px, 4] in the task's order (B, G, R, NIR) and the raw label.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLE, folder / "my_task.toml")
    rng = np.random.default_rng(seed)
    written = {}
    for scene in ("n1", "n2", "n3"):
        for column in range(2):
            name = f"{scene}_r0_c{column}"
            image, label = _pair(rng, px, empty=column == 0)
            write_tiff(folder / "aerial" / "images" / f"{name}.tif", image, byteorder=">")
            _label(folder / "aerial" / "labels" / f"{name}.png", label)
            written[f"aerial/{name}"] = image, label
    for place in ("north", "south"):
        for scene in ("s1", "s2"):
            image, label = _pair(rng, px)
            stem = folder / "satellite" / scene / place / "t1"
            write_tiff(stem.with_name("t1_image.tif"), image[..., [2, 1, 0, 3]], photometric="separated")
            _label(stem.with_name("t1_label.png"), label)
            written[f"sat_{place}/{scene}/{place}/t1"] = image, label
    return written


def _pair(rng: np.random.Generator, px: int, *, empty: bool = False) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    image, label = blobs(rng, px, px, COLOURS)
    wide = 20 * image.astype(np.uint16) + rng.integers(0, 20, image.shape, dtype=np.uint16)
    if empty:
        wide[: px // 8] = 0
    return wide, label


def write_tiff(path: Path, image: npt.NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, image, **{"photometric": "minisblack", "planarconfig": "contig", "metadata": None, **options}
    )


def _label(path: Path, label: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(label))
