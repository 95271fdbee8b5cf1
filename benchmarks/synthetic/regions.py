"""The domains of the cross-region mirrors: what differs is the land, its season and its light, less the camera.

A domain of a task is one setting or several; scene i takes setting i modulo their number. All of it is synthetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.synthetic.cover import ROOFS, STANDING
from benchmarks.synthetic.domains import SOURCE, Domain, seasons, sensors
from benchmarks.synthetic.layout import BARE, BUILDING, ROAD, WATER, Plan

Settings = Mapping[str, tuple[Domain, ...]]
"""Domains of a task by name, the source first, with the settings that their scenes take in turn."""

_SAND = {"sand / gobi": 0.75, "bare soil, dry loam": 0.25}
_LOAM = {"bare soil, dry loam": 0.8, "bare soil, wet": 0.2}
_TURBID = {"turbid river": 0.6, "eutrophic / fish pond": 0.3, "shallow pond": 0.1}
_CLEAR = {"clear deep water": 0.7, "shallow pond": 0.3}
_TILES = {"red clay tile": 0.6, "grey fibre-cement / slate": 0.25, "concrete": 0.15}
_SLATES = {"grey fibre-cement / slate": 0.65, "asphalt / bitumen, new": 0.15, "white membrane roof": 0.2}

_TEMPERATE = replace(
    SOURCE,
    name="temperate",
    sensors=sensors("ohs"),
    aod=(0.1, 0.3),
    humidity=(0.2, 0.5),
    snr=(60.0, 90.0),
    covers={**STANDING, BARE: _LOAM},
)

WHU_OHS_CR: Settings = {
    "temperate": (
        _TEMPERATE,
        replace(_TEMPERATE, name="hills", plan=Plan(forest_cover=(0.3, 0.5), rivers=0.3)),
    ),
    "arid": (
        replace(
            _TEMPERATE,
            name="arid",
            seasons=seasons("dry"),
            humidity=(0.7, 1.0),
            sun_zenith_deg=(46.0, 54.0),
            covers={**STANDING, BARE: _SAND, WATER: _TURBID, BUILDING: {"concrete": 0.5, "red clay tile": 0.5}},
            plan=Plan(parcel_mix=(0.12, 0.32, 0.52, 0.04), forest_cover=(0.05, 0.15), rivers=0.35, ponds=0.15),
        ),
    ),
}
"""32 narrow bands: from temperate plains and hills to an arid region under a lower sun."""

_PLAINS = replace(SOURCE, name="plains")
_COAST = replace(
    SOURCE,
    name="coast",
    seasons=seasons("spring"),
    aod=(0.18, 0.32),
    covers={**STANDING, WATER: {**_TURBID, "clear deep water": 0.3}},
    plan=Plan(rivers=0.6, ponds=0.4, parcel_mix=(0.4, 0.25, 0.2, 0.15)),
)

FBP_CR: Settings = {
    "seen": (_PLAINS, _COAST),
    "mountain": (
        replace(
            SOURCE,
            name="mountain",
            seasons=seasons("autumn"),
            aod=(0.06, 0.12),
            sun_zenith_deg=(44.0, 52.0),
            covers={**STANDING, WATER: _CLEAR, BUILDING: _SLATES},
            plan=Plan(parcel_px=(20.0, 28.0), forest_cover=(0.4, 0.6), buildings=(2.0, 4.0), roads=(0.4, 0.7)),
        ),
    ),
    "dryland": (
        replace(
            SOURCE,
            name="dryland",
            seasons=seasons("dry"),
            aod=(0.3, 0.5),
            covers={**STANDING, BARE: _SAND, BUILDING: {"concrete": 0.6, "sand / gobi": 0.4}},
            plan=Plan(parcel_mix=(0.15, 0.35, 0.47, 0.03), forest_cover=(0.08, 0.18), rivers=0.3, ponds=0.15),
        ),
    ),
    "delta": (
        replace(
            SOURCE,
            name="delta",
            seasons=seasons("winter"),
            aod=(0.3, 0.45),
            sun_zenith_deg=(36.0, 46.0),
            covers={**STANDING, WATER: _TURBID, BARE: {"bare soil, wet": 0.8, "bare soil, dry loam": 0.2}},
            plan=Plan(parcel_px=(22.0, 30.0), parcel_mix=(0.42, 0.14, 0.14, 0.3), rivers=0.9, ponds=0.6),
        ),
    ),
}
"""One camera, four bands: from plains and coast to mountains, dryland and a river delta."""

_LOWLAND = replace(
    SOURCE,
    name="lowland",
    sensors=sensors("ultracam"),
    aod=(0.05, 0.15),
    sun_zenith_deg=(30.0, 45.0),
    sun_azimuth_deg=(120.0, 220.0),
    stretch=(0.4, 0.6),
    covers={**STANDING, BUILDING: _TILES, ROAD: {"asphalt, aged": 0.75, "concrete": 0.25}},
    plan=Plan(parcel_mix=(0.0, 0.62, 0.33, 0.05), rivers=0.35),
    zoom=1.5,
)

FLAIR_CR: Settings = {
    "seen": (
        _LOWLAND,
        replace(
            _LOWLAND,
            name="uplands",
            gain=(0.92, 1.0),
            covers={**_LOWLAND.covers, BUILDING: ROOFS},
            plan=replace(_LOWLAND.plan, forest_cover=(0.3, 0.5), buildings=(2.0, 4.5)),
        ),
    ),
    "unseen": (
        replace(
            _LOWLAND,
            name="south",
            sensors=sensors("aerial_narrow"),
            seasons=seasons("autumn"),
            sun_zenith_deg=(45.0, 60.0),
            gain=(1.02, 1.15),
            band_gain=(0.93, 1.07),
            gamma=(1.1, 1.25),
            covers={**_LOWLAND.covers, BARE: _SAND},
            plan=replace(_LOWLAND.plan, parcel_px=(20.0, 30.0), buildings=(4.0, 8.0)),
        ),
        replace(
            _LOWLAND,
            name="west",
            seasons=seasons("winter"),
            sun_zenith_deg=(50.0, 62.0),
            gain=(0.85, 0.95),
            covers={**_LOWLAND.covers, BUILDING: _SLATES, WATER: _TURBID},
        ),
    ),
}
"""An aerial camera's R, G, B, NIR at 1.3 m: to other departments, another camera, autumn and winter, long shadows."""
