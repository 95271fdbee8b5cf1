"""Reading label rasters and colour images as they lie in their files, without colour conversion."""

from __future__ import annotations

from pathlib import Path
from struct import error as StructError
from typing import BinaryIO
from zlib import error as ZlibError

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.datasets.tiff import RawTiff, read_tiff
from benchmarks.prepared.raw import RawFile

_PNG_DAMAGE = (OSError, SyntaxError, ValueError, StructError, ZlibError, Image.DecompressionBombError)
_MODES = ("P", "L", "RGB")


def read_label(file: Path | RawFile) -> npt.NDArray[np.uint8]:
    """A label raster: [H, W] of index values (PNG of mode P or L, TIFF of one band), or [H, W, 3] of colours.

    Raises:
        ValueError: damaged, or of another type or band count. Names the file and the remedy.
    """
    suffix = (file.name if isinstance(file, Path) else file.where).lower()
    if suffix.endswith(".png"):
        return read_png(file)
    pixels = raw_tiff(file).pixels
    if pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        raise ValueError(
            f"{file} has {pixels.shape[2]} band(s) of type {pixels.dtype}, expected one of indices or three of colours "
            "in 8 bits; use the official label files"
        )
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def read_png(file: Path | RawFile) -> npt.NDArray[np.uint8]:
    """A PNG as stored: [H, W] for mode P (indices, not colours) or L, [H, W, 3] for RGB.

    Raises:
        ValueError: no PNG, damaged, or of another mode. Names the file and the remedy.
    """
    opened = file.open() if isinstance(file, RawFile) else None  # which names a damaged archive itself
    try:
        with opened or _stream(file) as stream, Image.open(stream, formats=["PNG"]) as image:
            mode, pixels = image.mode, np.array(image)
    except _PNG_DAMAGE as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise ValueError(f"{file} is not a PNG, or a damaged one ({text}); copy or unpack the file again") from error
    if mode not in _MODES:
        raise ValueError(f"{file} is a PNG of mode {mode}, expected {', '.join(_MODES)}; use the official files")
    return pixels


def raw_tiff(file: Path | RawFile) -> RawTiff:
    """A TIFF as stored. Raises `ValueError` as `benchmarks.datasets.tiff.read_tiff`."""
    if isinstance(file, Path):
        return read_tiff(file)
    with file.open() as stream:
        return read_tiff(file.path, stream=stream, name=str(file))


def _stream(file: Path | RawFile) -> BinaryIO:
    return file.open("rb") if isinstance(file, Path) else file.open()
