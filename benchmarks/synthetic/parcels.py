"""The geometry of farmland: a turned, slightly warped frame, parcels in it, rows and bunds in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.synthetic.fields import BoolImage, FloatImage, smooth_noise

Cells = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Two warped coordinates, each [px, px], from the scene's centre along and across the parcels.

    They count pixels of zoom 1, and so does all that is laid out by them.
    """

    u: FloatImage
    v: FloatImage


def rotated_frame(rng: np.random.Generator, px: int, zoom: float) -> Frame:
    """A frame at a random angle, bent by up to a few pixels."""
    angle = rng.uniform(0, np.pi)
    axis = (np.arange(px, dtype=np.float32) - (px - 1) / 2) / np.float32(zoom)
    y, x = axis[:, None], axis[None, :]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    bend_u, bend_v = smooth_noise(rng, px, 40 * zoom), smooth_noise(rng, px, 40 * zoom)
    return Frame(u=x * cos + y * sin + 1.5 * bend_u, v=y * cos - x * sin + 1.5 * bend_v)


def voronoi(rng: np.random.Generator, frame: Frame, side_px: float) -> tuple[Cells, int]:
    """Parcels as cells of a Voronoi diagram in the maximum norm: the cell of each pixel, and how many there are."""
    stretch = np.float32(rng.uniform(0.7, 1.4))
    reach = float(np.abs(frame.u).max()) + side_px
    nodes = np.arange(-reach, reach + side_px, side_px)
    grid = np.stack(np.meshgrid(nodes * stretch, nodes / stretch), axis=-1).reshape(-1, 2)
    seeds = grid + rng.uniform(-0.38, 0.38, grid.shape) * side_px
    near = (np.abs(seeds) <= reach).all(axis=1)
    distance = np.full(frame.u.shape, np.inf, dtype=np.float32)
    cells = np.zeros(frame.u.shape, dtype=np.int32)
    for index, (u, v) in enumerate(seeds[near].astype(np.float32)):
        to_seed = np.maximum(np.abs(frame.u - u) / stretch, np.abs(frame.v - v) * stretch)
        closer = to_seed < distance
        np.copyto(distance, to_seed, where=closer)
        np.copyto(cells, np.int32(index), where=closer)
    return cells, int(near.sum())


def bund_grid(rng: np.random.Generator, frame: Frame, cells: Cells, count: int) -> BoolImage:
    """Lines about a pixel wide that divide each cell into rectangles of 6 to 13 pixels."""
    spacing = rng.uniform([6, 8], [9, 13], (count, 2)).astype(np.float32)[cells]
    shift = rng.uniform(0, 13, (count, 2)).astype(np.float32)[cells]
    along = np.mod(frame.u + shift[..., 0], spacing[..., 0]) < 1.3
    across = np.mod(frame.v + shift[..., 1], spacing[..., 1]) < 1.3
    return np.asarray(along | across)


def rows(rng: np.random.Generator, frame: Frame, cells: Cells, count: int) -> FloatImage:
    """The share of ground between crop rows, 0 to 0.75: waves of 3.5 to 6.5 pixels along or across each cell."""
    period = rng.uniform(3.5, 6.5, count).astype(np.float32)[cells]
    phase = rng.uniform(0, 2 * np.pi, count).astype(np.float32)[cells]
    turned = (rng.random(count) < 0.5)[cells]
    depth = rng.uniform(0.5, 0.75, count).astype(np.float32)[cells]
    wave = np.cos(2 * np.pi * np.where(turned, frame.u, frame.v) / period + phase)
    return np.asarray(depth * (0.5 + 0.5 * wave), dtype=np.float32)
