"""The seven synthetic mirrors by name: titles, classes and domains, as people and tables read them.

Plain data, so that listing stays instant. How the domains look is in `domains`, `regions` and `styles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Legend:
    """One class of a mirror: its colour in figures and the generator's classes that it merges."""

    colour: tuple[int, int, int]
    merges: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A synthetic stand-in for one task.

    Args:
        title: what the tiles are, for the heading of tables.
        legend: the classes in index order; together they merge each of the generator's classes once.
        domains: names of the domains and what they are, for people; the first one is the source.
    """

    title: str
    legend: Mapping[str, Legend]
    domains: Mapping[str, str]

    @property
    def source(self) -> str:
        """Name of the source domain."""
        return next(iter(self.domains))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the target domains."""
        return tuple(self.domains)[1:]


def _legend(**classes: tuple[tuple[int, int, int], str]) -> dict[str, Legend]:
    """Class names (underscores for spaces) with a colour and the generator's classes in words."""
    return {
        name.replace("_", " "): Legend(colour=colour, merges=tuple(merged.split()))
        for name, (colour, merged) in classes.items()
    }


_SEVEN = _legend(
    water=((0, 0, 200), "water"),
    paddy=((0, 200, 0), "paddy"),
    crop=((150, 250, 0), "crop"),
    forest=((150, 0, 250), "forest"),
    bare=((200, 200, 200), "bare"),
    road=((250, 150, 150), "road"),
    building=((250, 0, 150), "building"),
)

MIRRORS: dict[str, Mirror] = {
    "whu_ohs_cr": Mirror(
        title="rendered scenes in the shape of WHU-OHS cross-region",
        legend=_legend(
            farmland=((0, 255, 197), "paddy crop"),
            forest=((38, 115, 0), "forest"),
            waterbody=((0, 92, 230), "water"),
            built_up_land=((115, 0, 0), "road building"),
            unused_land=((255, 255, 0), "bare"),
        ),
        domains={"temperate": "Temperate", "arid": "Arid"},
    ),
    "fbp_cs": Mirror(
        title="rendered scenes in the shape of Five-Billion-Pixels cross-sensor",
        legend=_SEVEN,
        domains={"gf2": "GF-2", "planetscope": "PlanetScope", "gf1": "GF-1", "sentinel2": "Sentinel-2"},
    ),
    "fbp_cr": Mirror(
        title="rendered scenes in the shape of Five-Billion-Pixels cross-region",
        legend=_SEVEN,
        domains={"seen": "Plains and coast", "mountain": "Mountain", "dryland": "Dryland", "delta": "Delta"},
    ),
    "flair_cr": Mirror(
        title="rendered scenes in the shape of FLAIR cross-region",
        legend=_legend(
            building=((219, 14, 154), "building"),
            impervious_surface=((248, 12, 0), "road"),
            bare_soil=((169, 113, 1), "bare"),
            water=((21, 83, 174), "water"),
            woodland=((70, 228, 131), "forest"),
            agricultural_land=((255, 243, 13), "paddy crop"),
        ),
        domains={"seen": "Seen departments", "unseen": "Unseen departments"},
    ),
    "loveda_r2u": Mirror(
        title="rendered scenes in the shape of LoveDA rural to urban",
        legend=_legend(
            building=((255, 0, 0), "building"),
            road=((255, 255, 0), "road"),
            water=((0, 0, 255), "water"),
            barren=((159, 129, 183), "bare"),
            forest=((0, 255, 0), "forest"),
            agriculture=((255, 195, 128), "paddy crop"),
        ),
        domains={"rural": "Rural", "urban": "Urban"},
    ),
    "potsdam2vaihingen": Mirror(
        title="rendered scenes in the shape of Potsdam to Vaihingen",
        legend=_legend(
            impervious_surface=((255, 255, 255), "road"),
            building=((0, 0, 255), "building"),
            low_vegetation=((0, 255, 255), "paddy crop"),
            tree=((0, 255, 0), "forest"),
            clutter=((255, 0, 0), "water bare"),
        ),
        domains={"potsdam": "Potsdam", "vaihingen": "Vaihingen"},
    ),
    "oem_cc": Mirror(
        title="rendered scenes in the shape of OpenEarthMap cross-continent",
        legend=_legend(
            bareland=((128, 0, 0), "bare"),
            road=((255, 255, 255), "road"),
            tree=((34, 97, 38), "forest"),
            water=((0, 69, 255), "water"),
            agriculture_land=((75, 181, 73), "paddy crop"),
            building=((222, 31, 7), "building"),
        ),
        domains={"others": "Five continents", "europe": "Europe"},
    ),
}
