"""Five-Billion-Pixels, cross-sensor, from the authors' folders: 150 GF-2 scenes and 22 images of five megacities.

Source: `Image__8bit_NirRGB/<stem>.tif` (CMYK-tagged, bands NIR, R, G, B) with `Annotation__index/<stem>_24label.png`.
A scene has 7300 x 6908 pixels, of which 7200 x 6800 are annotated: 60 are cut off at the left, 40 at the right, 54 at
the top and 54 at the bottom. Targets: TIFFs told apart by their names, at any depth; a file is a label if its name ends
in `_24label` or the folder it lies in has `label` or `annot` in its name. Labels are index-coded or in the legend's
colours. Of a target, as released, one window of 1024 pixels around the centre of the labelled area is taken.

Source: Tong, Xia, Zhu, ISPRS Journal 196:178-196, 2023 (layout, margins); SpectralMoE's public preparation (windows).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.datasets.fbp import SOURCE, TARGETS, TASK, check_image, target_domain
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Recipe, Scene, bands, check_pair
from benchmarks.tasks import IGNORE, ImageHWC, LabelHW

WHOLE = (6908, 7300)
"""Height and width of a GF-2 scene as distributed."""

LEFT, RIGHT, TOP, BOTTOM = 60, 40, 54, 54
"""The margins that are not annotated, in pixels."""

ANNOTATED = (WHOLE[0] - TOP - BOTTOM, WHOLE[1] - LEFT - RIGHT)
WINDOW = 1024
"""Side of the released target windows in pixels."""

_STEM = r"(?P<stem>GF2_PMS[12]__L1A\d{10}-MSS[12])"
_IMAGE = rf"Image__?8bit_NirRGB/{_STEM}\.tiff?"
_LABEL = rf"Annotation__index/{_STEM}_24label\.png"
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
_GF = bands(NIR=(830, 120), R=(660, 60), G=(555, 70), B=(485, 70))


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """The GF-2 scenes and the megacity images, each with its label.

    Raises:
        ValueError: one of the two sets is missing, or an image or label lacks its partner.
    """
    images = by_key(tree.match(_IMAGE), lambda match: match["stem"])
    labels = by_key(tree.match(_LABEL), lambda match: match["stem"])
    source = _pair(images, labels, tree, "Image__8bit_NirRGB and Annotation__index (GF-2 training set)")
    targets = _pair(*_targets(tree), tree, "the megacity images and their labels (test set)")
    return [
        *(Scene(name=stem, domain=SOURCE, image=image, label=label) for stem, image, label in source),
        *(
            Scene(name=stem, domain=target_domain(stem) or "", image=image, label=label, region=_city(stem))
            for stem, image, label in targets
        ),
    ]


def _targets(tree: RawTree) -> tuple[dict[str, RawFile], dict[str, RawFile]]:
    """Images and labels of the targets; of labels in colours and index-coded ones, the index-coded."""
    found = [(match, file) for match, file in tree.match(_TARGET) if not _DEEP_FOLDER.search(file.where)]
    marked = [bool(match["mark"] or _LABEL_FOLDER.search(file.where)) for match, file in found]
    images = [pair for pair, is_label in zip(found, marked, strict=True) if not is_label]
    labels = [pair for pair, is_label in zip(found, marked, strict=True) if is_label]
    coloured, indexed = (
        by_key(((m, f) for m, f in labels if bool(_COLOUR_FOLDER.search(f.where)) is colour), lambda m: m["stem"])
        for colour in (True, False)
    )
    return by_key(images, lambda match: match["stem"]), {**coloured, **indexed}


def _pair(
    images: dict[str, RawFile], labels: dict[str, RawFile], tree: RawTree, what: str
) -> list[tuple[str, RawFile, RawFile]]:
    if not images or not labels:
        lacks = "images" if not images else "labels"
        raise ValueError(f"no {lacks} in {tree.root} for {what}; download them too (it holds {tree.found()})")
    if lonely := sorted(images.keys() ^ labels.keys()):
        there, lacks = (images[lonely[0]], "label") if lonely[0] in images else (labels[lonely[0]], "image")
        raise ValueError(f"{there} has no {lacks} ({len(lonely)} such files); download the missing ones, or remove it")
    return [(stem, images[stem], labels[stem]) for stem in sorted(images)]


def _city(stem: str) -> str:
    return next((city for begin, city in _CITIES if stem.startswith(begin)), "")


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """A scene's annotated area, or a target's labelled window.

    Raises:
        ValueError: damaged, converted or mismatched files, unexpected sizes or values, or a target without label.
    """
    image = check_image(scene.image, raw_tiff(scene.image))
    raw = read_label(scene.label)
    if scene.domain == SOURCE:
        origin = (TOP, LEFT) if image.shape[:2] != ANNOTATED else (0, 0)
        image, raw = _annotated(image, scene.image, choices), _annotated(raw, scene.label, choices)
        check_pair(scene, image, raw)
        label, off = RECIPE.label_map.decode(raw, scene.label)
    else:
        check_pair(scene, image, raw)
        label, off = RECIPE.label_map.decode(raw, scene.label)
        image, label, origin = _window(scene, image, label, choices["target_window"])
    notes = (f"{off} pixels of colours outside the legend are ignored",) if off else ()
    return Pixels(image=image, label=label, origin=origin, notes=notes)


def _annotated(pixels: npt.NDArray[Any], file: RawFile, choices: Choices) -> npt.NDArray[Any]:
    """The pixels without their margins."""
    size = pixels.shape[:2]
    if size == ANNOTATED:
        return pixels
    if size != WHOLE and choices["scene_size"] == "official":
        raise ValueError(
            f"{file} has {size[1]} x {size[0]} pixels (width x height), expected {WHOLE[1]} x {WHOLE[0]}, or "
            f"{ANNOTATED[1]} x {ANNOTATED[0]} without margins; use the official files, or --choose scene_size=any"
        )
    return pixels[TOP : size[0] - BOTTOM, LEFT : size[1] - RIGHT]


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
    per_scene = 182 if choices["edge"] == "drop" else 210
    return (
        Expected(domains=(SOURCE,), scenes=(150, 150), tiles=(150 * per_scene,) * 2, says="official scene count"),
        Expected(domains=(SOURCE,), tiles=(31497, 31504), says="released schedule"),
        Expected(domains=TARGETS, scenes=(22, 22), tiles=targets, says="official scene count and released windows"),
    )


RECIPE = Recipe(
    task=TASK,
    version=1,
    domains={
        "gf2": DomainFacts(side="source", sensor="GF-2 PMS", gsd_m=4, bands=_GF),
        "planetscope": DomainFacts(
            side="target",
            sensor="PlanetScope (classic Dove; part of Shanghai is Dove-R, whose bands are narrower)",
            gsd_m=3,
            bands=bands(NIR=(820, 80), R=(630, 80), G=(545, 90), B=(485, 60)),
        ),
        "gf1": DomainFacts(side="target", sensor="GF-1 PMS", gsd_m=8, bands=_GF),
        "sentinel2": DomainFacts(
            side="target",
            sensor="Sentinel-2 MSI",
            gsd_m=10,
            bands=bands(NIR=(832.8, 106), R=(664.6, 31), G=(559.8, 36), B=(492.4, 66)),
        ),
    },
    labels="fbp24",
    choices=(
        Choice(
            name="edge",
            values=("pad", "shift", "drop"),
            why="pad: zeros fill the last row and column, as released; shift: these move inwards; drop: left out",
        ),
        Choice(
            name="target_window",
            values=("released", "all"),
            why="released: 1024 px around the centre of the labelled area, which cuts off larger ones; all: the area",
        ),
        Choice(name="scene_size", values=("official", "any"), why="any: GF-2 cut-outs with the official margins"),
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
)
