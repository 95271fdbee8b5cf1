"""Cutting a scene into tiles and writing them: uncompressed TIFF for the image, PNG of class indices for the label."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from benchmarks.prepared.manifest import PART, Part, TileRow, Window, dump_part
from benchmarks.prepared.recipe import EDGES, Choices, Pixels, Recipe, Scene, made_of
from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import IGNORE, ImageHWC, LabelHW


def windows(height: int, width: int, tile_px: int, edge: str) -> Iterator[tuple[int, int, Window]]:
    """The tiles of a scene: row and column in the grid, from 1, and the scene's pixels that each holds.

    Args:
        height: of the scene in pixels.
        width: likewise.
        tile_px: side of a tile.
        edge: one of `EDGES`. A side shorter than a tile is filled by `shift` too, since there is nowhere to move to.
    """
    for i, (row, tall) in enumerate(_spans(height, tile_px, edge), start=1):
        for j, (col, wide) in enumerate(_spans(width, tile_px, edge), start=1):
            yield i, j, Window(row=row, col=col, height=tall, width=wide)


def _spans(length: int, tile_px: int, edge: str) -> list[tuple[int, int]]:
    assert edge in EDGES, edge
    count = length // tile_px if edge == "drop" else -(-length // tile_px)
    spans = [(i * tile_px, min(tile_px, length - i * tile_px)) for i in range(count)]
    if edge == "shift" and length > tile_px:
        spans[-1] = (length - tile_px, tile_px)
    return spans


def write_scene(recipe: Recipe, scene: Scene, choices: Choices, tile_px: int, folder: Path, home: str) -> Part:
    """Read a scene and write its tiles and its part of the manifest into a folder.

    Args:
        recipe: how to read it.
        scene: which one.
        choices: every choice with its value.
        tile_px: side of a tile.
        folder: an empty folder.
        home: where the folder will be, relative to the manifest.

    Raises:
        ValueError: a defect of the scene's files.
        OSError: the folder cannot be written.
    """
    pixels = recipe.read(scene, choices)
    assert pixels.image.dtype == recipe.dtype, f"{recipe.task} reads {pixels.image.dtype}"
    height, width = pixels.label.shape
    rows: list[TileRow] = []
    sizes: dict[str, int] = {}
    for i, j, window in windows(height, width, tile_px, choices["edge"]):
        name = f"{scene.name}_r{i:03d}_c{j:03d}"
        image, label = _cut(pixels, window, tile_px)
        tiff, png = _tiff(image), _png(label)
        _write(folder / f"{name}.tif", tiff)
        _write(folder / f"{name}.png", png)
        row = _row(recipe, scene, pixels, window, name, home, (image, tiff), (label, png))
        rows.append(row)
        sizes |= {row.image: len(tiff), row.label: len(png)}
    made = made_of(recipe, [scene], choices, tile_px)
    part = Part(made_of=made, notes=(*scene.notes, *pixels.notes), tiles=tuple(rows), sizes=sizes)
    _write(folder / PART, dump_part(part))
    return part


def _cut(pixels: Pixels, window: Window, tile_px: int) -> tuple[ImageHWC, LabelHW]:
    box = np.s_[window.row : window.row + window.height, window.col : window.col + window.width]
    below, beside = tile_px - window.height, tile_px - window.width
    image = np.pad(pixels.image[box], ((0, below), (0, beside), (0, 0)))
    label = np.pad(pixels.label[box], ((0, below), (0, beside)), constant_values=IGNORE)
    return image, label


def _row(
    recipe: Recipe,
    scene: Scene,
    pixels: Pixels,
    window: Window,
    name: str,
    home: str,
    image: tuple[ImageHWC, bytes],
    label: tuple[LabelHW, bytes],
) -> TileRow:
    facts, place = recipe.domains[scene.domain], pixels.place
    counts = np.bincount(label[0].ravel(), minlength=IGNORE + 1)[:IGNORE]
    row, col = pixels.origin[0] + window.row, pixels.origin[1] + window.col
    return TileRow(
        tile=name,
        scene=scene.unit,
        domain=scene.domain,
        side=facts.side,
        region=scene.region,
        bands=facts.band_order,
        image=f"{home}/{name}.tif",
        label=f"{home}/{name}.png",
        window=Window(row=row, col=col, height=window.height, width=window.width),
        image_sha256=hashlib.sha256(image[1]).hexdigest(),
        label_sha256=hashlib.sha256(label[1]).hexdigest(),
        valid_fraction=round(float(valid_pixels(image[0]).mean()), 6),
        histogram={int(value): int(counts[value]) for value in counts.nonzero()[0]},
        footprint=place.footprint(row, col, window.height, window.width) if place else None,
        georef=place.method if place else "none",
        date=scene.date or None,
    )


def _tiff(image: ImageHWC) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, photometric="minisblack", planarconfig="contig", metadata=None, software=False)
    return stream.getvalue()


def _png(label: LabelHW) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(label).save(stream, format="PNG")
    return stream.getvalue()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
