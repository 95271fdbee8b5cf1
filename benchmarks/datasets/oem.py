"""OpenEarthMap, cross-continent: R, G, B images at 0.25 to 0.5 m, from five continents to Europe.

Reads `<region>/{images,labels}/<region>_<n>.tif` with `train.txt`, `val.txt` and `test.txt` beside the regions'
folders, as in the archive `OpenEarthMap_wo_xBD` (Zenodo record 7223446), packed or not. Labels of the test list are
withheld, so that both sides come from the other two. The images of 22 regions must be taken from xBD and are absent
unless the user has compiled them. The regions, their continents and their official numbers of images are in
`regions/oem.csv`. The manifest's scene is a region; images are of several sizes, and some have no coordinate system.

Source: Xia et al., OpenEarthMap, WACV 2023; the readme of the archive.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.prepared.georef import geotiff_place
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key, pair
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Recipe, Scene, bands, check_pair

TASK = "oem_cc"
_TABLE = Path(__file__).parent / "regions" / "oem.csv"
_PATTERN = r"(?P<folder>[^/]+)/{kind}/(?P<name>[^/]+_\d+)\.tiff?"
_LIST = r"(?P<split>train|val|test)\.txt"
_ARCHIVE = "the archive OpenEarthMap_wo_xBD of Zenodo record 7223446"
_COMPILE = "compile them from xBD with the authors' script and xbd_files.csv, or take `--choose xbd=without`"
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region as the official lists have it.

    Args:
        name: of its folder and files.
        continent: by the scheme UN M49.
        country: its country.
        labelled: numbers of images in the lists `train` and `val`.
        xbd: whether its images must be taken from xBD.
    """

    name: str
    continent: str
    country: str
    labelled: Mapping[str, int]
    xbd: bool

    def lies_in(self, choices: Choices) -> str:
        """The continent, Georgia's as chosen."""
        return "Europe" if self.country == "Georgia" and choices["georgia"] == "europe" else self.continent

    def side(self, choices: Choices) -> str:
        """The domain."""
        return "europe" if self.lies_in(choices) == "Europe" else "others"

    def images(self, choices: Choices) -> int:
        """How many images the task has of it: none if xBD is left out and they are xBD's."""
        wanted = self.labelled["train"] + (self.labelled["val"] if choices["labelled"] == "train_val" else 0)
        return 0 if self.xbd and choices["xbd"] == "without" else wanted


@cache
def regions() -> dict[str, Region]:
    """The table of regions, by name."""
    with _TABLE.open(newline="") as file:
        return {
            row["region"]: Region(
                name=row["region"],
                continent=row["continent"],
                country=row["country"],
                labelled={"train": int(row["train"]), "val": int(row["val"])},
                xbd=row["xbd"] == "1",
            )
            for row in csv.DictReader(file)
        }


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """The labelled images of all regions, without xBD's unless chosen.

    Raises:
        ValueError: lists are missing or name unknown regions, an image or label lacks its partner, or a region has no
            image at all.
    """
    folders: set[str] = set()
    pairs: list[dict[str, RawFile]] = []
    for kind in ("images", "labels"):
        found = list(tree.match(_PATTERN.format(kind=kind)))
        folders |= {file.where[: match.start("folder")] for match, file in found}
        pairs.append(by_key(found, lambda match: match["name"]))
    images, labels = pairs
    listed = _listed(_lists(tree, folders)[0], choices)
    # images of xBD are the user's to compile, and their labels are there without them
    wanted = {name for name in listed if name in images or (name in labels and not _region(name).xbd)}
    images, labels = ({name: files[name] for name in wanted & files.keys()} for files in pairs)
    scenes = [_scene(*found, choices) for found in pair(images, labels, f"download or unpack {_ARCHIVE} again")]
    _check_regions(tree, scenes, choices)
    return scenes


def _check_regions(tree: RawTree, scenes: Sequence[Scene], choices: Choices) -> None:
    """Every region of the task has an image."""
    there = {scene.part_of for scene in scenes}
    if lacking := [region for region in regions().values() if region.images(choices) and region.name not in there]:
        names = ", ".join(region.name for region in lacking)
        remedy = _COMPILE if all(region.xbd for region in lacking) else f"download or unpack {_ARCHIVE} again"
        raise ValueError(f"{tree.root} holds no image of these regions ({len(lacking)}): {names}; {remedy}")


def _region(name: str) -> Region:
    """The region of an image's name."""
    return regions()[name.rpartition("_")[0]]


def _listed(lists: Mapping[str, Sequence[str]], choices: Choices) -> list[str]:
    """The images that the task takes by the lists, whether they are there or not."""
    names = {*lists["train"], *(lists["val"] if choices["labelled"] == "train_val" else ())}
    return sorted(name for name in names if _region(name).images(choices))


def _scene(name: str, image: RawFile, label: RawFile, choices: Choices) -> Scene:
    region = _region(name)
    where = f"{region.name}, {region.country}, {region.lies_in(choices)}"
    return Scene(name=name, domain=region.side(choices), image=image, label=label, region=where, part_of=region.name)


def _lists(tree: RawTree, roots: set[str]) -> tuple[dict[str, list[str]], bool]:
    """Names of images by list, and whether `val` and `test` were exchanged: the longer one is the test list."""
    found = [(match, file) for match, file in tree.match(_LIST) if file.where[: match.start("split")] in roots]
    files = by_key(found, lambda match: match["split"])
    if lacking := [f"{split}.txt" for split in ("train", "val", "test") if split not in files]:
        raise ValueError(
            f"no {', '.join(lacking)} beside folders of regions in {tree.root} (it holds {tree.found()}); it must hold "
            f"{_ARCHIVE}, or its folders and lists"
        )
    lists = {split: _names(file) for split, file in files.items()}
    swapped = len(lists["val"]) > len(lists["test"])
    if swapped:
        lists["val"], lists["test"] = lists["test"], lists["val"]
    return lists, swapped


def _names(file: RawFile) -> list[str]:
    """The images that a list names, without their suffixes."""
    with file.open() as stream:
        entries = stream.read().decode("utf-8", errors="replace").split()
    for entry in entries:
        if not re.fullmatch(r".+_\d+(\.tiff?)?", entry) or entry.rpartition("_")[0] not in regions():
            raise ValueError(
                f"{file} names {entry[:80]!r}, expected <region>_<number>.tif with a region of {_TABLE.name}; use the "
                "official lists"
            )
    return [entry.partition(".")[0] for entry in entries]


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """One image and its label. Raises `ValueError` for damaged files, other bands or sizes, or unknown values."""
    image, raw = raw_tiff(scene.image).pixels, read_label(scene.label)
    if image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"{scene.image} has {image.shape[2]} band(s) of type {image.dtype}, expected R, G, B in 8 bits; use the "
            "official files"
        )
    check_pair(scene, image, raw)
    label, _ = RECIPE.label_map.decode(raw, scene.label)
    place = geotiff_place(scene.image) or geotiff_place(scene.label)
    return Pixels(image=image, label=label, place=place)


def remarks(tree: RawTree, choices: Choices, scenes: Sequence[Scene]) -> Sequence[str]:
    """Exchanged lists, images that are left out or missing, and regions whose numbers differ from the table."""
    folders = {"".join(f"{name}/" for name in scene.image.where.split("/")[:-3]) for scene in scenes}
    lists, swapped = _lists(tree, folders)
    told = []
    if swapped:
        told.append("val.txt is longer than test.txt: the two are taken to be exchanged, as in one mirror")
    if choices["xbd"] == "without":
        left = [region for region in regions().values() if region.xbd]
        count = sum(region.images({**choices, "xbd": "with"}) for region in left)
        told.append(
            f"xbd=without leaves out {count} images of {len(left)} regions: {', '.join(region.name for region in left)}"
        )
    there = {scene.name for scene in scenes}
    for xbd, kind in ((True, "images of xBD"), (False, "images")):
        if absent := [name for name in _listed(lists, choices) if name not in there and _region(name).xbd is xbd]:
            told.append(f"listed {kind} that are missing ({len(absent)}): {_by_region(absent)}")
    count_of = Counter(scene.part_of for scene in scenes)
    other = [
        f"{region.name} {count_of[region.name]} of {region.images(choices)}"
        for region in regions().values()
        if count_of[region.name] != region.images(choices)
    ]
    if other:
        told.append(f"regions with other numbers of images than the official table ({len(other)}): {', '.join(other)}")
    return told


def _by_region(names: Sequence[str]) -> str:
    """Names, a few of each region: `joplin 4 (joplin_1, joplin_2, joplin_3, ...)`."""
    regional: dict[str, list[str]] = {}
    for name in names:
        regional.setdefault(name.rpartition("_")[0], []).append(name)
    return "; ".join(
        f"{region} {len(own)} ({', '.join([*own[:_SHOWN], *(['...'] if len(own) > _SHOWN else [])])})"
        for region, own in regional.items()
    )


def expected(choices: Choices) -> Sequence[Expected]:
    """The regions of the official table, and the tiles that the released schedule implies."""
    sides = Counter(region.side(choices) for region in regions().values() if region.images(choices))
    count = {side: (sides[side], sides[side]) for side in ("others", "europe")}
    return (
        Expected(domains=("others",), scenes=count["others"], says="official table of regions"),
        Expected(domains=("others",), tiles=(8193, 8200), says="released schedule"),
        Expected(domains=("europe",), scenes=count["europe"], says="official table of regions"),
    )


RECIPE = Recipe(
    task=TASK,
    version=1,
    domains={
        side: DomainFacts(
            side="target" if side == "europe" else "source",
            sensor="aerial and satellite mosaics; 0.25 to 0.5 m by region, of which 0.375 is the middle",
            gsd_m=0.375,
            bands=bands(R=(650, 70), G=(550, 80), B=(470, 80)),
        )
        for side in ("others", "europe")
    },
    labels="oem8",
    choices=(
        Choice(
            name="xbd",
            values=("without", "with"),
            why="images of 22 regions are not in the archive; the paper does not say whether they were compiled",
        ),
        Choice(
            name="georgia",
            values=("asia", "europe"),
            why="the side of svaneti: Asia by UN M49, often called Europe; the paper does not say",
        ),
        Choice(
            name="labelled",
            values=("train_val", "train"),
            why="test labels are withheld; the paper does not say which lists it takes",
        ),
        Choice(
            name="edge",
            values=("shift", "pad", "drop"),
            why="not all images are 1024 x 1024: shift fills nothing, and pixels may be in two tiles; pad: in one each",
        ),
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
    remark=remarks,
)

open_oem = partial(open_prepared, task=TASK)
"""The reader of the prepared task below a data root; see `benchmarks.prepared.reader.open_prepared`."""
