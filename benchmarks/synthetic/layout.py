"""What lies where: classes, objects, heights and structure of a synthetic scene, before any light falls on it.

The label comes first and the image is made from it, so a label is exact by construction. Confusable classes differ in
structure: paddies have a grid of bunds, crops have rows, ponds have neither; roofs are made of what roads are made of,
yet stand up and cast shadows; forest is green like crops, yet tall and rough. Heights overlap between classes (hedges,
heaps, maize, embankments, sheds, terrain), so that no threshold on height is the classifier.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from benchmarks.legends import SCENES_7
from benchmarks.synthetic import parcels
from benchmarks.synthetic.fields import BoolImage, FloatImage, borders, grain, smooth_noise
from benchmarks.synthetic.streams import stream

CLASSES = SCENES_7
"""Class names in index order."""

WATER, PADDY, CROP, FOREST, BARE, ROAD, BUILDING = range(len(CLASSES))

PIXEL_M = 2.0
"""Size of a scene's pixel on the ground, in metres, at zoom 1."""

LATENTS = 6
"""Uniform random numbers per object, from which a season picks its materials."""

KNOTS = 6
"""Knots per object of the smooth spectral variation within a class."""

TEXTURE = np.array([0.02, 0.04, 0.05, 0.12, 0.07, 0.04, 0.04], dtype=np.float32)
"""Standard deviation of the logarithmic brightness of single pixels, per class."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What kind of land a domain has; pixels are those of zoom 1.

    Args:
        parcel_px: typical side of a parcel, drawn per scene.
        parcel_mix: relative weights of paddy, crop, bare ground and fish pond among parcels.
        mix_spread: how much the weights vary between scenes (0: not at all).
        forest_cover: share of a scene that forest takes where nothing else lies.
        rivers: probability that a river crosses a scene.
        ponds: expected natural ponds per 64 x 64 pixels.
        roads: expected roads per 64 pixels of scene width.
        buildings: expected buildings per 64 x 64 pixels.
    """

    parcel_px: tuple[float, float] = (28.0, 38.0)
    parcel_mix: tuple[float, float, float, float] = (0.36, 0.34, 0.25, 0.05)
    mix_spread: float = 0.4
    forest_cover: tuple[float, float] = (0.15, 0.4)
    rivers: float = 0.5
    ponds: float = 0.25
    roads: tuple[float, float] = (0.6, 1.1)
    buildings: tuple[float, float] = (3.0, 6.5)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A scene on the ground, the same whatever the season, the air and the sensor. Images are [px, px].

    Args:
        label: class of each pixel.
        object_id: object of each pixel, an index into the arrays per object.
        height_m: surface height in metres, terrain included.
        structure: share (0 to 1) of an object's second cover: bunds, soil between rows, gaps in a canopy.
        texture: logarithmic brightness of single pixels.
        object_class: class per object, shape [objects].
        latents: uniform numbers per object, shape [objects, LATENTS].
        brightness: logarithmic brightness per object, shape [objects].
        knots: smooth logarithmic spectral variation per object, shape [objects, KNOTS].
    """

    label: npt.NDArray[np.uint8]
    object_id: npt.NDArray[np.int32]
    height_m: FloatImage
    structure: FloatImage
    texture: FloatImage
    object_class: npt.NDArray[np.int64]
    latents: npt.NDArray[np.float64]
    brightness: npt.NDArray[np.float64]
    knots: npt.NDArray[np.float64]


@dataclass
class _Canvas:
    """A layout in the making: later objects are painted over earlier ones."""

    key: str
    px: int
    zoom: float
    frame: parcels.Frame
    label: npt.NDArray[np.uint8]
    object_id: npt.NDArray[np.int32]
    height: FloatImage
    structure: FloatImage
    classes: list[int] = field(default_factory=list)

    @property
    def span(self) -> float:
        """Width of the scene in pixels of zoom 1, as the frame counts them."""
        return self.px / self.zoom

    def noise(self, rng: np.random.Generator, period: float) -> FloatImage:
        """Smooth noise whose hills are so many pixels of zoom 1 apart."""
        return smooth_noise(rng, self.px, period * self.zoom)

    def rng(self, ingredient: str) -> np.random.Generator:
        """The random stream of one ingredient of this layout."""
        return stream("layout", self.key, ingredient)

    def add(self, kind: int, where: BoolImage) -> None:
        """Paint one object of a class, flat and without structure."""
        self.label[where] = kind
        self.object_id[where] = len(self.classes)
        self.height[where] = 0
        self.structure[where] = 0
        self.classes.append(kind)


def make_layout(key: str, px: int, plan: Plan, zoom: float = 1.0) -> Layout:
    """The layout named `key`: the same arguments always give the same layout.

    Args:
        key: names the random streams.
        px: width and height in pixels.
        plan: what kind of land it is.
        zoom: enlarges everything on the ground; a pixel is `PIXEL_M` / zoom metres wide.
    """
    canvas = _fields(key, px, plan, zoom)
    _forest(canvas, plan)
    _water(canvas, plan)
    _roads(canvas, plan)
    _buildings(canvas, plan)
    rng = canvas.rng("objects")
    count = len(canvas.classes)
    terrain = 4 * canvas.noise(canvas.rng("terrain"), 60)
    texture = TEXTURE[canvas.label] * grain(canvas.rng("texture"), px, 0.8)
    return Layout(
        label=canvas.label,
        object_id=canvas.object_id,
        height_m=canvas.height + terrain - terrain.min(),
        structure=canvas.structure,
        texture=texture,
        object_class=np.array(canvas.classes),
        latents=rng.random((count, LATENTS)),
        brightness=rng.normal(0, 0.12, count),
        knots=rng.normal(0, 0.08, (count, KNOTS)),
    )


def _fields(key: str, px: int, plan: Plan, zoom: float) -> _Canvas:
    """Parcels of paddy, crop, bare ground and fish pond, with their bunds, rows, hedges and heaps."""
    rng = stream("layout", key, "parcels")
    frame = parcels.rotated_frame(rng, px, zoom)
    cells, count = parcels.voronoi(rng, frame, rng.uniform(*plan.parcel_px))
    weights = np.array(plan.parcel_mix) * np.exp(plan.mix_spread * rng.standard_normal(4))
    kinds = np.array([PADDY, CROP, BARE, WATER])[
        np.searchsorted(np.cumsum(weights / weights.sum()), rng.random(count)).clip(max=3)
    ]
    label = kinds[cells].astype(np.uint8)
    edge = borders(cells)
    bunds = parcels.bund_grid(rng, frame, cells, count) | edge
    rows = parcels.rows(rng, frame, cells, count)
    patches = np.clip(0.25 + 0.25 * smooth_noise(rng, px, 9 * zoom), 0, 1)
    structure = np.select([label == PADDY, label == CROP, label == BARE], [0.9 * bunds, rows, patches], 0.9 * edge)
    stand = rng.uniform([0.1, 0.3, 0.0, 0.0], [1.0, 2.5, 0.3, 0.0], (count, 4)).astype(np.float32)
    columns = np.select([label == PADDY, label == CROP, label == BARE], [0, 1, 2], 3)
    height = stand[cells, columns] * (1 - 0.5 * (label == CROP) * rows)
    heaps = (label == BARE) & (smooth_noise(rng, px, 7 * zoom) > 2.2)
    height = height + 2.5 * heaps + np.where(edge & (cells % 3 == 0), 1.5, 0.3 * edge)
    return _Canvas(
        key=key,
        px=px,
        zoom=zoom,
        frame=frame,
        label=label,
        object_id=cells,
        height=height.astype(np.float32),
        structure=structure.astype(np.float32),
        classes=[int(kind) for kind in kinds],
    )


def _forest(canvas: _Canvas, plan: Plan) -> None:
    """Woods with a ragged outline, in stands of different height, with a rough canopy."""
    rng = canvas.rng("forest")
    outline = canvas.noise(rng, 48) + 0.25 * canvas.noise(rng, 8)
    where = outline > np.quantile(outline, 1 - rng.uniform(*plan.forest_cover))
    first, stands = len(canvas.classes), int(canvas.object_id.max()) + 1
    canopy = grain(rng, canvas.px, 1.1 * canvas.zoom)
    height = rng.uniform(4, 18, stands).astype(np.float32)[canvas.object_id] + 1.5 * canopy
    canvas.height[where] = np.maximum(height, 2)[where]
    canvas.structure[where] = np.clip(0.12 - 0.22 * canopy, 0, 0.8)[where]
    canvas.label[where] = FOREST
    canvas.object_id[where] += first
    canvas.classes.extend([FOREST] * stands)


def _water(canvas: _Canvas, plan: Plan) -> None:
    """A winding river, perhaps, and some ponds with an irregular shore."""
    rng, frame, px, span = canvas.rng("water"), canvas.frame, canvas.px, canvas.span
    winding = rng.uniform(4, 12) * np.sin(2 * np.pi * frame.u / rng.uniform(50, 120) + rng.uniform(0, 7))
    width = rng.uniform(6, 13) + 1.5 * canvas.noise(rng, 20)
    river = np.abs(frame.v - rng.uniform(-0.35, 0.35) * span - winding) < width
    if rng.random() < plan.rivers:
        canvas.add(WATER, river)
    for _ in range(rng.poisson(plan.ponds * (span / 64) ** 2)):
        row, column, radius = rng.uniform(0, px), rng.uniform(0, px), rng.uniform(6, 15)
        y, x = np.ogrid[:px, :px]
        shore = canvas.zoom * radius * (1 + 0.2 * canvas.noise(rng, 10))
        canvas.add(WATER, (y - row) ** 2 + (x - column) ** 2 < shore**2)


def _roads(canvas: _Canvas, plan: Plan) -> None:
    """Straight roads along and across the parcels; some on an embankment."""
    rng, span = canvas.rng("roads"), canvas.span
    for index in range(max(1, rng.poisson(rng.uniform(*plan.roads) * span / 64))):
        along, across = (canvas.frame.u, canvas.frame.v) if index % 2 else (canvas.frame.v, canvas.frame.u)
        distance = np.abs(across - rng.uniform(-0.5, 0.5) * span - rng.uniform(-0.15, 0.15) * along)
        half = rng.uniform(2.8, 4.2)
        canvas.add(ROAD, distance < half)
        canvas.height[distance < half] = rng.uniform(2, 6) if rng.random() < 0.15 else rng.uniform(0, 0.4)


def _buildings(canvas: _Canvas, plan: Plan) -> None:
    """Villages of rectangular buildings, aligned with the parcels, on dry ground off the roads."""
    rng, px, tiles = canvas.rng("buildings"), canvas.px, (canvas.span / 64) ** 2
    reach = int(np.ceil(12 * canvas.zoom))
    villages = rng.uniform(0, px, (max(2, round(2 * tiles)), 2))
    for _ in range(rng.poisson(rng.uniform(*plan.buildings) * tiles)):
        row, column = villages[rng.integers(len(villages))] + canvas.zoom * rng.normal(0, 15, 2)
        half_u, half_v = rng.uniform(4.0, 8.5), rng.uniform(3.0, 6.0)
        storeys, gabled = rng.uniform(2.5, 15), rng.random() < 0.5
        if not (0 <= row < px and 0 <= column < px):
            continue
        centre = int(row), int(column)
        window = tuple(slice(max(0, place - reach), place + reach) for place in centre)
        along, across = (np.abs(axis[window] - axis[centre]) for axis in (canvas.frame.u, canvas.frame.v))
        inside = (along <= half_u) & (across <= half_v) & ~np.isin(canvas.label[window], (WATER, ROAD))
        canvas.label[window][inside] = BUILDING
        canvas.object_id[window][inside] = len(canvas.classes)
        canvas.structure[window][inside] = 0
        roof = storeys + (0.5 * (half_v - across) if gabled else np.zeros_like(across))
        canvas.height[window][inside] = roof[inside]
        canvas.classes.append(BUILDING)
