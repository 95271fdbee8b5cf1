"""Five-Billion-Pixels, cross-sensor, from the authors' folders: 150 GF-2 scenes and 22 images of five megacities.

Source: see `benchmarks.datasets.fbp_scenes`. Targets: TIFFs told apart by their names, at any depth; a file is a label
if its name ends in `_24label` or the folder it lies in has `label` or `annot` in its name. Labels are index-coded or in
the legend's colours. Of a target, as released, one window of 1024 pixels around the centre of the labelled area is
taken. Where a target lies is known as far as its name tells: the tile of a Sentinel-2 image, the centre of a GF-1
scene, of a PlanetScope scene only the city.

Source: Tong, Xia, Zhu, ISPRS Journal 196:178-196, 2023 (layout); SpectralMoE's public preparation (windows).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

import cv2
import numpy as np

from benchmarks.datasets.fbp import SOURCE, TARGETS, TASK, check_image, target_domain
from benchmarks.datasets.fbp_scenes import (
    EDGE,
    GAOFEN,
    LABELS,
    LONELY,
    SCENE_SIZE,
    decode,
    find_gf2,
    read_gf2,
    tiles_per_scene,
)
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key, pair
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Place, Recipe, Scene, bands, check_pair
from benchmarks.tasks import IGNORE, ImageHWC, LabelHW

WINDOW = 1024
"""Side of the released target windows in pixels."""

TO_SOURCE_GSD = 3 / 4
"""By how much PlanetScope's pixels of 3 m are drawn together to GF-2's of 4 m, as the data set's authors do."""

_TARGET = r"(?P<stem>(?:T\d{2}[A-Z]{3}_|GF1_|\d{8}_)[^/]*?)(?P<mark>_24label)?\.(?:tiff?|png)"
_LABEL_FOLDER = re.compile(r"(label|annot)[^/]*/[^/]*$", re.IGNORECASE)
_COLOUR_FOLDER = re.compile(r"colou?r[^/]*/", re.IGNORECASE)
_DEEP_FOLDER = re.compile(r"16bit[^/]*/", re.IGNORECASE)
_CITIES = (
    ("T50TMK_", "Beijing"),
    ("T49QGF_", "Guangzhou"),
    ("GF1_", "Wuhan"),
    *((date, "Chengdu") for date in ("20190713_", "20190811_", "20190812_", "20190815_")),
    *((date, "Shanghai") for date in ("20190821_", "201909", "201910", "201911")),
)
_DATE = re.compile(r"(?<!\d)(20\d{2})(\d{2})(\d{2})(?!\d)")
_TILE = re.compile(r"T(\d{2}[A-Z]{3})_")
_CENTRE = re.compile(r"GF1_.*?E(\d+\.\d+)_N(\d+\.\d+)_")
# a GF-1 scene is 35 to 40 km wide, and its name rounds to 0.1 degrees
_GF1_KM, _CITY_KM = 20, 50
_CITY_CENTRES = {"Chengdu": (104.07, 30.66), "Shanghai": (121.47, 31.23)}


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """The GF-2 scenes and the megacity images, each with its label.

    Raises:
        ValueError: one of the two sets is missing, or an image or label lacks its partner.
    """
    source = find_gf2(tree, SOURCE)
    images, labels = _targets(tree)
    tree.require(images, labels, "the megacity images and their labels (test set)")
    return [
        *source,
        *(
            Scene(
                name=stem,
                domain=target_domain(stem) or "",
                image=image,
                label=label,
                region=_city(stem),
                date=_date(stem),
            )
            for stem, image, label in pair(images, labels, LONELY)
        ),
    ]


def _targets(tree: RawTree) -> tuple[dict[str, RawFile], dict[str, RawFile]]:
    """Images and labels of the targets; of labels in colours and index-coded ones, the index-coded."""
    found = [(match, file) for match, file in tree.match(_TARGET) if not _DEEP_FOLDER.search(file.where)]
    marked = [bool(match["mark"] or _LABEL_FOLDER.search(file.where)) for match, file in found]
    images = [one for one, is_label in zip(found, marked, strict=True) if not is_label]
    labels = [one for one, is_label in zip(found, marked, strict=True) if is_label]
    coloured, indexed = (
        by_key(((m, f) for m, f in labels if bool(_COLOUR_FOLDER.search(f.where)) is colour), lambda m: m["stem"])
        for colour in (True, False)
    )
    return by_key(images, lambda match: match["stem"]), {**coloured, **indexed}


def _city(stem: str) -> str:
    return next((city for begin, city in _CITIES if stem.startswith(begin)), "")


def _date(stem: str) -> str:
    """The date in a name, or nothing."""
    found = _DATE.search(stem)
    try:
        return datetime.date(*map(int, found.groups())).isoformat() if found else ""
    except ValueError:
        return ""  # digits that are no date


def _place(scene: Scene) -> Place | None:
    """Where a target lies, as far as its name tells."""
    from benchmarks.prepared.boxes import box_around, sentinel2_tile  # rasterio, which training does not need

    if tile := _TILE.match(scene.name):
        return sentinel2_tile(tile[1])
    if centre := _CENTRE.match(scene.name):
        return box_around(float(centre[1]), float(centre[2]), _GF1_KM, "name")
    if scene.region in _CITY_CENTRES:
        return box_around(*_CITY_CENTRES[scene.region], _CITY_KM, "table")
    return None


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """A scene's annotated area, or a target's labelled window.

    Raises:
        ValueError: damaged, converted or mismatched files, unexpected sizes or values, or a target without label.
    """
    if scene.domain == SOURCE:
        return read_gf2(scene, choices)
    image, raw = check_image(scene.image, raw_tiff(scene.image)), read_label(scene.label)
    check_pair(scene, image, raw)
    label, notes = decode(raw, scene)
    if choices["resample"] == "to_source_gsd" and scene.domain == "planetscope":
        image, label = _resampled(image, label, TO_SOURCE_GSD)
    image, label, origin = _window(scene, image, label, choices["target_window"])
    return Pixels(image=image, label=label, origin=origin, place=_place(scene), notes=notes)


def _resampled(image: ImageHWC, label: LabelHW, factor: float) -> tuple[ImageHWC, LabelHW]:
    """Fewer pixels: the image by their mean over the new pixel's area, the label by the nearest."""
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return (
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8),
        np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8),
    )


def _window(scene: Scene, image: ImageHWC, label: LabelHW, which: str) -> tuple[ImageHWC, LabelHW, tuple[int, int]]:
    """The labelled bounding box, or as released one window around its centre; and its upper left corner."""
    rows, cols = np.flatnonzero((label != IGNORE).any(1)), np.flatnonzero((label != IGNORE).any(0))
    if not rows.size:
        raise ValueError(f"{scene.label} holds no labelled pixel; use the official label files")
    spans = [(int(found[0]), int(found[-1]) + 1) for found in (rows, cols)]
    if which == "released":
        starts = [
            min(max((low + high) // 2 - WINDOW // 2, 0), max(size - WINDOW, 0))
            for (low, high), size in zip(spans, label.shape, strict=True)
        ]
        spans = [(start, start + WINDOW) for start in starts]
    (top, bottom), (left, right) = spans
    return image[top:bottom, left:right], label[top:bottom, left:right], (top, left)


def expected(choices: Choices) -> Sequence[Expected]:
    """The official counts, and what the released schedule implies."""
    targets = (0, 88) if choices["target_window"] == "released" else None
    tiles = 150 * tiles_per_scene(choices)
    return (
        Expected(domains=(SOURCE,), scenes=(150, 150), tiles=(tiles, tiles), says="official scene count"),
        Expected(domains=(SOURCE,), tiles=(31497, 31504), says="released schedule"),
        Expected(domains=TARGETS, scenes=(22, 22), tiles=targets, says="official scene count and released windows"),
    )


RECIPE = Recipe(
    task=TASK,
    version=2,
    domains={
        "gf2": DomainFacts(side="source", sensor="GF-2 PMS", gsd_m=4, bands=GAOFEN),
        "planetscope": DomainFacts(
            side="target",
            sensor="PlanetScope (classic Dove; part of Shanghai is Dove-R, whose bands are narrower)",
            gsd_m=3,
            bands=bands(NIR=(820, 80), R=(630, 80), G=(545, 90), B=(485, 60)),
        ),
        "gf1": DomainFacts(side="target", sensor="GF-1 PMS", gsd_m=8, bands=GAOFEN),
        "sentinel2": DomainFacts(
            side="target",
            sensor="Sentinel-2 MSI",
            gsd_m=10,
            bands=bands(NIR=(832.8, 106), R=(664.6, 31), G=(559.8, 36), B=(492.4, 66)),
        ),
    },
    labels=LABELS,
    choices=(
        EDGE,
        Choice(
            name="target_window",
            values=("released", "all"),
            why="released: 1024 px around the centre of the labelled area, which cuts off larger ones; all: the area",
        ),
        Choice(
            name="resample",
            values=("none", "to_source_gsd"),
            why="none: as released; to_source_gsd: PlanetScope from 3 m to 4 m, as the data set's authors do",
        ),
        SCENE_SIZE,
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
)
