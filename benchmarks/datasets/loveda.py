"""LoveDA, rural to urban: Google Earth images of Nanjing, Changzhou and Wuhan at 0.3 m, from Zenodo record 5706578.

Reads `Train.zip` and `Val.zip`, or what they hold: `{Train,Val}/{Rural,Urban}/{images_png,masks_png}/<n>.png`. Masks
hold 0 (no data), 1 (background, a class like the others) to 7. Test.zip has no masks and is passed over. The manifest's
scene is one image, because which region an image belongs to is not published.

Source: Wang et al., LoveDA, NeurIPS Datasets and Benchmarks 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.legends import LOVEDA_7
from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.rasters import read_label, read_png
from benchmarks.prepared.raw import RawFile, RawTree, by_key
from benchmarks.prepared.reader import open_prepared
from benchmarks.prepared.recipe import Choice, Choices, Expected, Pixels, Recipe, Scene, bands, check_pair

TASK = "loveda_r2u"
CLASSES = tuple(LOVEDA_7)
_RGB = bands(R=665, G=560, B=490)
_PATTERN = r"(?P<split>Train|Val)/(?P<side>Rural|Urban)/{folder}/(?P<number>\d+)\.png"
_LAYOUT = "Train.zip and Val.zip of Zenodo record 5706578, or the folders Train and Val that they hold"


def find_scenes(tree: RawTree, choices: Choices) -> Sequence[Scene]:
    """Rural training images (with `source=released` also rural validation ones), and urban validation images.

    Raises:
        ValueError: a part is missing, or an image or mask lacks its partner.
    """
    images, masks = (
        by_key(tree.match(_PATTERN.format(folder=folder)), lambda m: (m["split"], m["side"], int(m["number"])))
        for folder in ("images_png", "masks_png")
    )
    wanted = [("Train", "Rural"), *([("Val", "Rural")] if choices["source"] == "released" else []), ("Val", "Urban")]
    scenes = []
    for split, side in wanted:
        numbers = sorted({key[2] for key in images.keys() | masks.keys() if key[:2] == (split, side)})
        if not numbers:
            raise ValueError(f"no {split}/{side} in {tree.root} (it holds {tree.found()}); it must hold {_LAYOUT}")
        for number in numbers:
            key = (split, side, number)
            if key not in images or key not in masks:
                there, lacks = (masks[key], "image") if key not in images else (images[key], "mask")
                raise ValueError(f"{there} has no {lacks} beside it; unpack or download {split}.zip again")
            name = f"{split.lower()}_{side.lower()}_{number}"
            scenes.append(Scene(name=name, domain=side.lower(), image=images[key], label=masks[key]))
    return scenes


def read_scene(scene: Scene, choices: Choices) -> Pixels:
    """One image and its mask. Raises `ValueError` for a damaged file, other sizes or unknown values."""
    image, raw = read_png(scene.image), read_label(scene.label)
    _require(scene.image, image.ndim == 3, "in colour (RGB)")
    _require(scene.label, raw.ndim == 2, "of index values")
    check_pair(scene, image, raw)
    return Pixels(image=image, label=RECIPE.label_map.decode(raw, scene.label)[0])


def _require(file: RawFile, holds: bool, kind: str) -> None:
    if not holds:
        raise ValueError(f"{file} is not a PNG {kind}; use the files of Zenodo record 5706578, not a mirror's")


def expected(choices: Choices) -> Sequence[Expected]:
    """The official counts, and what the released schedule implies."""
    rural = 1366 if choices["source"] == "text" else 1366 + 992
    return (
        Expected(domains=("rural",), scenes=(rural, rural), tiles=(4 * rural, 4 * rural), says="official counts"),
        Expected(domains=("rural",), tiles=(9425, 9432), says="released schedule"),
        Expected(domains=("urban",), scenes=(677, 677), tiles=(2708, 2708), says="official counts"),
    )


RECIPE = Recipe(
    task=TASK,
    version=1,
    domains={
        "rural": DomainFacts(side="source", sensor="Google Earth", gsd_m=0.3, bands=_RGB),
        "urban": DomainFacts(side="target", sensor="Google Earth", gsd_m=0.3, bands=_RGB),
    },
    labels="loveda7",
    choices=(
        Choice(
            name="source",
            values=("text", "released"),
            why="text: Train/Rural, as the paper says; released: with Val/Rural, as the released schedule implies",
        ),
        Choice(name="edge", values=("pad", "shift", "drop"), why="1024 is twice 512: no effect on official images"),
    ),
    find=find_scenes,
    read=read_scene,
    expect=expected,
)

open_loveda = partial(open_prepared, task=TASK)
"""The reader of the prepared task below a data root; see `benchmarks.prepared.reader.open_prepared`."""
