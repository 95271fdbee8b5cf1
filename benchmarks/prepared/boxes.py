"""Where a scene lies as its name or a table tells it: one box for the whole scene, and for each of its tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rasterio.warp import transform

from benchmarks.prepared.georef import GeoTiffPlace

_KM_PER_DEGREE = 111.2
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_SQUARE_M, _CYCLE_M = 100_000, 2_000_000
# Sentinel-2's tiles reach over the squares of MGRS, and begin on multiples of the coarsest pixel, counted from the
# equator
_TILE_M, _PIXEL_M = 109_800, 60


@dataclass(frozen=True, kw_only=True)
class BoxPlace:
    """A box that a scene lies in, where no more is known: every tile has the box of its scene.

    Args:
        corners: longitude and latitude in degrees, WGS 84, clockwise from the upper left.
        method: how it is known, as in the manifest's `georef`.
    """

    corners: tuple[tuple[float, float], ...]
    method: str

    def footprint(self, row: int, col: int, height: int, width: int) -> tuple[tuple[float, float], ...]:
        """The box, whatever rectangle of the image is asked for."""
        return self.corners


def box_around(lon: float, lat: float, km: float, method: str) -> BoxPlace:
    """The box that reaches so many kilometres from a point to each of its sides."""
    up = km / _KM_PER_DEGREE
    aside = up / math.cos(math.radians(lat))
    corners = [(lon - aside, lat + up), (lon + aside, lat + up), (lon + aside, lat - up), (lon - aside, lat - up)]
    return BoxPlace(corners=tuple((round(x, 7), round(y, 7)) for x, y in corners), method=method)


def sentinel2_tile(name: str) -> BoxPlace:
    """The 109.8 km of a Sentinel-2 tile such as `50TMK`: zone, latitude band, and column and row of its MGRS square.

    Raises:
        ValueError: there is no such tile.
    """
    zone, band, column, row = name[:-3], name[-3], name[-2], name[-1]
    columns = _COLUMNS[(int(zone) - 1) % 3] if zone.isdecimal() and 1 <= int(zone) <= 60 else ""
    if band not in _BANDS or column not in columns or row not in _ROWS:
        raise ValueError(f"{name} is no tile of Sentinel-2 (such as 50TMK); give the scene its official name")
    left = _SQUARE_M * (columns.index(column) + 1)
    offset = 0 if int(zone) % 2 else 5
    bottom = _SQUARE_M * ((_ROWS.index(row) - offset) % len(_ROWS))
    epsg, meridian = 32600 + int(zone), 6 * int(zone) - 183
    (middle,) = transform("EPSG:4326", f"EPSG:{epsg}", [meridian], [-76 + 8 * _BANDS.index(band)])[1]
    bottom += _CYCLE_M * round((middle - bottom - _SQUARE_M / 2) / _CYCLE_M)
    grid = GeoTiffPlace(
        epsg=epsg,
        left=left // _PIXEL_M * _PIXEL_M,
        top=-(-(bottom + _SQUARE_M) // _PIXEL_M) * _PIXEL_M,
        step_x=_TILE_M,
        step_y=_TILE_M,
    )
    return BoxPlace(corners=grid.footprint(0, 0, 1, 1), method="mgrs")
