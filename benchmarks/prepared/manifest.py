"""The manifest of a prepared task: one JSON line of facts, then one JSON line per tile.

`manifest.jsonl` lies in the task's folder below the data root. Its first line is the `Header`; the others, a `TileRow`
each, make a table: `Manifest.frame()`, or `pandas.read_json(file, lines=True)` after one `readline()`. It holds no
absolute path and no time, so that the same files prepared by the same choices give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2
"""Rises whenever a field changes its meaning."""

FILE = "manifest.jsonl"
"""Name of the manifest in a prepared task's folder."""

PART = "part.jsonl"
"""Name of a scene's part of it, in the scene's folder."""

REGIONS = "regions.csv"
"""Name of the table beside the manifest that says which region each scene lies in, where places told it."""

STATISTICS = "statistics.json"
"""Name of the file beside the manifest that `data stats` writes."""


DType = Literal["uint8", "uint16", "float32"]


@dataclass(frozen=True, kw_only=True)
class BandFacts:
    """One band of a domain's sensor: centre and width (full width at half maximum) in nanometres, if known."""

    name: str
    centre_nm: float
    fwhm_nm: float | None = None


@dataclass(frozen=True, kw_only=True)
class DomainFacts:
    """One domain: its side, its sensor, ground sampling distance in metres and bands in file order."""

    side: Literal["source", "target"]
    sensor: str
    gsd_m: float
    bands: tuple[BandFacts, ...]

    @property
    def band_order(self) -> str:
        """The bands in file order with their centres in nanometres: `NIR:830 R:660 G:555 B:485`."""
        return " ".join(f"{band.name}:{band.centre_nm:g}" for band in self.bands)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of a scene in pixels: upper left corner, height and width."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class TileRow:
    """One tile.

    Args:
        tile: its name, unique within its domain.
        scene: the scene it was cut from, the unit of splits and intervals.
        domain: its domain.
        side: `source` or `target`.
        region: administrative region or city, empty if not known.
        bands: see `DomainFacts.band_order`.
        image: image file, relative to the manifest's folder.
        label: label file, likewise.
        window: the pixels of the scene's image file that it holds; smaller than the tile where fill was added at the
            right and the bottom.
        image_sha256: of the image file's bytes.
        label_sha256: of the label file's bytes.
        valid_fraction: share of pixels that are neither fill nor zero in every band.
        histogram: number of pixels per class index, classes that occur; what is missing to the tile's area is ignored.
        footprint: corners as (longitude, latitude) in degrees, WGS 84, clockwise from the upper left; None if unknown.
        georef: how the footprint was found. `geotiff`: tags of the file, to a centimetre; `rpc`: the camera's rational
            polynomials at the scene's mean height, to 0.3 km; the others give one box for the whole scene: `mgrs`,
            the tile of Sentinel-2 that its name tells; `name`, around the place that its name tells; `table`, around
            its city; `none`: not known.
        date: of acquisition, as `2019-07-13`; None if not known.
    """

    tile: str
    scene: str
    domain: str
    side: Literal["source", "target"]
    region: str
    bands: str
    image: str
    label: str
    window: Window
    image_sha256: str
    label_sha256: str
    valid_fraction: float
    histogram: Mapping[int, int]
    footprint: tuple[tuple[float, float], ...] | None = None
    georef: str = "none"
    date: str | None = None


@dataclass(frozen=True, kw_only=True)
class Header:
    """What holds for all tiles.

    Args:
        schema: `SCHEMA`.
        task: name of the task.
        recipe_version: of the recipe that made the tiles.
        tile_px: side of a tile.
        dtype: of the image files.
        classes: class names in index order; 255 is ignored.
        tiles: how many there are, so that a list cut off is not taken for whole.
        choices: what was chosen where the published protocol is silent or ambiguous.
        domains: facts of each domain.
        raw_fingerprint: hash of the official files used, by path below `--raw` and size.
        label_map_id: name of the label map, `benchmarks/datasets/labels/NAME.csv`.
        extras: of files that the user brought, by option: the hash of what they told of the scenes.
        notes: what was found on the way, for people.
    """

    schema: int = SCHEMA
    task: str
    recipe_version: int
    tile_px: int
    dtype: DType
    classes: tuple[str, ...]
    tiles: int
    choices: Mapping[str, str]
    domains: Mapping[str, DomainFacts]
    raw_fingerprint: str = ""
    label_map_id: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """One prepared scene.

    Args:
        made_of: the hash of all that made it.
        notes: for people.
        tiles: its tiles.
        sizes: bytes of each of their files, named as in `TileRow`.
    """

    made_of: str
    sizes: Mapping[str, int]
    notes: tuple[str, ...] = ()
    tiles: tuple[TileRow, ...] = field(default=())


_HEADER = TypeAdapter(Header)
_ROW = TypeAdapter(TileRow)
_PART = TypeAdapter(Part)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A header and the tiles in order."""

    header: Header
    tiles: tuple[TileRow, ...]

    def dump(self) -> bytes:
        """The file's bytes: the same for the same content."""
        return "".join([_line(self.header), *(_line(row) for row in self.tiles)]).encode()

    def frame(self) -> pd.DataFrame:
        """The tiles as a table: the window as `window.row` and so on, the rest as in `TileRow`."""
        import pandas as pd

        return pd.json_normalize([asdict(row) for row in self.tiles], max_level=0).pipe(
            lambda frame: frame.drop(columns="window").join(
                pd.json_normalize([{"window": asdict(row.window)} for row in self.tiles])
            )
        )


def _line(part: Header | TileRow) -> str:
    return json.dumps(asdict(part), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def dump_part(part: Part) -> bytes:
    """A scene's part as a file's bytes."""
    return _PART.dump_json(part) + b"\n"


def load_part(path: Path) -> Part | None:
    """A scene's part, or None if there is none or it cannot be understood: the scene will be prepared again."""
    try:
        return _PART.validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


class NewerSchema(ValueError):
    """A manifest was written by a newer version of this program, so that nothing may be said of what it holds."""


def load_header(path: Path) -> Header | None:
    """The header alone, of a damaged manifest; None if it cannot be understood either. May raise `NewerSchema`."""
    try:
        return _first(path, path.read_bytes().partition(b"\n")[0])
    except NewerSchema:
        raise
    except (OSError, ValueError):
        return None


def load_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ValueError: missing, of another schema, cut off or not understood. Names the file, line and remedy. It is
            `NewerSchema` where this program is older than the file.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); prepare the data again, or restore it") from error
    if not lines or not lines[-1].endswith(b"\n"):
        raise ValueError(f"{path} is empty or cut off; run `data prepare` again: prepared scenes are kept")
    header = _first(path, lines[0])
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append(_ROW.validate_json(line))
        except ValidationError as error:
            raise ValueError(_complaint(path, number, error)) from error
    _check(path, header, rows)
    return Manifest(header=header, tiles=tuple(rows))


def _first(path: Path, line: bytes) -> Header:
    try:
        given = json.loads(line)
        schema = given.get("schema") if isinstance(given, dict) else None
        if schema != SCHEMA:
            newer = isinstance(schema, int) and schema > SCHEMA
            remedy = "update the program, or prepare into another folder" if newer else "run `data prepare` again"
            kind = NewerSchema if newer else ValueError
            raise kind(f"{path} has schema {schema}, this program reads {SCHEMA}; {remedy}")
        return _HEADER.validate_python(given)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}, line 1: no JSON; restore the file, or run `data prepare` again") from error
    except ValidationError as error:
        raise ValueError(_complaint(path, 1, error)) from error


def _complaint(path: Path, number: int, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the line"
    return f"{path}, line {number}: {where}: {first['msg']}; restore the file, or run `data prepare` again"


def _check(path: Path, header: Header, rows: Sequence[TileRow]) -> None:
    """What single lines cannot show: unknown domains or classes, tiles named twice, lines lost or added."""
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, start=2):
        if row.domain not in header.domains:
            raise ValueError(f"{path}, line {number}: domain {row.domain!r} is not in the header; restore the file")
        if (row.domain, row.tile) in seen:
            raise ValueError(f"{path}, line {number}: tile {row.tile!r} is listed twice; restore the file")
        seen.add((row.domain, row.tile))
    if len(rows) != header.tiles:
        raise ValueError(
            f"{path} lists {len(rows)} tiles, but its first line says {header.tiles}: it is cut off or added to; "
            "run `data prepare` again: prepared scenes are kept"
        )
