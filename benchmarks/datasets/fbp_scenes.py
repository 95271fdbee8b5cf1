"""The 150 GF-2 scenes of Five-Billion-Pixels as their authors give them: what both tasks on them share.

`Image__8bit_NirRGB/<stem>.tif` (CMYK-tagged, bands NIR, R, G, B) with `Annotation__index/<stem>_24label.png` and, if it
is there, `Coordinate_files/<stem>.rpb`. A scene has 7300 x 6908 pixels, of which 7200 x 6800 are annotated: 60 are cut
off at the left, 40 at the right, 54 at the top and 54 at the bottom.

Source: Tong, Xia, Zhu, ISPRS Journal 196:178-196, 2023 (layout, margins).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from benchmarks.datasets.fbp import check_image
from benchmarks.prepared.labels import load_labels
from benchmarks.prepared.rasters import raw_tiff, read_label
from benchmarks.prepared.raw import RawFile, RawTree, by_key, pair
from benchmarks.prepared.recipe import Choice, Choices, Pixels, Scene, bands, check_pair

LABELS = "fbp24"
"""Name of the label map."""

GAOFEN = bands(NIR=(830, 120), R=(660, 60), G=(555, 70), B=(485, 70))
"""The bands of GF-1 and GF-2 in file order."""

WHOLE = (6908, 7300)
"""Height and width of a GF-2 scene as distributed."""

LEFT, RIGHT, TOP, BOTTOM = 60, 40, 54, 54
"""The margins that are not annotated, in pixels."""

ANNOTATED = (WHOLE[0] - TOP - BOTTOM, WHOLE[1] - LEFT - RIGHT)
"""Height and width without margins."""

EDGE = Choice(
    name="edge",
    values=("pad", "shift", "drop"),
    why="pad: zeros fill the last row and column, as released; shift: these move inwards; drop: left out",
)
SCENE_SIZE = Choice(name="scene_size", values=("official", "any"), why="any: GF-2 cut-outs with the official margins")

LONELY = "download the missing ones, or remove it"
"""What to do about an image or label without its partner."""

_STEM = r"(?P<stem>GF2_PMS[12]__L1A\d{10}-MSS[12])"
_IMAGE = rf"Image__?8bit_NirRGB/{_STEM}\.tiff?"
_LABEL = rf"Annotation__index/{_STEM}_24label\.png"
_CAMERA = rf"{_STEM}\.(?:rpb|RPB)"


def tiles_per_scene(choices: Choices) -> int:
    """How many tiles of 512 pixels a whole scene gives."""
    return 182 if choices["edge"] == "drop" else 210


def find_gf2(tree: RawTree, domain: str) -> list[Scene]:
    """The GF-2 scenes, each with its label and, if there is one, its camera file as the only other one.

    Raises:
        ValueError: images or labels are missing, or one lacks its partner.
    """
    images, labels, cameras = (
        by_key(tree.match(pattern), lambda match: match["stem"]) for pattern in (_IMAGE, _LABEL, _CAMERA)
    )
    tree.require(images, labels, "Image__8bit_NirRGB and Annotation__index (GF-2 training set)")
    return [
        Scene(name=stem, domain=domain, image=image, label=label, others=(cameras[stem],) if stem in cameras else ())
        for stem, image, label in pair(images, labels, LONELY)
    ]


def read_gf2(scene: Scene, choices: Choices) -> Pixels:
    """A scene's annotated area, and where it lies if its camera file is there.

    Raises:
        ValueError: damaged, converted or mismatched files, unexpected sizes or values.
    """
    from benchmarks.prepared.rpc import read_rpb  # rasterio, which training does not need

    image, raw = check_image(scene.image, raw_tiff(scene.image)), read_label(scene.label)
    cut = image.shape[:2] == ANNOTATED
    image, raw = _annotated(image, scene.image, choices), _annotated(raw, scene.label, choices)
    check_pair(scene, image, raw)
    label, notes = decode(raw, scene)
    # the camera counts pixels of the whole scene, margins and all
    places = [replace(read_rpb(file), row=TOP, col=LEFT) if cut else read_rpb(file) for file in scene.others]
    return Pixels(
        image=image,
        label=label,
        origin=(0, 0) if cut else (TOP, LEFT),
        place=places[0] if places else None,
        notes=notes,
    )


def decode(raw: npt.NDArray[Any], scene: Scene) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """Classes of a label raster, and a note if some colours are unknown. Raises `ValueError` for other values."""
    label, off = load_labels(LABELS).decode(raw, scene.label)
    return label, (f"{off} pixels of colours outside the legend are ignored",) if off else ()


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
