"""The reader of a prepared task: tiles as its manifest lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.datasets.tiff import read_tiff
from benchmarks.prepared.manifest import FILE, STATISTICS, DomainFacts, Manifest, TileRow, load_manifest
from benchmarks.prepared.rasters import read_label
from benchmarks.prepared.statistics import load_normalisation
from benchmarks.tasks import IGNORE, AbsentData, ImageHWC, LabelHW, Sample, TileRef, short_hash

_AGAIN = "run `data prepare` again after removing its scene's folder: other scenes are kept"


class PreparedReader:
    """The tiles of a prepared task; made by `open_prepared`. A `benchmarks.tasks.Reader`."""

    def __init__(self, folder: Path, manifest: Manifest, digest: str) -> None:
        """Take the manifest's folder, what it says and the hash of its bytes."""
        self.folder = folder
        self.manifest = manifest
        self.manifest_digest = digest
        self._rows = {TileRef(domain=row.domain, scene=row.scene, name=row.tile): row for row in manifest.tiles}

    @property
    def fingerprint(self) -> str:
        """The hash of the manifest and, once they are stored, of the statistics (sha256, 16 hexadecimal digits)."""
        path = self.folder / STATISTICS
        if not path.is_file():
            return self.manifest_digest[:16]
        return short_hash(self.manifest_digest.encode() + path.read_bytes())

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Stored mean and standard deviation per band of the source, or None. Raises `ValueError` if out of date."""
        path = self.folder / STATISTICS
        if not path.is_file():
            return None
        source = next(facts for facts in self.manifest.header.domains.values() if facts.side == "source")
        return load_normalisation(path, self.manifest_digest, len(source.bands))

    @property
    def facts(self) -> dict[str, tuple[DomainFacts]]:
        """Sensor, ground sampling distance and bands of each domain, as the manifest says."""
        return {name: (facts,) for name, facts in self.manifest.header.domains.items()}

    def tiles(self, domain: str) -> list[TileRef]:
        """All tiles of a domain, in the manifest's order. Raises `ValueError` for a domain without tiles."""
        found = [tile for tile in self._rows if tile.domain == domain]
        if not found:
            have = sorted({row.domain for row in self.manifest.tiles})
            raise ValueError(
                f"no tile of domain {domain!r} in {self.folder / FILE} (domains: {', '.join(have) or 'none'}); "
                "prepare it from the files of all domains"
            )
        return found

    def row(self, tile: TileRef) -> TileRow:
        """What the manifest says of a tile. Raises `ValueError` for one that it does not list."""
        if tile not in self._rows:
            raise ValueError(f"no tile {tile.name!r} of domain {tile.domain!r} in {self.folder / FILE}; use `tiles`")
        return self._rows[tile]

    def read(self, tile: TileRef) -> Sample:
        """The pixels of one tile: image [H, W, bands] in the manifest's type and order; label [H, W] with `IGNORE`.

        Raises:
            ValueError: a defect of one of its files. Names the file, what was found, what is expected and the remedy.
        """
        row = self.row(tile)
        return Sample(image=self._image(row), label=self._label(row))

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        """Compare each tile's files with their checksums, read it, and raise the first defect (`ValueError`)."""
        for tile in tiles:
            row = self.row(tile)
            for name, expected in ((row.image, row.image_sha256), (row.label, row.label_sha256)):
                path = self.folder / name
                try:
                    found = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError as error:
                    raise ValueError(f"{path} cannot be read ({error.strerror}); {_AGAIN}") from error
                if found != expected:
                    raise ValueError(
                        f"{path} has the checksum {found[:12]}..., but {FILE} says {expected[:12]}...; {_AGAIN}"
                    )
            self.read(tile)
            on_tile()

    def _image(self, row: TileRow) -> ImageHWC:
        path, header = self.folder / row.image, self.manifest.header
        image = read_tiff(path).pixels
        expected = (header.tile_px, header.tile_px, len(header.domains[row.domain].bands))
        if image.shape != expected or image.dtype != header.dtype:
            raise ValueError(
                f"{path} has shape {image.shape} and type {image.dtype}, expected {expected} and {header.dtype}; "
                f"{_AGAIN}"
            )
        return image

    def _label(self, row: TileRow) -> LabelHW:
        path, header = self.folder / row.label, self.manifest.header
        label = read_label(path)
        if label.shape != (header.tile_px, header.tile_px):
            raise ValueError(
                f"{path} has shape {label.shape}, expected {header.tile_px} x {header.tile_px} in one channel; {_AGAIN}"
            )
        wrong = label[(label >= len(header.classes)) & (label != IGNORE)]
        if wrong.size:
            raise ValueError(
                f"{path} holds the value {int(wrong.max())}, expected a class 0 to {len(header.classes) - 1} or "
                f"{IGNORE}; {_AGAIN}"
            )
        return np.ascontiguousarray(label)


def is_prepared(root: Path, task: str) -> bool:
    """Whether the data root holds a folder made by `data prepare` for this task, whole or not."""
    return (root / task).is_dir()


def open_prepared(root: Path, task: str) -> PreparedReader:
    """Open the task's prepared folder below a data root, without opening any tile.

    Raises:
        AbsentData: it is not there.
        ValueError: it is not finished, or its manifest is of another task.
    """
    path = root / task / FILE
    if not path.is_file():
        begun = (root / task).is_dir()
        state = "is not finished: it has no manifest" if begun else "does not exist"
        kind = ValueError if begun else AbsentData
        raise kind(
            f"{root / task} {state}; make it with `python run.py data prepare {task} --raw DIR --out {root}`"
            + (", which goes on where it stopped" if begun else " (see docs/datasets.md)")
        )
    manifest = load_manifest(path)
    if manifest.header.task != task:
        raise ValueError(f"{path} is the manifest of task {manifest.header.task!r}, not {task!r}; move its folder")
    return PreparedReader(path.parent, manifest, hashlib.sha256(path.read_bytes()).hexdigest())
