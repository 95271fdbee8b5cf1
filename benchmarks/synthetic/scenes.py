"""The embedded task `fbp_cs`: synthetic scenes of four sensors, in the shape of the data set they stand in for.

Synthetic throughout: numbers measured on these scenes must never stand beside numbers measured on real images without
saying so. Bands, materials and the physics are cited where they are defined (`spectra`, `atmosphere`).
"""

from __future__ import annotations

import difflib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.synthetic.domains import CANONICAL, DOMAINS, RANDOM, SOURCE
from benchmarks.synthetic.layout import CLASSES
from benchmarks.synthetic.render import Scene, render_scene
from benchmarks.tasks import Sample, SceneSizes, TileRef

__all__ = ["CLASSES", "GENERATOR_VERSION", "PretrainingScene", "SceneReader", "open_scenes", "pretraining_scenes"]

GENERATOR_VERSION = "1"
"""Rises whenever a scene's bytes can change; it is part of every random stream and of the fingerprint."""

CACHED_SCENES = 256
"""Rendered scenes that a reader keeps."""


@dataclass(frozen=True, kw_only=True)
class PretrainingScene:
    """A synthetic scene of the RANDOM domain, meant to be used without its label.

    Args:
        image: uint8 [px, px, 4] in the order NIR, R, G, B.
        canonical: the same place under one sensor, season, sun and air, uint8 [px, px, 4]; an output of the simulator
            that no real sensor gives.
        height_m: surface height in metres, float32 [px, px].
        label: uint8 [px, px], ONLY for the probe that scores a pretrained encoder; pretraining must not see it.
    """

    image: npt.NDArray[np.uint8]
    canonical: npt.NDArray[np.uint8]
    height_m: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]


def pretraining_scenes(count: int, px: int, seed: int) -> Iterator[PretrainingScene]:
    """Render scenes for pretraining, one after the other; no task scene shares a random stream with them.

    Args:
        count: how many scenes.
        px: width and height in pixels.
        seed: another seed gives other scenes; the first scenes do not depend on `count`.
    """
    for index in range(count):
        key = f"v{GENERATOR_VERSION}/pretraining/{seed}/{index}"
        scene, clear = render_scene(RANDOM, key, px), render_scene(CANONICAL, key, px)
        yield PretrainingScene(image=scene.image, canonical=clear.image, height_m=scene.height_m, label=scene.label)


def task_scene(domain: str, index: int, px: int) -> Scene:
    """Scene `index` of a task domain, a function of the generator's version and these arguments alone."""
    return render_scene(DOMAINS[domain], f"v{GENERATOR_VERSION}/fbp_cs/{domain}/{index}", px)


def open_scenes(sizes: SceneSizes) -> SceneReader:
    """A `Reader` of the embedded scenes; nothing is rendered before it is read."""
    return SceneReader(sizes)


class SceneReader:
    """Renders scenes when their tiles are asked for and keeps the latest."""

    def __init__(self, sizes: SceneSizes) -> None:
        """Take the number and the sizes of scenes; `ValueError` if a scene cannot be cut into whole tiles."""
        if sizes.tile_px < 1 or sizes.scene_px < sizes.tile_px or sizes.scene_px % sizes.tile_px:
            raise ValueError(
                f"scene_px={sizes.scene_px} is no multiple of tile_px={sizes.tile_px}: choose a scene of whole tiles."
            )
        self._sizes = sizes
        self._scenes: OrderedDict[str, Scene] = OrderedDict()

    @property
    def fingerprint(self) -> str:
        """A short hash of the generator's version, the sizes and the domains' parameters."""
        inputs = (GENERATOR_VERSION, self._sizes, DOMAINS)
        return hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]

    def tiles(self, domain: str) -> list[TileRef]:
        """All tiles of a domain, scene by scene, row by row. Raises `ValueError` for an unknown domain."""
        if domain not in DOMAINS:
            near = difflib.get_close_matches(domain, DOMAINS, n=1) or list(DOMAINS)
            raise ValueError(f"Unknown domain '{domain}' of the embedded scenes. Did you mean '{near[0]}'?")
        scenes = self._sizes.source_scenes if domain == SOURCE.name else self._sizes.target_scenes
        side = self._sizes.scene_px // self._sizes.tile_px
        return [
            TileRef(domain=domain, scene=f"{domain}_{index:04d}", name=f"{domain}_{index:04d}_r{row}_c{column}")
            for index in range(scenes)
            for row in range(side)
            for column in range(side)
        ]

    def read(self, tile: TileRef) -> Sample:
        """The pixels of one tile, in arrays of its own."""
        scene = self._scene(tile)
        row, column = (int(part[1:]) * self._sizes.tile_px for part in tile.name.rsplit("_", 2)[1:])
        window = (slice(row, row + self._sizes.tile_px), slice(column, column + self._sizes.tile_px))
        return Sample(image=scene.image[window].copy(), label=scene.label[window].copy())

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        """Report each tile as checked: rendered scenes have no files that could be defective."""
        for _ in tiles:
            on_tile()

    def _scene(self, tile: TileRef) -> Scene:
        if tile.scene not in self._scenes:
            self._scenes[tile.scene] = task_scene(tile.domain, int(tile.scene.rsplit("_", 1)[1]), self._sizes.scene_px)
            if len(self._scenes) > CACHED_SCENES:
                self._scenes.popitem(last=False)
        self._scenes.move_to_end(tile.scene)
        return self._scenes[tile.scene]
