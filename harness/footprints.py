"""Where tiles lie: footprints that share ground, how much of it, and how far apart the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Geod
from scipy.spatial import cKDTree

from benchmarks.prepared.audit_report import Check, Example, Finding, Ground
from benchmarks.prepared.manifest import TileRow
from harness.likeness import EXAMPLES

ACCURACY = {
    "geotiff": "exact",
    "rpc": "±0.3 km, terrain left out",
    "mgrs": "somewhere in a Sentinel-2 tile of 109.8 km",
    "name": "somewhere in a box around the place in the file's name",
    "table": "somewhere in a box of ±50 to ±80 km around its city",
}
"""How sure a footprint is, by the method that found it. Of the last three the footprint is the box."""

_REACH_KM = {"rpc": 0.3}
AROUND_NAMES = frozenset({"name", "table"})
"""Boxes around a place that a scene is named after: that they hold all of it is likely, not known."""

_BOXES = AROUND_NAMES | {"mgrs"}
_EARTH = Geod(ellps="WGS84")
_RADIUS_KM = 6371.0088
_KM_PER_DEGREE = 110.5
_BINS = {"under 1 km": 1.0, "1 to 10 km": 10.0, "10 to 100 km": 100.0, "100 to 1000 km": 1000.0, "farther": np.inf}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Places:
    """The distinct footprints of some tiles.

    Args:
        shapes: polygons in degrees, an object array [n].
        methods: of each.
        tiles: indices of the rows that have it.
    """

    shapes: Any
    methods: list[str]
    tiles: list[list[int]]

    @property
    def reach_km(self) -> list[float]:
        """How far each may lie from where it is said to be."""
        return [_REACH_KM.get(method, 0.0) for method in self.methods]


def places(rows: Sequence[TileRow]) -> Places:
    """The distinct footprints of those tiles that have one. Raises `ValueError` for an unknown `georef`."""
    found: dict[tuple[Any, str], list[int]] = {}
    for index, row in enumerate(rows):
        if row.footprint is None:
            continue
        if row.georef not in ACCURACY:
            raise ValueError(
                f"tile {row.tile} of domain {row.domain} was placed by {row.georef!r}, of which no accuracy is known "
                f"(known: {', '.join(ACCURACY)}); correct `georef` in the manifest"
            )
        found.setdefault((row.footprint, row.georef), []).append(index)
    polygons = np.array([shapely.Polygon(corners) for corners, _ in found], dtype=object)
    return Places(
        shapes=shapely.make_valid(polygons), methods=[method for _, method in found], tiles=list(found.values())
    )


@dataclass(frozen=True, kw_only=True)
class _Meeting:
    """Two distinct footprints, by index, that share ground or may do so; square kilometres, or None for boxes."""

    first: int
    second: int
    check: Check
    certain: bool
    km2: float | None
    shape: Any = None


def compare(
    first: Sequence[TileRow], second: Sequence[TileRow], tile_px: int, *, target: bool
) -> tuple[Ground | None, list[Finding]]:
    """Footprints that two sets of tiles share, and how far apart the sets lie; None if one has no footprints.

    Footprints that touch, or overlap by less than half a pixel, share nothing.

    Args:
        first: tiles of the first set.
        second: tiles of the second.
        tile_px: side of a tile.
        target: whether the second set is a target, so that common ground is a leak.
    """
    one, other = places(first), places(second)
    if not one.tiles or not other.tiles:
        return None, []
    met = _overlaps(one, other, tile_px)
    met += _within_reach(one, other, {(meeting.first, meeting.second) for meeting in met})
    kinds = sorted({(not meeting.certain, meeting.check) for meeting in met})
    findings = []
    for uncertain, check in kinds:
        chosen = [meeting for meeting in met if meeting.check == check and meeting.certain is not uncertain]
        findings.append(_finding(one, other, chosen, (first, second), target=target))
    return _ground(one, other, met), findings


def _overlaps(one: Places, other: Places, tile_px: int) -> list[_Meeting]:
    seconds, firsts = shapely.STRtree(one.shapes).query(other.shapes, predicate="intersects")
    shared = shapely.intersection(one.shapes[firsts], other.shapes[seconds])
    least = np.minimum(shapely.area(one.shapes[firsts]), shapely.area(other.shapes[seconds])) * 0.5 / tile_px
    met = []
    for k in np.flatnonzero(shapely.area(shared) > least).tolist():
        methods = {one.methods[firsts[k]], other.methods[seconds[k]]}
        met.append(
            _Meeting(
                first=int(firsts[k]),
                second=int(seconds[k]),
                check="overlapping footprint",
                certain=methods == {"geotiff"},
                km2=None if methods & _BOXES else round(_square_km(shared[k]), 9),
                shape=shared[k],
            )
        )
    return met


def _within_reach(one: Places, other: Places, met: set[tuple[int, int]]) -> list[_Meeting]:
    """Footprints that do not meet, but may in truth, for all that is known of their accuracy."""
    reach = np.array(other.reach_km) + max(one.reach_km)
    wide = np.flatnonzero(reach > 0)
    west, south, east, north = shapely.bounds(other.shapes[wide]).T
    up = reach[wide] / _KM_PER_DEGREE
    aside = up / np.cos(np.radians(np.minimum(np.maximum(np.abs(south), np.abs(north)) + up, 89.0)))
    around = shapely.box(west - aside, south - up, east + aside, north + up)
    seconds, firsts = shapely.STRtree(one.shapes).query(around, predicate="intersects")
    return [
        _Meeting(first=i, second=int(wide[j]), check="close footprint", certain=False, km2=None)
        for i, j in zip(firsts.tolist(), seconds.tolist(), strict=True)
        if (i, int(wide[j])) not in met
    ]


def _finding(
    one: Places,
    other: Places,
    met: Sequence[_Meeting],
    rows: tuple[Sequence[TileRow], Sequence[TileRow]],
    *,
    target: bool,
) -> Finding:
    """One kind of meetings, counted in tiles."""
    methods = sorted({one.methods[m.first] for m in met} | {other.methods[m.second] for m in met})
    largest = sorted(met, key=lambda m: (-(m.km2 or 0), m.first, m.second))[:EXAMPLES]
    return Finding(
        check=met[0].check,
        certain=met[0].certain,
        leak=met[0].certain and target,
        pairs=sum(len(one.tiles[m.first]) * len(other.tiles[m.second]) for m in met),
        tiles=sum(len(other.tiles[second]) for second in {m.second for m in met}),
        note="; ".join(f"{method}: {ACCURACY[method]}" for method in methods),
        examples=tuple(
            Example(
                first=_name(rows[0][one.tiles[m.first][0]]),
                second=_name(rows[1][other.tiles[m.second][0]]),
                measure=m.km2,
            )
            for m in largest
        ),
    )


def _name(row: TileRow) -> str:
    return f"{row.domain}/{row.tile}"


def _ground(one: Places, other: Places, met: Sequence[_Meeting]) -> Ground:
    centres, others = _centres(one), _centres(other)
    distance, found = cKDTree(_unit(centres)).query(_unit(others))
    nearest = np.asarray(found)
    away = 2 * _RADIUS_KM * np.arcsin(np.clip(distance / 2, 0, 1))
    closest = int(np.argmin(away))
    (lon, lat), (to_lon, to_lat) = centres[nearest[closest]], others[closest]
    sizes = np.array([len(tiles) for tiles in other.tiles])
    bins = np.searchsorted(list(_BINS.values()), away, side="right")
    measured = [meeting.shape for meeting in met if meeting.km2 is not None]
    whole = _square_km(shapely.union_all(other.shapes[[m not in _BOXES for m in other.methods]]))
    shared = _square_km(shapely.union_all(measured))
    return Ground(
        placed=(sum(map(len, one.tiles)), int(sizes.sum())),
        methods=(tuple(sorted(set(one.methods))), tuple(sorted(set(other.methods)))),
        accuracy_km=max(one.reach_km) + max(other.reach_km),
        shared_km2=round(shared, 9),
        shared_fraction=round(shared / whole, 6) if whole else 0.0,
        nearest_km=round(_EARTH.inv(lon, lat, to_lon, to_lat)[2] / 1000, 3),
        distances={name: int(sizes[bins == index].sum()) for index, name in enumerate(_BINS)},
    )


def _centres(given: Places) -> Floats:
    centroids = shapely.centroid(given.shapes)
    return np.column_stack([shapely.get_x(centroids), shapely.get_y(centroids)])


def _unit(degrees: Floats) -> Floats:
    """Directions [n, 3] from the Earth's centre, whose distances order as those on its surface."""
    lon, lat = np.radians(degrees).T
    return np.column_stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])


def _square_km(shape: Any) -> float:
    """Area on the ellipsoid."""
    parts = shapely.get_parts(shapely.get_parts(shape))
    return sum(abs(_EARTH.geometry_area_perimeter(part)[0]) for part in parts if part.geom_type == "Polygon") / 1e6
