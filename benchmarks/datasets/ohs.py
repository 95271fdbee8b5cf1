"""WHU-OHS, across regions: Orbita's 32 bands at 10 m over 42 places in China, 24 classes merged into 7.

Reads `{tr,val,ts}/{image,label}/<scene>_<4 digits>.tif` (a mirror's `{train,val,test}` too): patches of 512 pixels,
the bands pixel by pixel, stored as reflectance-like integers scaled by 10,000. They keep these integers. The official
subsets divide the patches of every scene, and neighbours overlap by 32 pixels, so that a split has to be by scene: all
patches of a scene stay together, whatever their subset. Labels hold 0 (undefined) to 24.

Source: Li, Huang, Tu, International Journal of Applied Earth Observation and Geoinformation 113:103022, 2022.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.catalogue import WHU_OHS_CR
from benchmarks.prepared.labels import LabelMap
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key, pair
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Recipe, Scene, bands, check_pair

TASK = "whu_ohs_cr"
SUBSETS = {"tr": "tr", "train": "tr", "val": "val", "ts": "ts", "test": "ts"}
"""The official subsets by the names of their folders."""

CLUSTERS = ("northwest", "northeast", "north", "west", "southeast")
"""Parts of China at least 220 km apart; each may be the target."""

BANDS, PATCH_PX, SWATH_KM = len(WHU_OHS_CR.bands), 512, 60
_PATTERN = r"(?P<subset>tr|train|val|ts|test)(?:\.zip|\.tar)?/{folder}/(?P<scene>[STO]\d+)_(?P<index>\d+)\.tiff?"
_FACTS = bands(**{band.name: round(1000 * band.centre_um) for band in WHU_OHS_CR.bands})
_TABLE = Path(__file__).parent / "ohs_scenes.csv"
# as far as a scene's centre may lie from that of the city it is named after, and half a swath: the box holds the scene
_BOX_KM = 50 + SWATH_KM / 2


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a scene was taken: the place it is named after, and its cluster; empty and None where that is not known."""

    place: str
    cluster: str
    centre: tuple[float, float] | None

    def km_to(self, other: Site) -> float:
        """Kilometres between the two centres; not a number where one is not known."""
        if self.centre is None or other.centre is None:
            return math.nan
        from pyproj import Geod  # which training does not need

        return float(Geod(ellps="WGS84").inv(*self.centre, *other.centre)[2]) / 1000


@cache
def sites() -> dict[str, Site]:
    """The 42 scenes by name."""
    with _TABLE.open(newline="") as file:
        return {
            row["scene"]: Site(
                place=row["place"],
                cluster=row["cluster"],
                centre=(float(row["lon"]), float(row["lat"])) if row["lon"] else None,
            )
            for row in csv.DictReader(file)
        }


def domain_of(scene: str, split: str) -> str | None:
    """The domain of a scene by the choice `split`; None for one that is left out."""
    if split == "pairs":
        return "unseen" if scene.startswith("T") else "seen"
    cluster = sites()[scene].cluster
    if not cluster:
        return None
    return "unseen" if split == f"far_{cluster}" else "seen"


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """Every patch of all three subsets.

    Raises:
        ValueError: a subset or a domain is missing, a patch lacks its partner, or a scene is not one of the 42.
    """
    images, labels = (
        by_key(
            tree.match(_PATTERN.format(folder=folder)),
            lambda match: (match["scene"], match["index"], SUBSETS[match["subset"]]),
        )
        for folder in ("image", "label")
    )
    if missing := set(SUBSETS.values()) - {subset for _, _, subset in images}:
        raise ValueError(
            f"no {', '.join(f'{name}/image/S1_0001.tif or the like' for name in sorted(missing))} in {tree.root} (it "
            f"holds {tree.found()}); all three subsets are needed, because each holds patches of every scene"
        )
    patches = []
    for (scene, index, subset), image, label in pair(images, labels, "unpack or download its subset again"):
        if scene not in sites():
            raise ValueError(f"{image}: {scene} is none of the 42 scenes; use the official files")
        if domain := domain_of(scene, choices["split"]):
            name = f"{scene}_{index}_{subset}"
            region = sites()[scene].place
            patches.append(Scene(name=name, domain=domain, image=image, label=label, region=region, part_of=scene))
    for domain in ("seen", "unseen"):
        if not any(patch.domain == domain for patch in patches):
            raise ValueError(f"no patch of domain {domain} in {tree.root} with split={choices['split']}")
    return patches


def remark(tree: RawTree, choices: Choices, patches: Sequence[Scene]) -> Sequence[str]:
    """Patches per scene, which nobody has published, scenes left out, and target scenes close to source ones."""
    told = []
    counts = Counter(patch.unit for patch in patches)
    domains = {patch.unit: patch.domain for patch in patches}
    by_domain = {name: {s: site for s, site in sites().items() if domains.get(s) == name} for name in RECIPE.domains}
    for domain, found in by_domain.items():
        told.append(f"patches of {domain}: {', '.join(f'{scene} {counts[scene]}' for scene in found)}")
    out = [scene for scene in sites() if not counts[scene]]
    unplaced = [scene for scene in out if not domain_of(scene, choices["split"])]
    if missing := [scene for scene in out if scene not in unplaced]:
        told.append(f"not used, because no file of them is there: {', '.join(missing)}")
    if unplaced:
        told.append(f"not used with split={choices['split']}, because their place is not known: {', '.join(unplaced)}")
    for target, site in by_domain["unseen"].items():
        for source, other in by_domain["seen"].items():
            if site.km_to(other) < SWATH_KM:
                told.append(
                    f"{target} {site.place} lies {site.km_to(other):.0f} km from {source} {other.place} of the source "
                    f"(centres of the cities; a scene is {SWATH_KM} km wide)"
                )
    return told


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """One patch. Raises `ValueError` for damaged files, other sizes or types, negative or unknown values."""
    from benchmarks.prepared.boxes import box_around  # rasterio, which training does not need
    from benchmarks.prepared.georef import geotiff_place

    image, raw = _integers(scene.image), read_label(scene.label)
    if raw.ndim != 2:
        raise ValueError(f"{scene.label} holds colours, expected the values 0 to 24; use the official label files")
    check_pair(scene, image, raw)
    if choices["scene_size"] == "official" and raw.shape != (PATCH_PX, PATCH_PX):
        raise ValueError(
            f"{scene.image} has {raw.shape[1]} x {raw.shape[0]} pixels, expected {PATCH_PX} x {PATCH_PX}; use the "
            "official patches, or --choose scene_size=any"
        )
    label = label_map(choices).decode(raw, scene.label)[0]
    centre = sites()[scene.unit].centre
    place = geotiff_place(scene.image) or (box_around(*centre, _BOX_KM, "table") if centre else None)
    return Pixels(image=image, label=label, place=place)


def _integers(file: RawFile) -> npt.NDArray[np.uint16]:
    image = raw_tiff(file).pixels
    if image.shape[2] != BANDS or image.dtype not in (np.uint16, np.int16):
        raise ValueError(
            f"{file} has {image.shape[2]} band(s) of type {image.dtype}, expected {BANDS} of type uint16 or int16; use "
            "the official files, not a mirror's reflectances"
        )
    if image.dtype == np.int16 and (least := int(image.min())) < 0:
        raise ValueError(f"{file} holds the value {least}, expected none below 0; copy or download the file again")
    return image.astype(np.uint16, copy=False)


def label_map(choices: Choices) -> LabelMap:
    """The merging of 24 classes into 7, with the doubtful ones as chosen."""
    beach = {"waterbody": "waterbody", "unused": "unused land"}[choices["beach"]]
    marshland = {"unused": "unused land", "waterbody": "waterbody"}[choices["marshland"]]
    return RECIPE.label_map.retarget({"beach land": beach, "shoal": beach, "marshland": marshland})


def expected(choices: Choices) -> Sequence[Expected]:
    """The official counts where every scene is used, and what the released schedule implies for the source."""
    whole = Expected(domains=("seen", "unseen"), scenes=(42, 42), tiles=(7795, 7795), says="official counts")
    return (
        *([whole] if choices["split"] == "pairs" else []),
        Expected(domains=("seen",), tiles=(4378, 4378), says="released schedule, in batches of 8"),
        Expected(domains=("seen",), tiles=(2189, 2189), says="released schedule, in batches of 4"),
    )


RECIPE = Recipe(
    task=TASK,
    version=2,
    domains={
        "seen": DomainFacts(side="source", sensor="OHS", gsd_m=10, bands=_FACTS),
        "unseen": DomainFacts(side="target", sensor="OHS", gsd_m=10, bands=_FACTS),
    },
    labels="ohs24_to_7",
    choices=(
        Choice(
            name="split",
            values=("pairs", *(f"far_{cluster}" for cluster in CLUSTERS)),
            why="not published. pairs: target T1 to T8, source the other 34 scenes; far_...: target one part of China, "
            "scenes of unknown place left out",
        ),
        Choice(name="beach", values=("waterbody", "unused"), why="merging not published: beach land and shoal"),
        Choice(name="marshland", values=("unused", "waterbody"), why="likewise: marshland"),
        Choice(name="scene_size", values=("official", "any"), why="official: patches of 512 x 512; any: cut-outs too"),
        Choice(name="edge", values=("pad", "shift", "drop"), why="patches are 512: no effect on official ones"),
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
    dtype="uint16",
    remark=remark,
)

open_ohs = partial(open_prepared, task=TASK)
"""The reader of the prepared task below a data root; see `benchmarks.prepared.reader.open_prepared`."""
