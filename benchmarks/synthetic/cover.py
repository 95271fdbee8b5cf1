"""Which materials cover the objects of a layout in a season: abundances, as every pixel's spectrum is a linear mixture.

Each object has two covers: its first (canopy, soil, roof) and, where the layout's structure says so, its second (bunds,
ground between rows, gaps in a canopy). Shares by season are authored, in line with published paddy calendars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.synthetic.layout import BARE, BUILDING, CLASSES, CROP, FOREST, PADDY, ROAD, WATER, Layout
from benchmarks.synthetic.spectra import MATERIALS

Shares = Mapping[str, float]
"""Material names and their shares among the objects of a class."""

Covers = Mapping[int, Shares]
"""First covers by class."""

_WATERS = {"clear deep water": 0.3, "turbid river": 0.35, "eutrophic / fish pond": 0.2, "shallow pond": 0.15}
_ROADS = {"asphalt, aged": 0.6, "asphalt / bitumen, new": 0.15, "concrete": 0.25}
_GROUND = {"bare soil, dry loam": 0.65, "bare soil, wet": 0.15, "sand / gobi": 0.2}
_BUNDS = {"bare soil, dry loam": 0.6, "green grass / meadow": 0.25, "concrete": 0.15}
_BETWEEN_ROWS = {"bare soil, wet": 0.7, "bare soil, dry loam": 0.3}
_GAPS = {"shrub / open canopy": 0.5, "bare soil, wet": 0.5}

ROOFS: Shares = {
    "concrete": 0.25,
    "red clay tile": 0.25,
    "grey fibre-cement / slate": 0.2,
    "blue painted steel": 0.12,
    "white membrane roof": 0.1,
    "asphalt / bitumen, new": 0.08,
}
"""The usual mix of roofs."""

STANDING: Covers = {WATER: _WATERS, BARE: _GROUND, ROAD: _ROADS, BUILDING: ROOFS}
"""First covers of the classes that know no season."""


@dataclass(frozen=True, kw_only=True)
class Season:
    """First covers of the classes that change through the year."""

    name: str
    covers: Covers


SEASONS: dict[str, Season] = {
    name: Season(name=name, covers=covers)
    for name, covers in {
        "spring": {
            PADDY: {"paddy, flooded (LAI<1)": 0.75, "bare soil, wet": 0.15, "stubble / senescent crop": 0.1},
            CROP: {"irrigated crop, full cover": 0.55, "bare soil, dry loam": 0.45},
            FOREST: {"broadleaf canopy (summer)": 0.6, "conifer canopy": 0.4},
        },
        "summer": {
            PADDY: {"paddy, full canopy": 0.8, "paddy, flooded (LAI<1)": 0.1, "stubble / senescent crop": 0.1},
            CROP: {
                "irrigated crop, full cover": 0.75,
                "bare soil, dry loam": 0.1,
                "stubble / senescent crop": 0.15,
            },
            FOREST: {"broadleaf canopy (summer)": 0.7, "conifer canopy": 0.3},
        },
        "autumn": {
            PADDY: {"paddy, full canopy": 0.3, "stubble / senescent crop": 0.7},
            CROP: {"stubble / senescent crop": 0.55, "irrigated crop, full cover": 0.45},
            FOREST: {"broadleaf canopy (summer)": 0.45, "conifer canopy": 0.35, "shrub / open canopy": 0.2},
        },
        "winter": {
            PADDY: {"stubble / senescent crop": 0.6, "bare soil, wet": 0.4},
            CROP: {
                "bare soil, dry loam": 0.5,
                "stubble / senescent crop": 0.3,
                "irrigated crop, full cover": 0.2,
            },
            FOREST: {"conifer canopy": 0.4, "stubble / senescent crop": 0.35, "shrub / open canopy": 0.25},
        },
        "dry": {
            PADDY: {"paddy, full canopy": 0.4, "stubble / senescent crop": 0.3, "bare soil, dry loam": 0.3},
            CROP: {"irrigated crop, full cover": 0.4, "stubble / senescent crop": 0.35, "bare soil, dry loam": 0.25},
            FOREST: {"shrub / open canopy": 0.6, "conifer canopy": 0.4},
        },
    }.items()
}
"""The seasons by name; `dry` is the dry season of an arid country."""

SECOND: dict[int, Shares] = {
    WATER: {"bare soil, wet": 0.6, "green grass / meadow": 0.4},
    PADDY: _BUNDS,
    CROP: _BETWEEN_ROWS,
    FOREST: _GAPS,
    BARE: {"bare soil, wet": 0.5, "green grass / meadow": 0.2, "bare soil, dry loam": 0.3},
    ROAD: {"concrete": 1.0},
    BUILDING: {"concrete": 1.0},
}
"""Second covers by class, in every season."""

Abundances = npt.NDArray[np.float64]


def object_covers(layout: Layout, first: Covers) -> tuple[Abundances, Abundances]:
    """Abundances of the first and the second cover of each object, each [objects, materials], rows summing to one.

    Args:
        layout: where the objects are.
        first: first covers of all classes.
    """
    covers: Abundances = np.zeros((2, len(layout.object_class), len(MATERIALS)))
    for kind in range(len(CLASSES)):
        chosen = layout.object_class == kind
        latents = layout.latents[chosen]
        covers[0, chosen] = _mixture(first[kind], latents[:, 0], 0.6 + 0.35 * latents[:, 1])
        covers[1, chosen] = _mixture(SECOND[kind], latents[:, 2], 0.6 + 0.35 * latents[:, 3])
    return covers[0], covers[1]


def abundances(layout: Layout, first: Covers) -> Abundances:
    """Abundances of the materials per pixel, [px, px, materials]: what `object_covers` and the structure amount to."""
    one, other = object_covers(layout, first)
    share: Abundances = layout.structure[..., None].astype(np.float64)
    return (1 - share) * one[layout.object_id] + share * other[layout.object_id]


def _mixture(shares: Shares, position: Abundances, purity: Abundances) -> Abundances:
    """One material per object, picked by its position within the shares, mixed with the class's average."""
    average = np.zeros(len(MATERIALS))
    average[[MATERIALS.index(name) for name in shares]] = list(shares.values())
    average /= average.sum()
    picked = np.searchsorted(np.cumsum(average), position).clip(max=len(MATERIALS) - 1)
    mixture: Abundances = purity[:, None] * np.eye(len(MATERIALS))[picked] + (1 - purity[:, None]) * average
    return mixture
