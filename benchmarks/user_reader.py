"""The reader of a user's own task: pairs of raster files as they are, one tile each.

TIFF files are read by our own reader (no colour conversion, no damage that passes as data), everything else by GDAL.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.tiff import read_tiff
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.tasks import IGNORE, LabelHW, LonelyFiles, Sample, TileRef, short_hash
from benchmarks.user_definition import Definition, DomainEntry

MOST_PX = 1024
"""The longest side of a tile: evaluation takes tiles whole, and attention grows with the square of their area."""

_TIFF = (".tif", ".tiff")
_OTHER = (".png", ".jp2", ".jpg", ".jpeg")
_WILD = re.compile(r"[*?\[]")
_PAIR = "add or remove it, or say with `pair` which part of the names is the same"
_CUT = "cut it into tiles, for example with `gdal_retile.py -ps 512 512`"


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The two files of a tile."""

    image: Path
    label: Path


class UserReader:
    """The tiles of a user's own task below a data root. A `benchmarks.tasks.Reader`."""

    def __init__(self, definition: Definition, pairs: Mapping[TileRef, _Pair]) -> None:
        """Take the files by tile; made by `open_user`."""
        self._definition = definition
        self._pairs = pairs
        self._entries = {domain.name: domain for domain in definition.domains}
        self._classes = {value: i for i, entry in enumerate(definition.classes) for value in entry.values}
        self._classes |= dict.fromkeys(definition.ignore, IGNORE)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what the definition says of the pixels and of each tile's names and file sizes; of no path."""
        sizes = [
            (tile.domain, tile.scene, tile.name, pair.image.stat().st_size, pair.label.stat().st_size)
            for tile, pair in self._pairs.items()
        ]
        return short_hash(repr((self._definition.numbers(), sizes)))

    @property
    def facts(self) -> Mapping[str, tuple[DomainFacts, ...]]:
        """Sensor, ground sampling distance and bands of each domain."""
        return self._definition.facts()

    def tiles(self, domain: str) -> list[TileRef]:
        """All tiles of a domain, by name. Raises `ValueError` for a domain without tiles."""
        found = [tile for tile in self._pairs if tile.domain == domain]
        if not found:
            raise ValueError(f"no image of domain {domain!r} has a label; {_PAIR}")
        return found

    def read(self, tile: TileRef) -> Sample:
        """The pixels of one tile: image [H, W, bands] in the task's order; label [H, W] with `IGNORE`.

        Raises:
            ValueError: a defect of one of its files. Names the file, what was found, what is expected and the remedy.
        """
        sample = self._read(tile)
        if tile.domain == self._definition.source.name and sample.label.shape != self._source_shape:
            raise ValueError(
                f"{self._pairs[tile].image} has {_size(sample.label)} pixels, but the first tile of the source "
                f"{self._source_shape[1]} x {self._source_shape[0]} (width x height): source tiles must be of one "
                "size, from which training draws its own; cut them alike, or leave out those at the edges"
            )
        return sample

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        """Read each tile once and raise the first defect (`ValueError`); `on_tile` is called after each sound tile."""
        for tile in tiles:
            self.read(tile)
            on_tile()

    @cached_property
    def _source_shape(self) -> tuple[int, ...]:
        return self._read(self.tiles(self._definition.source.name)[0]).label.shape

    def _read(self, tile: TileRef) -> Sample:
        pair = self._pairs[tile]
        image = self._image(pair.image, self._entries[tile.domain])
        label = self._label(pair.label)
        if image.shape[:2] != label.shape:
            raise ValueError(
                f"{pair.label} has {_size(label)} pixels, but its image {pair.image} {_size(image)} (width x height); "
                "cut both with the same box"
            )
        empty = self._empty(image, pair.image)
        if empty is not None and empty.any():
            image[empty], label[empty] = 0, IGNORE
        return Sample(image=image.astype(np.float32) if image.dtype == np.int16 else image, label=label)

    def _image(self, path: Path, domain: DomainEntry) -> npt.NDArray[Any]:
        pixels = read_raster(path)
        if pixels.dtype != self._definition.dtype:
            raise ValueError(
                f"{path} has pixels of type {pixels.dtype}, expected {self._definition.dtype}; set `dtype` in the task "
                "file if all images have that type, or convert it"
            )
        if max(pixels.shape[:2]) > MOST_PX:
            raise ValueError(
                f"{path} has {_size(pixels)} pixels, more than {MOST_PX} a side: tiles are evaluated whole; {_CUT}"
            )
        found, wanted = pixels.shape[2], len(self._definition.bands)
        if domain.file_bands:
            if found < max(domain.file_bands):
                raise ValueError(
                    f"{path} has {found} band(s), but file_bands of domain {domain.name} asks for band "
                    f"{max(domain.file_bands)}; mend file_bands, or use files with all bands"
                )
            return np.ascontiguousarray(pixels[..., [position - 1 for position in domain.file_bands]])
        if found != wanted:
            raise ValueError(
                f"{path} has {found} band(s), expected the task's {wanted}; say with file_bands of domain "
                f"{domain.name} which of them they are"
            )
        return pixels

    def _empty(self, image: npt.NDArray[Any], path: Path) -> npt.NDArray[np.bool_] | None:
        """Pixels [H, W] without data, or None where the task knows of none."""
        nodata = self._definition.nodata
        empty = None
        if nodata is not None:
            empty = (np.isnan(image) if np.isnan(nodata) else image == image.dtype.type(nodata)).any(-1)
        if image.dtype.kind == "f" and not np.isfinite(image if empty is None else image[~empty]).all():
            raise ValueError(f"{path} holds NaN or infinity; name the value of empty pixels in `nodata`, or fill them")
        return empty

    def _label(self, path: Path) -> LabelHW:
        raw = read_raster(path)
        if raw.shape[2] != 1 or raw.dtype.kind not in "ui":
            raise ValueError(
                f"{path} has {raw.shape[2]} band(s) of type {raw.dtype}, expected one of whole numbers: the values of "
                "`classes`; turn colours into values"
            )
        values, places = np.unique(raw[..., 0], return_inverse=True)
        if unknown := [value for value in values.tolist() if value not in self._classes]:
            known = ", ".join(map(str, sorted(self._classes)))
            raise ValueError(
                f"{path} holds the value {unknown[0]}, which is none of those in the task file ({known}); add it to a "
                "class or to `ignore`"
            )
        table = np.array([self._classes[value] for value in values.tolist()], dtype=np.uint8)
        return table[places].reshape(raw.shape[:2])


def open_user(definition: Definition, root: Path) -> UserReader:
    """Find and pair a task's files below a data root, without reading any.

    Raises:
        ValueError: a folder is missing or empty, or a file belongs to two tiles. It is `LonelyFiles` where only some
            partners are missing.
    """
    pairs: dict[TileRef, _Pair] = {}
    lonely: list[str] = []
    for domain in definition.domains:
        found, alone = _tiles(domain, root)
        pairs |= found
        lonely += alone
    _check_disjoint(pairs, definition.source.name)
    reader = UserReader(definition, pairs)
    if lonely:
        more = f" ({len(lonely)} such files)" if len(lonely) > 1 else ""
        message = f"{lonely[0]}{more}"
        raise LonelyFiles(message, lonely, reader) if pairs else ValueError(message)
    return reader


def read_raster(path: Path) -> npt.NDArray[Any]:
    """The bands [H, W, bands] of a raster file as stored, without colour conversion; palettes as their indices.

    Raises:
        ValueError: the file is missing, damaged or of another kind. Names it and the remedy.
    """
    if path.suffix.lower() in _TIFF:
        return read_tiff(path).pixels
    import rasterio  # costs half a second, and only some users have such files
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return np.ascontiguousarray(np.moveaxis(file.read(), 0, -1))
    except RasterioError as error:
        text = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} cannot be read ({text}); copy the file again, or write it as TIFF") from error


def _tiles(domain: DomainEntry, root: Path) -> tuple[dict[TileRef, _Pair], list[str]]:
    """The pairs of a domain, and a line about each file without its partner."""
    images, labels = (_files(domain, kind, root) for kind in ("images", "labels"))
    lonely = [
        f"{images[key].path} has no label; {_PAIR}" if key in images else f"{labels[key].path} has no image; {_PAIR}"
        for key in sorted(images.keys() ^ labels.keys())
    ]
    pairs = {
        TileRef(domain=domain.name, scene=images[key].scene, name=key): _Pair(
            image=images[key].path, label=labels[key].path
        )
        for key in sorted(images.keys() & labels.keys())
    }
    return pairs, lonely


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    scene: str


def _files(domain: DomainEntry, kind: str, root: Path) -> dict[str, _File]:
    """Files by what pairs them."""
    found: dict[str, _File] = {}
    for name, path in _match(root, getattr(domain, kind), f"{kind} of domain {domain.name}"):
        key = _group(domain.pair, name, path, "pair")
        if key in found:
            raise ValueError(
                f"{found[key].path} and {path} are the same tile {key!r} of domain {domain.name}; remove one, or mend "
                "`pair`"
            )
        # a label's name need not say its scene
        found[key] = _File(path=path, scene=_group(domain.scene, name, path, "scene") if kind == "images" else "")
    return found


def _group(pattern: str, name: str, path: Path, key: str) -> str:
    if not pattern:
        return name
    match = re.search(pattern, name)
    if match is None or not match[1]:
        raise ValueError(f"{path}: {key} = {pattern!r} finds nothing in {name!r}; mend it in the task file")
    return match[1]


def _match(root: Path, pattern: str, what: str) -> list[tuple[str, Path]]:
    """Raster files of a folder or glob, with their paths below its fixed part, without suffix."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    base, rest = root.joinpath(*parts[:fixed]), "/".join(parts[fixed:])
    if not base.is_dir():
        raise ValueError(
            f"no folder {base} for the {what}; mend the task file, or give the data root that its folders lie below"
        )
    paths = sorted(
        path
        for path in base.glob(rest or "**/*")
        if path.suffix.lower() in (*_TIFF, *_OTHER) and not path.name.startswith(".") and path.is_file()
    )
    if not paths:
        raise ValueError(
            f"no file {rest or '**/*'} in {base} for the {what} (looked for {', '.join((*_TIFF, *_OTHER))}); mend the "
            "task file"
        )
    return [(path.relative_to(base).with_suffix("").as_posix(), path) for path in paths]


def _check_disjoint(pairs: Mapping[TileRef, _Pair], source: str) -> None:
    """No image may be trained on and tested on."""
    owner: dict[Path, str] = {}
    for tile, pair in pairs.items():
        path = pair.image.resolve()
        if owner.setdefault(path, tile.domain) != tile.domain:
            both = f"{owner[path]} and {tile.domain}"
            why = "trained on and tested on" if source in (owner[path], tile.domain) else "counted twice"
            raise ValueError(f"{pair.image} belongs to the domains {both} and would be {why}; mend the folders")


def _size(pixels: npt.NDArray[Any]) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
