"""FLAIR, cross-region: aerial images of France at 0.2 m, from 40 departments to 10 others.

Reads the original archives (`flair_aerial_train`, `flair_labels_train`, `flair_<1|2>_aerial_test`,
`flair_<1|2>_labels_test`) and the hub's archives of one department each (`data/train-val/D004_2021.zip`,
`data/flair#1-test/...`), packed or not. In both, a patch is `D004_2021/.../Z10_AU/[img/]IMG_000826.tif` and
`.../Z10_AU/[msk/]MSK_000826.tif`, paired by department and number. Images have five bands, R, G, B, NIR and the height
above ground, of which the task keeps four; masks hold 1 to 19, of which it keeps 1 to 12. The manifest's scene is a
zone, its region the department. A test set is told by the folder above it, or else by its departments.

Source: Garioud et al., FLAIR #1, arXiv 2211.12979; FLAIR #2, arXiv 2310.13336; the data card of IGNF/FLAIR-1-2.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.prepared.georef import GeoTiffPlace, geotiff_place
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key, pair
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Recipe, Scene, bands, check_pair

TASK = "flair_cr"
LAMBERT_93 = 2154
"""EPSG code of all files. Masks hold the same grid but do not name it."""

_TABLE = Path(__file__).parent / "regions" / "flair.csv"

PATCHES = {"train": 61712, "flair1": 15700, "flair2": 16050}
"""Official numbers of patches."""

_PATTERN = (
    r"(?P<department>(?P<code>D\d{{3}})_\d{{4}})(?:\.zip)?/(?:[^/]+/)*(?P<zone>Z\d+_[A-Z]+)/(?:[^/]+/)?"
    r"{kind}_(?P<number>\d{{6}})\.tiff?"
)
_TEST_SET = re.compile(r"(?P<set>flair(?:[#_-]|%23)?[12])_?(?:aerial|labels)?[_-]test")
_FACTS = bands(R=(635, 100), G=(550, 110), B=(470, 110), NIR=(800, 180))
_OFFICIAL = "use the official files of FLAIR #1 and #2"
_MOST_EMPTY = 0.01


@cache
def departments(which: str) -> Mapping[str, str]:
    """Names by code, such as `D004_2021` by `D004`, of the official set `train`, `flair1` or `flair2` (5 are in both).

    The years of departments that are in `flair2` alone are not known: their names are their codes.
    """
    with _TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == which]
    return {row["department"]: f"{row['department']}_{row['year']}".rstrip("_") for row in rows}


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """The patches of the 40 departments of the source and of the chosen test set.

    Raises:
        ValueError: a side has no patches, or an image or mask lacks its partner.
    """
    images, masks = (_patches(tree, kind, choices["target"]) for kind in ("IMG", "MSK"))
    remedy = "they go by department and number; download or unpack the archives of images and of masks again"
    scenes = [_scene(*key, image, mask) for key, image, mask in pair(images, masks, remedy, label="mask")]
    for domain, what in (("seen", "train-val"), ("unseen", f"test set {choices['target']}")):
        if not any(scene.domain == domain for scene in scenes):
            raise ValueError(
                f"no patches of the {what} in {tree.root} (it holds {tree.found()}); it must hold the official "
                "archives, or their folders with departments such as D004_2021"
            )
    return scenes


def _patches(tree: RawTree, kind: str, target: str) -> dict[tuple[str, str], RawFile]:
    """Images or masks of source and target by department and number: numbers alone may repeat."""
    found = [
        (match, file)
        for match, file in tree.match(_PATTERN.format(kind=kind))
        if match["code"] in departments("train") or (match["code"] in departments(target) and _may_be(file, target))
    ]
    return by_key(found, lambda match: (match["department"], match["number"]))


def _may_be(file: RawFile, target: str) -> bool:
    """Whether no folder above a file says that it is of the other test set; the two share departments."""
    named = _TEST_SET.search(file.where)
    return named is None or named["set"][-1] == target[-1]


def _scene(department: str, number: str, image: RawFile, mask: RawFile) -> Scene:
    found = re.search(r".*/(Z\d+_[A-Z]+)/", f"/{image.where}")
    assert found is not None, "the pattern asks for a zone"
    unit = f"{department}_{found[1]}"
    return Scene(
        name=f"{unit}_{number}",
        domain="seen" if department[:4] in departments("train") else "unseen",
        image=image,
        label=mask,
        region=department,
        part_of=unit,
    )


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """A patch without its fifth band.

    Raises:
        ValueError: damaged, of other bands, sizes or values, of another release, or a mask of another place.
    """
    image, raw = raw_tiff(scene.image).pixels, read_label(scene.label)
    if image.shape[2] != 5 or image.dtype != np.uint8:
        raise ValueError(
            f"{scene.image} has {image.shape[2]} band(s) of type {image.dtype}, expected R, G, B, NIR and height in "
            f"8 bits; {_OFFICIAL}, not FLAIR-HUB's"
        )
    if raw.ndim != 2:
        raise ValueError(f"{scene.label} has three bands, expected one of class numbers; {_OFFICIAL}")
    check_pair(scene, image, raw)
    label, _ = RECIPE.label_map.decode(raw, scene.label)
    empty = int((raw == 0).sum())
    if empty > _MOST_EMPTY * raw.size:
        raise ValueError(
            f"{scene.label} holds the value 0 in {empty} of {raw.size} pixels, expected 1 to 19: FLAIR-HUB counts its "
            f"classes from 0 and in another order; {_OFFICIAL}"
        )
    notes = (f"{empty} pixels of the value 0 are ignored",) if empty else ()
    return Pixels(image=np.ascontiguousarray(image[..., :4]), label=label, place=_place(scene), notes=notes)


def _place(scene: Scene) -> GeoTiffPlace | None:
    """Where a patch lies, by its image or else its mask; they must agree to a pixel."""
    image, mask = (geotiff_place(file, unnamed=LAMBERT_93) for file in (scene.image, scene.label))
    if image is None or mask is None:
        return image or mask
    if max(abs(image.left - mask.left), abs(image.top - mask.top)) > image.step_x:
        raise ValueError(
            f"{scene.label} lies at {mask.left:.1f}, {mask.top:.1f} (Lambert-93, metres), but its image {scene.image} "
            f"at {image.left:.1f}, {image.top:.1f}; {_OFFICIAL}"
        )
    return image


def remarks(tree: RawTree, choices: Choices, scenes: Sequence[Scene]) -> Sequence[str]:
    """The band that is left out, and departments of which nothing is there."""
    there = {scene.region[:4] for scene in scenes}
    official = {**departments("train"), **departments(choices["target"])}
    lacking = [name for code, name in official.items() if code not in there]
    told = ["band 5 of every image, the height above ground, is left out, and the values 13 to 19 are ignored"]
    if lacking:
        told.append(f"{len(lacking)} of {len(official)} departments are not there: {', '.join(lacking)}")
    return told


def expected(choices: Choices) -> Sequence[Expected]:
    """The official counts, and what the released schedule implies."""
    train, test = PATCHES["train"], PATCHES[choices["target"]]
    return (
        Expected(domains=("seen",), tiles=(train, train), says="official count of train-val"),
        Expected(domains=("seen",), tiles=(61705, 61712), says="released schedule"),
        Expected(domains=("unseen",), tiles=(test, test), says="official count of the test set"),
    )


RECIPE = Recipe(
    task=TASK,
    version=1,
    domains={
        side: DomainFacts(
            side="source" if side == "seen" else "target",
            sensor="aerial cameras of IGN (UltraCam Eagle Mark 3, CAMv2)",
            gsd_m=0.2,
            bands=_FACTS,
        )
        for side in ("seen", "unseen")
    },
    labels="flair19_to_12",
    choices=(
        Choice(
            name="target",
            values=("flair1", "flair2"),
            why="both official test sets have 10 departments, and the paper does not say which it scores",
        ),
        Choice(
            name="edge", values=("pad", "shift", "drop"), why="a patch is one tile of 512: no effect on official ones"
        ),
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
    remark=remarks,
)

open_flair = partial(open_prepared, task=TASK)
"""The reader of the prepared task below a data root; see `benchmarks.prepared.reader.open_prepared`."""
