"""Footprints of scenes from the georeference of their TIFF files."""

from __future__ import annotations

import math
from dataclasses import dataclass

import tifffile
from rasterio.errors import CRSError
from rasterio.warp import transform

from benchmarks.prepared.raw import RawFile

_NAMELESS = 32767  # of GeoTIFF: a system that has no code, but its own definition or none


@dataclass(frozen=True, kw_only=True)
class GeoTiffPlace:
    """A north-up grid in a projected coordinate system.

    Args:
        epsg: code of the coordinate system.
        left: x of the upper left corner of the first pixel, in its units.
        top: y of that corner.
        step_x: width of a pixel.
        step_y: height of a pixel.
    """

    epsg: int
    left: float
    top: float
    step_x: float
    step_y: float
    method: str = "geotiff"

    def footprint(self, row: int, col: int, height: int, width: int) -> tuple[tuple[float, float], ...]:
        """Corners (longitude, latitude) in degrees, WGS 84, clockwise from the upper left, to about a centimetre."""
        left, right = self.left + col * self.step_x, self.left + (col + width) * self.step_x
        top, bottom = self.top - row * self.step_y, self.top - (row + height) * self.step_y
        xs, ys = transform(f"EPSG:{self.epsg}", "EPSG:4326", [left, right, right, left], [top, top, bottom, bottom])
        return tuple((round(x, 7), round(y, 7)) for x, y in zip(xs, ys, strict=True))


def geotiff_place(file: RawFile, *, unnamed: int | None = None) -> GeoTiffPlace | None:
    """Where a GeoTIFF lies, or None if its tags do not say so by a code and a north-up grid.

    Args:
        file: the file.
        unnamed: code of the coordinate system to take where the tags hold a grid but name none.
    """
    with file.open() as stream, tifffile.TiffFile(stream) as tiff:
        page = tiff.pages.first
        tags, height, width = page.geotiff_tags or {}, page.imagelength, page.imagewidth
    scale, tie = tags.get("ModelPixelScale"), tags.get("ModelTiepoint")
    epsg = int(tags.get("ProjectedCSTypeGeoKey", tags.get("GeographicTypeGeoKey", _NAMELESS)))
    if epsg == _NAMELESS and unnamed is not None:
        epsg = unnamed
    if scale is None or tie is None or len(tie) != 6 or not 1024 <= epsg < _NAMELESS:
        return None
    place = GeoTiffPlace(
        epsg=epsg,
        left=tie[3] - tie[0] * scale[0],
        top=tie[4] + tie[1] * scale[1],
        step_x=scale[0],
        step_y=scale[1],
    )
    try:
        corners = place.footprint(0, 0, height, width)
    except CRSError:
        return None  # a code that the EPSG registry does not know
    return place if all(_on_earth(*corner) for corner in corners) else None


def _on_earth(longitude: float, latitude: float) -> bool:
    """Whether it is a place at all: pixel numbers taken for degrees are none."""
    return math.isfinite(longitude + latitude) and abs(longitude) <= 180 and abs(latitude) <= 90
