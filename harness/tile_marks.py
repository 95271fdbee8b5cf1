"""What a tile is recognised by: a hash of its pixels, one of its looks, and one of each border.

Looks: imagehash's perceptual hash (signs of the 16 x 16 lowest frequencies, after Zauner 2010) of the mean of the bands
nearest to red, green and blue, stretched per tile: 256 bits that noise, brightness and compression hardly change.

Borders: adjacent tiles show no common ground, and 64-pixel strips on either side of a cut look no more alike than any
two (measured: 30 of 64 bits differ, which is chance). The outermost lines of pixels do: 128 signs of their lowest
frequencies. Steps along the line are limited to a few times its texture, for otherwise any two borders crossed by a
coast or a field's edge at one place would pass for neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dct

from benchmarks.prepared.reader import PreparedReader
from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import Band, ImageHWC, Reader, TileRef
from harness.bands import nearest_bands
from harness.stretch import limits
from harness.verify import Job, open_once
from harness.zoo import RGB

LOOKS_SIDE = 16
BORDER_BITS = 128
LEAST_VALID = 0.5
"""Share of pixels that are not fill, below which a tile's looks are those of its fill."""

LEAST_VARIATION = 0.005
"""Standard deviation over mean of a tile shrunk to 64 x 64 pixels, below which its looks are noise."""

LEAST_BORDER_PX = 2 * BORDER_BITS
"""Shorter borders do not hold so many frequencies."""

_LEAST_VALID_BORDER = 0.9
_STEP = 4.0

Grey = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """One tile's hashes, None where there is nothing to recognise.

    Args:
        tile: which one.
        pixels: SHA-256 of its decoded pixels; None for a tile of one value.
        looks: 32 bytes; None for a tile that is mostly fill or nearly constant.
        borders: 16 bytes each of top, bottom, left and right; None for borders of fill or without texture.
    """

    tile: TileRef
    pixels: bytes | None
    looks: bytes | None
    borders: tuple[bytes | None, bytes | None, bytes | None, bytes | None]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Some tiles of one domain as they travel to a worker, and the indices of the bands to look at."""

    job: Job
    visible: tuple[int, ...]


def mark_tiles(look: Look) -> list[Marks]:
    """The marks of some tiles. Raises `ValueError` for a defective one."""
    reader = open_once(look.job.task, look.job.root)
    return [mark(tile, reader.read(tile).image, look.visible) for tile in look.job.tiles]


def visible_bands(bands: Sequence[Band], reader: Reader, domain: str) -> tuple[int, ...]:
    """Indices of a domain's own bands nearest to red, green and blue; without a manifest, of the task's `bands`."""
    if isinstance(reader, PreparedReader):
        own = reader.manifest.header.domains[domain].bands
        bands = [Band(name=band.name, centre_um=band.centre_nm / 1000) for band in own]
    return tuple(nearest_bands(RGB, bands))


def mark(tile: TileRef, image: ImageHWC, visible: Sequence[int]) -> Marks:
    """The marks of one tile.

    Args:
        tile: its name.
        image: its pixels [H, W, bands]; those that are zero in every band are fill.
        visible: indices of the bands to look at.
    """
    valid = valid_pixels(image)
    grey = image[..., list(visible)].astype(np.float32).mean(-1)
    blank = _blank(image, grey, valid)
    lines = [(grey[at], valid[at]) for at in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1])]
    top, bottom, left, right = (_border(line, there) for line, there in lines)
    return Marks(
        tile=tile,
        pixels=None if blank else _pixels(image),
        looks=None if blank else _looks(grey, valid),
        borders=(top, bottom, left, right),
    )


def _blank(image: ImageHWC, grey: Grey, valid: npt.NDArray[np.bool_]) -> bool:
    """Whether all valid pixels have one value; nearly every tile shows by its grey that they have not."""
    seen = grey[valid]
    if seen.size and seen.min() != seen.max():
        return False
    content = image[valid]
    return bool((content == content[:1]).all())


def _pixels(image: ImageHWC) -> bytes:
    digest = hashlib.sha256(f"{image.dtype} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _looks(grey: Grey, valid: npt.NDArray[np.bool_]) -> bytes | None:
    if valid.mean() < LEAST_VALID:
        return None
    mean = float(grey[valid].mean())
    whole = np.where(valid, grey, np.float32(mean))
    shrunk = np.asarray(Image.fromarray(whole).resize((64, 64), Image.Resampling.BOX))
    if shrunk.std() < LEAST_VARIATION * abs(mean):
        return None
    low, high = limits(grey[valid], 1, 99)
    stretched = np.clip((whole - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    found: Any = imagehash.phash(Image.fromarray(stretched), hash_size=LOOKS_SIDE).hash
    return np.packbits(found).tobytes()


def _border(line: Grey, valid: npt.NDArray[np.bool_]) -> bytes | None:
    if len(line) < LEAST_BORDER_PX or valid.mean() < _LEAST_VALID_BORDER:
        return None
    sums = np.concatenate([[0.0], np.cumsum(line, dtype=np.float64)])
    cuts = np.linspace(0, len(line), LEAST_BORDER_PX + 1)
    steps = np.diff(np.diff(np.interp(cuts, np.arange(len(sums)), sums)))
    texture = _STEP * float(np.median(np.abs(steps)))
    if texture == 0:
        return None
    signs = dct(np.cumsum(np.clip(steps, -texture, texture)), norm="ortho")[1 : BORDER_BITS + 1] > 0
    return np.packbits(signs).tobytes()
