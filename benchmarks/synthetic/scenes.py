"""The embedded tasks: synthetic scenes in the shape of the data sets they stand in for.

Synthetic throughout: numbers measured on these scenes must never stand beside numbers measured on real images without
saying so. Bands, materials and the physics are cited where they are defined (`spectra`, `atmosphere`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from benchmarks.prepared.manifest import DomainFacts
from benchmarks.synthetic.cameras import cameras
from benchmarks.synthetic.domains import CANONICAL, DOMAINS, RANDOM
from benchmarks.synthetic.layout import CLASSES
from benchmarks.synthetic.mirrors import MIRRORS
from benchmarks.synthetic.regions import FBP_CR, FLAIR_CR, WHU_OHS_CR, Settings
from benchmarks.synthetic.render import Scene, render_scene
from benchmarks.synthetic.shift import shifted
from benchmarks.synthetic.styles import LOVEDA_R2U, OEM_CC, POTSDAM2VAIHINGEN
from benchmarks.tasks import AS_IS, Sample, SceneSizes, Shift, TileRef, short_hash

__all__ = ["CLASSES", "GENERATOR_VERSION", "PretrainingScene", "SceneReader", "pretraining_scenes"]

GENERATOR_VERSION = "1"
"""Rises whenever a scene's bytes can change; it is part of every random stream and of the fingerprint."""

CACHED_SCENES = 256
"""Rendered scenes that a process keeps, enough for all of one task at scale mini."""

SETTINGS: dict[str, Settings] = {
    "whu_ohs_cr": WHU_OHS_CR,
    "fbp_cs": {name: (domain,) for name, domain in DOMAINS.items()},
    "fbp_cr": FBP_CR,
    "flair_cr": FLAIR_CR,
    "loveda_r2u": LOVEDA_R2U,
    "potsdam2vaihingen": POTSDAM2VAIHINGEN,
    "oem_cc": OEM_CC,
}
"""The domains of every mirror, the source first."""


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


@lru_cache(CACHED_SCENES)
def task_scene(task: str, domain: str, index: int, px: int, shift: Shift = AS_IS) -> Scene:
    """Scene `index` of a task's domain, a function of the generator's version and these arguments alone.

    Its arrays are shared and read-only; labels are the task's classes.
    """
    settings = SETTINGS[task]
    source, target = settings[MIRRORS[task].source], settings[domain]
    setting = target[index % len(target)]
    if target is not source:
        setting = shifted(source[index % len(source)], setting, shift)
    scene = render_scene(setting, f"v{GENERATOR_VERSION}/{task}/{domain}/{index}", px)
    scene = replace(scene, label=_classes(task)[scene.label])
    for array in (scene.image, scene.label, scene.height_m):
        array.setflags(write=False)
    return scene


def _classes(task: str) -> npt.NDArray[np.uint8]:
    """The task's class index of each of the generator's classes."""
    merges = [legend.merges for legend in MIRRORS[task].legend.values()]
    indices = [next(i for i, merged in enumerate(merges) if name in merged) for name in CLASSES]
    return np.array(indices, dtype=np.uint8)


class SceneReader:
    """Renders scenes when their tiles are asked for; nothing is rendered before, and nothing twice in a process."""

    def __init__(self, task: str, sizes: SceneSizes) -> None:
        """Take the number and the sizes of scenes; `ValueError` if a scene cannot be cut into whole tiles."""
        if sizes.tile_px < 1 or sizes.scene_px < sizes.tile_px or sizes.scene_px % sizes.tile_px:
            raise ValueError(
                f"scene_px={sizes.scene_px} is no multiple of tile_px={sizes.tile_px}: choose a scene of whole tiles."
            )
        self._task = task
        self._domains = SETTINGS[task]
        self._sizes = sizes

    @property
    def fingerprint(self) -> str:
        """A short hash of the generator's version, the sizes, the shift and the domains' parameters."""
        inputs = (GENERATOR_VERSION, self._task, MIRRORS[self._task], self._sizes, self._domains)
        return short_hash(repr(inputs))

    @property
    def facts(self) -> Mapping[str, tuple[DomainFacts, ...]]:
        """The cameras of each domain, at the shift asked for."""
        return cameras(self._domains, self._sizes.shift)

    def tiles(self, domain: str) -> list[TileRef]:
        """All tiles of a domain, scene by scene, row by row. Raises `ValueError` for an unknown domain."""
        if domain not in self._domains:
            near = difflib.get_close_matches(domain, self._domains, n=1) or list(self._domains)
            raise ValueError(f"Unknown domain '{domain}' of the embedded scenes. Did you mean '{near[0]}'?")
        scenes = self._sizes.source_scenes if domain == MIRRORS[self._task].source else self._sizes.target_scenes
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
        index = int(tile.scene.rsplit("_", 1)[1])
        return task_scene(self._task, tile.domain, index, self._sizes.scene_px, self._sizes.shift)


open_whu_ohs_cr = partial(SceneReader, "whu_ohs_cr")
open_fbp_cs = partial(SceneReader, "fbp_cs")
open_fbp_cr = partial(SceneReader, "fbp_cr")
open_flair_cr = partial(SceneReader, "flair_cr")
open_loveda_r2u = partial(SceneReader, "loveda_r2u")
open_potsdam2vaihingen = partial(SceneReader, "potsdam2vaihingen")
open_oem_cc = partial(SceneReader, "oem_cc")
