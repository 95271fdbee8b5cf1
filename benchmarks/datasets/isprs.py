"""ISPRS benchmark, Potsdam to Vaihingen: aerial images at 5 cm in R, G, B to images at 9 cm in NIR, R, G.

Potsdam: `top_potsdam_<r>_<c>_RGB.tif` (2_Ortho_RGB.zip) with `top_potsdam_<r>_<c>_label[_noBoundary].tif`
(5_Labels_all[_noBoundary].zip). Vaihingen: `top/top_mosaic_09cm_area<k>.tif` (ISPRS_semantic_labeling_Vaihingen.zip),
with labels of the same name, ending in `_noBoundary` where boundaries are eroded, outside a folder `top`. Labels are in
the legend's colours; black, the eroded boundary, is ignored. The three bands of each town take the same three places:
that the spectral bands change is the task.

Source: ISPRS WG II/4, 2D semantic labelling benchmark; MMSegmentation's converters (grid of tiles).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key, pair
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Recipe, Scene, bands, check_pair

TASK = "potsdam2vaihingen"
VAIHINGEN_TEST = frozenset({2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38})
"""The 17 areas that the benchmark tests on."""

WITH_ERRORS = "7_10"
"""The Potsdam tile that is known for errors in its label."""

_POTSDAM = r"top_potsdam_(?P<key>\d+_\d+)_{ending}\.tiff?"
_VAIHINGEN = r"top_mosaic_09cm_area(?P<key>\d+){ending}\.tiff?"
_ENDINGS = {"eroded": "_noBoundary", "full": ""}


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """The tiles of both towns, each a scene.

    Raises:
        ValueError: a town's images or labels are missing, or an image lacks its label.
    """
    ending = _ENDINGS[choices["labels"]]
    potsdam = _pairs(
        tree,
        by_key(tree.match(_POTSDAM.format(ending="RGB")), lambda match: match["key"]),
        by_key(tree.match(_POTSDAM.format(ending=f"label{ending}")), lambda match: match["key"]),
        "Potsdam: 2_Ortho_RGB.zip and " + f"5_Labels_all{ending}.zip",
    )
    eroded = "_eroded" if ending else ""
    vaihingen = _pairs(
        tree,
        by_key(_in_top(tree, _VAIHINGEN.format(ending=""), inside=True), lambda match: match["key"]),
        by_key(_in_top(tree, _VAIHINGEN.format(ending=ending), inside=False), lambda match: match["key"]),
        "Vaihingen: ISPRS_semantic_labeling_Vaihingen.zip and its "
        f"ISPRS_semantic_labeling_Vaihingen_ground_truth{eroded}_COMPLETE.zip",
    )
    if choices["potsdam_7_10"] == "drop":
        potsdam = [found for found in potsdam if found[0] != WITH_ERRORS]
    if choices["target"] == "test":
        vaihingen = [found for found in vaihingen if int(found[0]) in VAIHINGEN_TEST]
    return [
        *(
            Scene(name=f"top_potsdam_{key}", domain="potsdam", image=i, label=m, region="Potsdam")
            for key, i, m in potsdam
        ),
        *(
            Scene(name=f"area{key}", domain="vaihingen", image=i, label=m, region="Vaihingen")
            for key, i, m in vaihingen
        ),
    ]


def _in_top(tree: RawTree, pattern: str, *, inside: bool) -> Iterator[tuple[re.Match[str], RawFile]]:
    """Files that lie directly in a folder `top`, or that do not: images and labels have the same names."""
    for match, file in tree.match(pattern):
        if (f"/{file.where}".split("/")[-2] == "top") is inside and "gts_for_participants" not in file.where:
            yield match, file


def _pairs(
    tree: RawTree, images: dict[str, RawFile], labels: dict[str, RawFile], what: str
) -> list[tuple[str, RawFile, RawFile]]:
    tree.require(images, labels, what)
    return pair(images, labels, f"it needs {what}")


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """One image with its label, and where it lies if its tags say so. Raises `ValueError` for defects."""
    from benchmarks.prepared.georef import geotiff_place  # rasterio, which training does not need

    image, raw = raw_tiff(scene.image).pixels, read_label(scene.label)
    if image.dtype != np.uint8 or image.shape[2] != 3:
        raise ValueError(
            f"{scene.image} has {image.shape[2]} band(s) of type {image.dtype}, expected 3 of type uint8; "
            "use the official files"
        )
    if raw.ndim != 3:
        raise ValueError(f"{scene.label} has one band, expected the legend's colours; use the official label files")
    check_pair(scene, image, raw)
    label, off = RECIPE.label_map.decode(raw, scene.label)
    notes = (f"{off} pixels of colours outside the legend are ignored",) if off else ()
    return Pixels(image=image, label=label, place=geotiff_place(scene.image), notes=notes)


def expected(choices: Choices) -> Sequence[Expected]:
    """The official counts, and what the released schedule implies."""
    scenes = 37 if choices["potsdam_7_10"] == "drop" else 38
    tiles = scenes * (121 if choices["edge"] == "drop" else 144)
    areas, cut = (33, 742) if choices["target"] == "all" else (17, 398)
    return (
        Expected(domains=("potsdam",), scenes=(scenes, scenes), tiles=(tiles, tiles), says="official tile count"),
        Expected(domains=("potsdam",), tiles=(5465, 5472), says="released schedule"),
        Expected(
            domains=("vaihingen",),
            scenes=(areas, areas),
            tiles=None if choices["edge"] == "drop" else (cut, cut),
            says="MMSegmentation's converter",
        ),
    )


RECIPE = Recipe(
    task=TASK,
    version=1,
    domains={
        "potsdam": DomainFacts(
            side="source", sensor="aerial camera, model not stated", gsd_m=0.05, bands=bands(R=635, G=550, B=470)
        ),
        "vaihingen": DomainFacts(
            side="target",
            sensor="Z/I DMC",
            gsd_m=0.09,
            bands=bands(NIR=(765, 140), R=(635, 85), G=(560, 110)),
        ),
    },
    labels="isprs6",
    choices=(
        Choice(
            name="edge",
            values=("shift", "pad", "drop"),
            why="shift: the last row and column move inwards, as by MMSegmentation's converter",
        ),
        Choice(
            name="labels",
            values=("eroded", "full"),
            why="eroded: class boundaries ignored, the files that MMSegmentation's guide names; full: all pixels",
        ),
        Choice(
            name="target", values=("all", "test"), why="all 33 areas of Vaihingen, or the benchmark's 17 test areas"
        ),
        Choice(name="potsdam_7_10", values=("keep", "drop"), why="its label has errors; the schedule implies all 38"),
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
)

open_isprs = partial(open_prepared, task=TASK)
"""The reader of the prepared task below a data root; see `benchmarks.prepared.reader.open_prepared`."""
