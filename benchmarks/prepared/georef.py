"""Footprints of scenes from the georeference of their TIFF files."""

from __future__ import annotations

from dataclasses import dataclass

import tifffile
from rasterio.errors import CRSError
from rasterio.warp import transform

from benchmarks.prepared.raw import RawFile


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


def geotiff_place(file: RawFile) -> GeoTiffPlace | None:
    """Where a GeoTIFF lies, or None if its tags do not say so by a code and a north-up grid."""
    with file.open() as stream, tifffile.TiffFile(stream) as tiff:
        tags = tiff.pages.first.geotiff_tags or {}
    scale, tie = tags.get("ModelPixelScale"), tags.get("ModelTiepoint")
    epsg = tags.get("ProjectedCSTypeGeoKey", tags.get("GeographicTypeGeoKey"))
    if epsg is None or scale is None or tie is None or len(tie) != 6 or not 1024 <= int(epsg) < 32767:
        return None
    place = GeoTiffPlace(
        epsg=int(epsg),
        left=tie[3] - tie[0] * scale[0],
        top=tie[4] + tie[1] * scale[1],
        step_x=scale[0],
        step_y=scale[1],
    )
    try:
        place.footprint(0, 0, 1, 1)
    except CRSError:
        return None  # a code that the EPSG registry does not know
    return place
