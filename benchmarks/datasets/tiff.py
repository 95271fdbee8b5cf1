"""Raw TIFF reading: the stored bands, never a colour conversion, and no damage that passes as data.

The usual loaders convert by the photometric tag (a four-band file tagged CMYK comes back as inverted RGB and a constant
alpha) and fill missing strips with zeros. Here the bands come back as they lie in the file, or a `ValueError` says why
not.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile

# Its messages are about tags that are not used here; damage that matters is raised below, with the file's name.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_BYTES = 1 << 32  # A damaged size tag must not ask for all the memory; a whole scene is a twentieth of this.
_COPY_AGAIN = "copy or unpack the file again"
# What tifffile, its codecs (RuntimeError) and the file system raise on files that are cut off or altered.
_DAMAGE = (
    tifffile.TiffFileError,
    ValueError,
    RuntimeError,
    OSError,
    IndexError,
    KeyError,
    TypeError,
    ArithmeticError,
    struct.error,
)


@dataclass(frozen=True, kw_only=True)
class RawTiff:
    """The first image of a TIFF file, as stored.

    Args:
        pixels: [H, W, bands] in the file's own type and band order, C-contiguous and writable.
        photometric: the name of tag 262 in lower case: `separated` (CMYK), `rgb`, `minisblack`, ...
    """

    pixels: npt.NDArray[Any]
    photometric: str


def read_tiff(path: Path, *, stream: BinaryIO | None = None, name: str = "") -> RawTiff:
    """Read the first image of a TIFF file without any colour conversion.

    Strips and tiles, chunky and planar storage, and the compressions of imagecodecs are understood.

    Args:
        path: the file.
        stream: its bytes if they lie elsewhere, as in an archive; seekable, at its beginning.
        name: what messages call it; its path if empty.

    Raises:
        ValueError: not a TIFF; cut off; parts missing; not decodable. Names the file, what was found and the remedy.
    """
    name = name or str(path)
    if stream is None:
        with _opened(path) as plain:
            return read_tiff(path, stream=plain, name=name)
    _check_signature(name, stream)
    with _blame(name, "is a damaged TIFF, perhaps cut off"):
        file = tifffile.TiffFile(stream)
    with file:
        with _blame(name, "is a damaged TIFF, perhaps cut off"):
            page = file.pages.first
            photometric = tifffile.PHOTOMETRIC(page.photometric).name.lower()
            defect = _defect(page, file.filehandle.size)
        if defect:
            raise ValueError(f"{name} {defect}")
        with _blame(name, "is a TIFF that cannot be decoded"):
            pixels = page.asarray(maxworkers=1)
    if page.axes == "YX":
        pixels = pixels[..., np.newaxis]
    elif page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    return RawTiff(pixels=np.require(pixels, requirements=["C", "W"]), photometric=photometric)


@contextmanager
def _blame(path: str, complaint: str) -> Iterator[None]:
    """Turn a library's error into a `ValueError` that names the file."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"{path} {complaint} ({_one_line(error)}); {_COPY_AGAIN}") from error


def _one_line(error: Exception) -> str:
    """The beginning of an error's text, for a message of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:120]


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ValueError(f"{path} cannot be opened ({_one_line(error)}); check the file and its permissions") from error


def _check_signature(path: str, stream: BinaryIO) -> None:
    with _blame(path, "cannot be read"):
        head = stream.read(4)
        stream.seek(0)
    if head not in _SIGNATURES:
        found = f"it begins with {head!r}" if head else "it is empty"
        raise ValueError(f"{path} is not a TIFF file: {found}; {_COPY_AGAIN}")


def _defect(page: tifffile.TiffPage, size: int) -> str | None:
    """What keeps a page of a file of `size` bytes from being read whole: a complaint with its remedy, or None."""
    if page.axes not in {"YX", "YXS", "SYX"} or not 0 < page.nbytes <= _MOST_BYTES:
        return f"holds no single image (axes {page.axes!r}, shape {page.shape}); {_COPY_AGAIN}"
    expected = math.prod(page.chunked)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if not len(page.dataoffsets) == len(page.databytecounts) == expected:
        return f"is a damaged TIFF: it lists {len(parts)} of its {expected} strips or tiles; {_COPY_AGAIN}"
    if unwritten := sum(offset == 0 or count == 0 for offset, count in parts):
        return (
            f"is incomplete: {unwritten} of its {expected} strips or tiles were never written and would read as zeros; "
            "write the file again (with GDAL: without SPARSE_OK)"
        )
    if (end := max(offset + count for offset, count in parts)) > size:
        return f"is truncated: it has {size} bytes, but its pixels reach to byte {end}; {_COPY_AGAIN}"
    stored = sum(count for _, count in parts)
    if page.compression == tifffile.COMPRESSION.NONE and stored < page.nbytes:
        return f"is a damaged TIFF: it lists {stored} of its {page.nbytes} bytes of pixels; {_COPY_AGAIN}"
    return None
