"""The reader of a prepared task: tiles as its manifest lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from benchmarks.datasets.tiff import read_tiff
from benchmarks.prepared.manifest import FILE, PART, STATISTICS, DomainFacts, Manifest, TileRow, load_manifest
from benchmarks.prepared.rasters import read_label
from benchmarks.prepared.statistics import load_normalisation
from benchmarks.tasks import IGNORE, AbsentData, ImageHWC, LabelHW, Sample, TileRef, short_hash


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
                with self._reading(row, name) as path:
                    found = hashlib.sha256(path.read_bytes()).hexdigest()
                if found != expected:
                    raise ValueError(
                        f"{path} has the checksum {found[:12]}..., but {FILE} says {expected[:12]}...; {_again(row)}"
                    )
            self.read(tile)
            on_tile()

    @contextmanager
    def _reading(self, row: TileRow, name: str) -> Iterator[Path]:
        """The path of a tile's file; what cannot be read is to be made again, not copied from elsewhere."""
        path = self.folder / name
        try:
            yield path
        except (OSError, ValueError) as error:
            kind, other = ("label", row.label) if name == row.image else ("image", row.image)
            if not path.exists():
                partner = f"its {kind} is there" if (self.folder / other).exists() else f"so is its {kind}"
                complaint = f"{path} is missing ({partner})"
            elif isinstance(error, OSError):
                complaint = f"{path} cannot be read ({error.strerror})"
            else:
                complaint = str(error).rpartition("; ")[0]  # the remedy comes last
            raise ValueError(f"{complaint}; {_again(row)}") from error

    def _image(self, row: TileRow) -> ImageHWC:
        header = self.manifest.header
        with self._reading(row, row.image) as path:
            image = read_tiff(path).pixels
        expected = (header.tile_px, header.tile_px, len(header.domains[row.domain].bands))
        if image.shape != expected or image.dtype != header.dtype:
            raise ValueError(
                f"{path} has shape {image.shape} and type {image.dtype}, expected {expected} and {header.dtype}; "
                f"{_again(row)}"
            )
        return image

    def _label(self, row: TileRow) -> LabelHW:
        header = self.manifest.header
        with self._reading(row, row.label) as path:
            label = read_label(path)
        if label.shape != (header.tile_px, header.tile_px):
            raise ValueError(
                f"{path} has shape {label.shape}, expected {header.tile_px} x {header.tile_px} in one channel; "
                f"{_again(row)}"
            )
        wrong = label[(label >= len(header.classes)) & (label != IGNORE)]
        if wrong.size:
            raise ValueError(
                f"{path} holds the value {int(wrong.max())}, expected a class 0 to {len(header.classes) - 1} or "
                f"{IGNORE}; {_again(row)}"
            )
        return np.ascontiguousarray(label)


def _again(row: TileRow) -> str:
    return f"remove the folder {PurePosixPath(row.image).parent} and run `data prepare` again: other scenes are kept"


def refuse_own_folder(root: Path, task: str) -> None:
    """Raise `ValueError` if a data root is a prepared task's folder, one level too deep."""
    if not (root / task).exists() and ((root / FILE).is_file() or any(root.glob(f"*/*/{PART}"))):
        above = root.absolute().parent
        raise ValueError(
            f"{root} is a prepared task's own folder; give --data {above} (where you train, --data-root {above})"
        )


def is_prepared(root: Path, task: str) -> bool:
    """Whether the data root holds a folder made by `data prepare` for this task, whole or not."""
    return (root / task).is_dir()


def open_prepared(root: Path, task: str) -> PreparedReader:
    """Open the task's prepared folder below a data root, without opening any tile.

    Raises:
        AbsentData: it is not there.
        ValueError: it is not finished, its manifest is of another task, or the root is the task's own folder.
    """
    refuse_own_folder(root, task)
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
