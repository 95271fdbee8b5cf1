"""The domains of the mirrors with three bands: rural to urban, R-G-B to NIR-R-G, five continents to a sixth.

A domain of a task is one setting or several; scene i takes setting i modulo their number. All of it is synthetic.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.synthetic.cover import ROOFS, STANDING
from benchmarks.synthetic.domains import SOURCE, seasons, sensors
from benchmarks.synthetic.layout import BARE, BUILDING, ROAD, WATER, Plan
from benchmarks.synthetic.regions import Settings

_RURAL = replace(
    SOURCE,
    name="rural",
    sensors=sensors("web"),
    gamma=(0.95, 1.05),
    plan=Plan(buildings=(1.5, 3.5), roads=(0.4, 0.8)),
    zoom=1.2,
)

LOVEDA_R2U: Settings = {
    "rural": (_RURAL,),
    "urban": (
        replace(
            _RURAL,
            name="urban",
            sensors=sensors("web_broad"),
            aod=(0.3, 0.45),
            gamma=(1.05, 1.15),
            covers={
                **STANDING,
                BARE: {"concrete": 0.4, "bare soil, dry loam": 0.6},
                WATER: {"turbid river": 0.5, "eutrophic / fish pond": 0.5},
                BUILDING: {**ROOFS, "concrete": 0.45, "red clay tile": 0.1},
            },
            plan=Plan(
                parcel_mix=(0.12, 0.25, 0.58, 0.05),
                forest_cover=(0.08, 0.2),
                buildings=(9.0, 15.0),
                roads=(1.3, 2.2),
            ),
        ),
    ),
}
"""Web imagery: from fields with few houses to streets and roofs, in another tone."""

_TOWN = Plan(parcel_mix=(0.05, 0.6, 0.28, 0.07), rivers=0.2, ponds=0.2, buildings=(6.0, 10.0), roads=(0.9, 1.5))

_POTSDAM = replace(
    SOURCE,
    name="potsdam",
    sensors=sensors("potsdam"),
    aod=(0.06, 0.15),
    plan=_TOWN,
    zoom=2.0,
)

POTSDAM2VAIHINGEN: Settings = {
    "potsdam": (_POTSDAM,),
    "vaihingen": (
        replace(
            _POTSDAM,
            name="vaihingen",
            sensors=sensors("vaihingen"),
            sun_zenith_deg=(34.0, 44.0),
            gain=(0.9, 1.05),
            covers={**STANDING, BUILDING: {"red clay tile": 0.75, "grey fibre-cement / slate": 0.25}},
            plan=replace(_TOWN, parcel_px=(22.0, 30.0), forest_cover=(0.25, 0.45)),
            zoom=1.1,
        ),
    ),
}
"""R, G, B to NIR, R, G in the same places of the file, at 0.55 of the resolution."""

_ANYWHERE = replace(SOURCE, name="anywhere", sensors=sensors("web"), gamma=(0.9, 1.1), zoom=1.4)

OEM_CC: Settings = {
    "others": (
        replace(
            _ANYWHERE,
            name="asia",
            aod=(0.25, 0.45),
            covers={**STANDING, BUILDING: {"blue painted steel": 0.35, "concrete": 0.45, "red clay tile": 0.2}},
            plan=Plan(buildings=(6.0, 10.0), parcel_px=(22.0, 30.0)),
            zoom=1.2,
        ),
        replace(
            _ANYWHERE,
            name="africa",
            seasons=seasons("dry"),
            covers={
                **STANDING,
                ROAD: {"bare soil, dry loam": 0.6, "asphalt, aged": 0.4},
                BUILDING: {"white membrane roof": 0.3, "grey fibre-cement / slate": 0.5, "blue painted steel": 0.2},
            },
            plan=Plan(parcel_mix=(0.05, 0.4, 0.5, 0.05), forest_cover=(0.1, 0.25), buildings=(4.0, 9.0)),
        ),
        replace(
            _ANYWHERE,
            name="north_america",
            covers={**STANDING, BUILDING: {"asphalt / bitumen, new": 0.5, "grey fibre-cement / slate": 0.5}},
            plan=Plan(parcel_mix=(0.0, 0.6, 0.36, 0.04), parcel_px=(36.0, 46.0), roads=(0.9, 1.5)),
            zoom=1.6,
        ),
        replace(
            _ANYWHERE,
            name="south_america",
            seasons=seasons("spring"),
            covers={**STANDING, BARE: {"sand / gobi": 0.7, "bare soil, dry loam": 0.3}, BUILDING: {"concrete": 1.0}},
            plan=Plan(parcel_mix=(0.1, 0.4, 0.46, 0.04), buildings=(5.0, 9.0)),
        ),
        replace(
            _ANYWHERE,
            name="oceania",
            sensors=sensors("web_broad"),
            covers={**STANDING, BUILDING: {**ROOFS, "white membrane roof": 0.3}},
            plan=Plan(parcel_mix=(0.0, 0.55, 0.4, 0.05), forest_cover=(0.2, 0.45)),
        ),
    ),
    "europe": (
        replace(
            _ANYWHERE,
            name="europe",
            sensors=sensors("web_broad"),
            seasons=seasons("autumn", "winter"),
            aod=(0.1, 0.25),
            sun_zenith_deg=(46.0, 58.0),
            gamma=(1.1, 1.25),
            covers={
                **STANDING,
                WATER: {"turbid river": 0.6, "clear deep water": 0.4},
                BUILDING: {"red clay tile": 0.8, "grey fibre-cement / slate": 0.2},
            },
            plan=Plan(parcel_px=(20.0, 27.0), parcel_mix=(0.0, 0.6, 0.36, 0.04), buildings=(4.0, 8.0)),
        ),
    ),
}
"""Five continents in the source, each with roofs, roads, parcels and tones of its own; red roofs and a low sun next."""
