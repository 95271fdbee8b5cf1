"""Which administrative region a place lies in, by polygons that the user brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.prepared.recipe import Choice, Need

if TYPE_CHECKING:
    import geopandas as gpd

NAME_FIELDS = ("shapeName", "NAME_2", "ADM2_EN", "adm2_name", "ADM2_NAME", "NAME", "name")
"""Fields that hold the names of regions in known editions, the surest first; capitals do not count."""

FIELD = Choice(
    name="name_field",
    values=("auto", *NAME_FIELDS),
    why="the field of --boundaries that holds the regions' names; auto: the first of these that it has",
)
"""The choice that goes with `PREFECTURES`."""

PREFECTURES = Need(
    option="boundaries",
    what=(
        "polygons of China's prefectures (second level, ADM2) with their names, as GeoJSON, GeoPackage or shapefile, "
        "such as geoBoundaries' CHN ADM2 (www.geoboundaries.org, by hand, without registration); they tell which "
        "region a scene lies in, because its authors do not"
    ),
)
"""What a recipe needs that splits China's scenes by region."""

# the next finer level: a layer that has it too is cut finer
_FINER = ("NAME_3", "ADM3_EN", "adm3_name", "ADM3_NAME")
_FAR_DEGREES = 1.0
OFF_KM = 50.0
"""How far outside every polygon a place may lie, as at sea, and still belong to the nearest."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where a place lies.

    Args:
        region: name of its region.
        km: how far outside the region's polygon it lies, 0 within.
        near: other regions within about 50 km, as name and distance in kilometres, nearest first.
    """

    region: str
    km: float
    near: tuple[tuple[str, float], ...]


class Boundaries:
    """Regions with their names; made by `read_boundaries`."""

    def __init__(self, path: Path, names: tuple[str, ...], frame: gpd.GeoDataFrame) -> None:
        """Take the file for messages, the names, and as many polygons in degrees (WGS 84)."""
        self.path = path
        self._names = names
        self._frame = frame

    def at(self, lon: float, lat: float) -> Located | None:
        """The region of a place in degrees (WGS 84), or the nearest one; None if none lies within 50 km."""
        found = [(name, km) for name, km in self.around(lon, lat) if km <= OFF_KM]
        if not found:
            return None
        (region, off), *others = found
        return Located(region=region, km=off, near=tuple(other for other in others if other[0] != region))

    def around(self, lon: float, lat: float, degrees: float = _FAR_DEGREES) -> list[tuple[str, float]]:
        """Regions that reach into a box around a place: name and distance in kilometres (0: within), nearest first."""
        from shapely import Point, box

        reach = box(lon - 1.5 * degrees, lat - degrees, lon + 1.5 * degrees, lat + degrees)
        hits = self._frame.sindex.query(reach)
        plane = self._frame.iloc[hits].to_crs(f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84 +units=m")
        metres = plane.distance(Point(0, 0))
        return sorted(((self._names[i], float(m) / 1000) for i, m in zip(hits, metres, strict=True)), key=_by_distance)


def _by_distance(found: tuple[str, float]) -> tuple[float, str]:
    return found[1], found[0]


def read_boundaries(path: Path, field: str) -> Boundaries:
    """The polygons of a file.

    Args:
        path: GeoJSON, GeoPackage, shapefile, or an archive of one, as GDAL reads them.
        field: a value of `FIELD`.

    Raises:
        ValueError: not such a file, no field with names, no coordinate system, or no polygons. Names the remedy.
    """
    import geopandas as gpd
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        layer, column = _layer(path, field)
        frame = gpd.read_file(path, layer=layer, columns=[column])
    except (DataSourceError, DataLayerError) as error:
        text = " ".join(str(error).split())[:120]
        raise ValueError(f"--boundaries {path} cannot be read ({text}); give {PREFECTURES.what}") from error
    frame = frame[frame.geometry.notna() & frame[column].notna()]
    if frame.empty or not frame.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        raise ValueError(f"--boundaries {path} holds no polygons, or more than polygons; give {PREFECTURES.what}")
    if frame.crs is None:
        raise ValueError(f"--boundaries {path} names no coordinate system; add its .prj file, or give GeoJSON")
    names = tuple(str(name).strip() for name in frame[column])
    return Boundaries(path, names, frame.geometry.to_frame("geometry").to_crs("EPSG:4326"))


def _layer(path: Path, field: str) -> tuple[str, str]:
    """The layer and the field of the names."""
    import pyogrio

    columns = {name: list(pyogrio.read_info(path, layer=name)["fields"]) for name, _ in pyogrio.list_layers(path)}
    wanted = NAME_FIELDS if field == "auto" else (field,)
    named = {layer: _field(have, wanted) for layer, have in columns.items()}
    fit = {layer: name for layer, name in named.items() if name}
    if len(fit) > 1:
        fit = {layer: name for layer, name in fit.items() if not _field(columns[layer], _FINER)}
    if len(fit) == 1:
        return next((layer, name) for layer, name in fit.items() if name)
    held = "; ".join(f"{layer}: {', '.join(have) or 'none'}" for layer, have in columns.items())
    raise ValueError(
        f"--boundaries {path} has {len(fit) or 'no'} layers with a field {' or '.join(wanted)} (fields: {held}); "
        "rename the field of the names, or give a file of one layer"
    )


def _field(have: list[str], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted fields that is there, as the file spells it."""
    exact = next((name for name in wanted if name in have), None)
    lower = {name.casefold(): name for name in have}
    return exact or next((lower[name.casefold()] for name in wanted if name.casefold() in lower), None)
