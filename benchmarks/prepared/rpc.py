"""Where a scene that is not rectified lies, from the rational polynomials of its camera (`.rpb`)."""

from __future__ import annotations

import io
import math
import uuid
import warnings
from dataclasses import dataclass

import numpy as np
import rasterio
import tifffile
from rasterio._err import CPLE_BaseError  # what GDAL's own errors are, nowhere else to be had
from rasterio.errors import NotGeoreferencedWarning, TransformError, TransformWarning
from rasterio.io import MemoryFile
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

from benchmarks.prepared.raw import RawFile

_TERMS = 20
_REMEDY = "use the official coordinate file, or copy it again"


@dataclass(frozen=True, kw_only=True)
class RpcPlace:
    """The ground under a camera image, as if all of it lay at the scene's mean height.

    Args:
        rpc: from longitude, latitude and height to the pixels of the image as it was taken.
        row: the row of that image which is the first one of the image file, where margins have been cut off.
        col: likewise, the column.
    """

    rpc: RPC
    row: int = 0
    col: int = 0
    method: str = "rpc"

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude that the polynomials are centred on."""
        return self.rpc.long_off, self.rpc.lat_off

    def footprint(self, row: int, col: int, height: int, width: int) -> tuple[tuple[float, float], ...]:
        """Corners (longitude, latitude) in degrees, WGS 84, clockwise from the upper left of the image.

        Terrain is left out: where it differs from the mean height, the corners are off by up to some 0.3 km.
        """
        top, left = self.row + row, self.col + col
        rows, cols = [top, top, top + height, top + height], [left, left + width, left + width, left]
        with RPCTransformer(self.rpc, rpc_height=self.rpc.height_off) as transformer:
            xs, ys = transformer.xy(rows, cols, offset="ul")
        return tuple((round(float(x), 7), round(float(y), 7)) for x, y in zip(xs, ys, strict=True))


def read_rpb(file: RawFile) -> RpcPlace:
    """The camera of a scene.

    Raises:
        ValueError: no such file as GDAL knows them, or its numbers cannot be those of a camera.
    """
    with file.open() as stream:
        rpc = _by_gdal(stream.read())
    if rpc is None or any(len(numbers) != _TERMS for numbers in _polynomials(rpc)):
        raise ValueError(f"{file} holds no whole set of rational polynomials (RPB); {_REMEDY}")
    place = RpcPlace(rpc=rpc)
    if not _plausible(place):
        raise ValueError(f"{file}: its rational polynomials do not lead back to their own centre; {_REMEDY}")
    return place


def _by_gdal(text: bytes) -> RPC | None:
    """GDAL reads such a file only where it lies beside an image of its name."""
    image = io.BytesIO()
    tifffile.imwrite(image, np.zeros((1, 1), np.uint8))
    folder = str(uuid.uuid4())
    with (
        warnings.catch_warnings(),
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE"),
        MemoryFile(image.getvalue(), dirname=folder, filename="scene.tif") as scene,
        MemoryFile(text, dirname=folder, filename="scene.RPB"),
    ):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with scene.open() as opened:
            return opened.rpcs


def _polynomials(rpc: RPC) -> tuple[list[float], ...]:
    return rpc.line_num_coeff, rpc.line_den_coeff, rpc.samp_num_coeff, rpc.samp_den_coeff


def _plausible(place: RpcPlace) -> bool:
    """Whether the middle of the image lies on the ground that the polynomials hold for."""
    rpc = place.rpc
    scales = (rpc.line_scale, rpc.samp_scale, rpc.lat_scale, rpc.long_scale, rpc.height_scale)
    if not all(map(math.isfinite, scales)) or min(scales) <= 0 or abs(rpc.long_off) > 180 or abs(rpc.lat_off) > 90:
        return False
    with warnings.catch_warnings(), rasterio.Env():  # without the latter, GDAL writes to the terminal
        warnings.simplefilter("error", TransformWarning)
        try:
            (lon, lat), *_ = place.footprint(round(rpc.line_off), round(rpc.samp_off), 1, 1)
        except (TransformError, TransformWarning, CPLE_BaseError):
            return False
    return bool(abs(lon - rpc.long_off) < rpc.long_scale and abs(lat - rpc.lat_off) < rpc.lat_scale)
