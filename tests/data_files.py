"""Writes small copies of data sets in their official layouts: true names, archives, encodings and tags."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.prepared.labels import load_labels

Image8 = npt.NDArray[np.uint8]


def blobs(
    rng: np.random.Generator, height: int, width: int, colours: Mapping[int, tuple[int, ...]]
) -> tuple[Image8, Image8]:
    """Blobs around random points, each of one raw label value: image [H, W, bands] without zeros, label [H, W]."""
    points = rng.uniform((0, 0), (height, width), size=(12, 2))
    values = rng.permutation(np.resize(list(colours), len(points)))
    rows, cols = np.mgrid[:height, :width]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (cols[..., None] - points[:, 1]) ** 2
    label = values[distance.argmin(-1)].astype(np.uint8)
    table = np.zeros((256, len(next(iter(colours.values())))))
    for value, colour in colours.items():
        table[value] = colour
    image = np.clip(table[label] + rng.normal(0, 10, (height, width, table.shape[1])), 1, 254)
    return image.astype(np.uint8), label


def png(pixels: Image8) -> bytes:
    """A PNG of mode L or RGB."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def colours(name: str) -> dict[int, tuple[int, ...]]:
    """The legend's colours by raw value, kept away from black and white."""
    return {
        value.raw: tuple(40 + round(channel * 0.7) for channel in value.colour) for value in load_labels(name).values
    }


def zipped(path: Path, files: Mapping[str, bytes]) -> None:
    """Write an archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_loveda(raw: Path, *, per_side: int = 2, px: int = 128, seed: int = 0) -> dict[str, tuple[Image8, Image8]]:
    """`Train.zip`, `Val.zip` and a `Test.zip` without masks; returns image and mask of what a default run prepares."""
    rng = np.random.default_rng(seed)
    first = {("Train", "Rural"): 0, ("Train", "Urban"): 1366, ("Val", "Rural"): 2522, ("Val", "Urban"): 3514}
    written: dict[str, tuple[Image8, Image8]] = {}
    for split in ("Train", "Val"):
        files: dict[str, bytes] = {}
        for side in ("Rural", "Urban"):
            for number in range(first[split, side], first[split, side] + per_side):
                image, mask = blobs(rng, px, px, colours("loveda7"))
                image[mask == 0] = 0
                files[f"{split}/{side}/images_png/{number}.png"] = png(image)
                files[f"{split}/{side}/masks_png/{number}.png"] = png(mask)
                if (split, side) in (("Train", "Rural"), ("Val", "Urban")):
                    written[f"{split.lower()}_{side.lower()}_{number}"] = image, mask
        zipped(raw / f"{split}.zip", files)
    zipped(raw / "Test.zip", {"Test/Rural/images_png/4191.png": png(np.full((px, px, 3), 9, np.uint8))})
    return written
