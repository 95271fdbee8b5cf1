"""A prepared task that tests spoil and audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from benchmarks.prepared.manifest import Manifest, TileRow, load_manifest
from tests.conftest import Program, Result

Image8 = npt.NDArray[np.uint8]


class Prepared:
    """A prepared task that can be spoilt and audited."""

    def __init__(self, program: Program, root: Path, task: str) -> None:
        self.program, self.root, self.task = program, root, task
        self.path = root / task / "manifest.jsonl"

    @property
    def rows(self) -> tuple[TileRow, ...]:
        return load_manifest(self.path).tiles

    def of(self, domain: str) -> list[TileRow]:
        """The tiles of a domain."""
        return [row for row in self.rows if row.domain == domain]

    def image(self, row: TileRow) -> Image8:
        return np.asarray(tifffile.imread(self.root / self.task / row.image))

    def paint(self, row: TileRow, image: npt.NDArray[Any], **options: Any) -> None:
        """Put other pixels into a tile's file."""
        tifffile.imwrite(
            self.root / self.task / row.image,
            image,
            photometric="minisblack",
            planarconfig="contig",
            metadata=None,
            **options,
        )

    def rewrite(self, change: Callable[[TileRow], TileRow]) -> None:
        """Put other rows into the manifest."""
        manifest = load_manifest(self.path)
        rows = tuple(change(row) for row in manifest.tiles)
        self.path.write_bytes(Manifest(header=manifest.header, tiles=rows).dump())

    def audit(self, *more: object) -> Result:
        return self.program("data", "audit", self.task, "--data", self.root, "--workers", 1, *more)

    @property
    def report(self) -> dict[str, Any]:
        """The stored report's pairs, by the second set."""
        body = json.loads((self.root / self.task / "audit.json").read_text())
        return {pair["second"]: pair for pair in body["pairs"]}


def prepare(program: Program, root: Path, task: str, write: Callable[..., object], tile: int, **sizes: int) -> Prepared:
    write(root / "raw", **sizes)
    where = ("--raw", root / "raw", "--out", root / "data", "--tile", tile, "--workers", 1)
    assert program("data", "prepare", task, *where).exit_code == 0
    return Prepared(program, root / "data", task)


def checks(pair: dict[str, Any]) -> list[str]:
    return [finding["check"] for finding in pair["findings"]]


def audited(data: Prepared, exit_code: int) -> dict[str, Any]:
    result = data.audit()
    assert result.exit_code == exit_code, result
    return data.report


def field(rng: np.random.Generator, height: int, width: int, slope: float = 2.5) -> Image8:
    """Random ground of natural texture: amplitude falls with frequency to the power of `slope` / 2."""
    rows, cols = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(rows, cols)
    frequency[0, 0] = 1
    wave = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) * frequency ** (-slope / 2), s=(height, width))
    return np.clip(128 + 40 * wave / wave.std(), 1, 254).astype(np.uint8)


def place(row: TileRow, lon: float, lat: float, side: float = 0.001, method: str = "geotiff") -> TileRow:
    """The row with a square footprint, by its upper left corner and its side in degrees."""
    corners = ((lon, lat), (lon + side, lat), (lon + side, lat - side), (lon, lat - side))
    return replace(row, footprint=corners, georef=method)
