"""Arrays as pictures within a page: label maps in the classes' colours, error maps, images, maps of experts."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.catalogue import TASKS
from benchmarks.tasks import IGNORE

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]

PIXELS = 256
"""No side of a picture is longer; larger ones are shrunk."""

OKABE_ITO: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (0, 0, 0),
)
"""Colours that the colour-blind tell apart (Okabe and Ito 2008, Color universal design)."""

RIGHT, WRONG, UNLABELLED = (244, 244, 244), (213, 94, 0), (128, 128, 128)
_PHOTO = 128  # from this side on, a photograph is smaller as JPEG, and nobody sees the difference


def encoded(data: bytes, media: str) -> str:
    """Bytes as a `data:` address."""
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def css(colour: Colour) -> str:
    """A colour as CSS."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def palette_of(task: str, data: str, classes: Sequence[str]) -> tuple[Colour, ...]:
    """The task's own colours; colours spread over the hues where this version knows no such task or other classes."""
    known = TASKS.get(task)
    source = (known.embedded if data == "embedded" else known.files) if known else None
    if source and list(source.classes) == list(classes):
        return source.palette
    return spread_colours(len(classes))


def spread_colours(count: int) -> tuple[Colour, ...]:
    """As many colours: those of Okabe and Ito, beyond them hues in even steps at two lightnesses."""
    if count <= len(OKABE_ITO):
        return OKABE_ITO[:count]
    hues = [colorsys.hls_to_rgb(i / count, 0.35 + 0.3 * (i % 2), 0.8) for i in range(count)]
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in hues)


def photo(image_HW3: Pixels, side: int = PIXELS) -> str:
    """An image for the eye, no side of it longer than so many pixels."""
    picture = Image.fromarray(image_HW3)
    form = "JPEG" if max(picture.size) > _PHOTO else "PNG"
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return _saved(picture, form)


def label_map(labels_HW: npt.NDArray[Any], palette: Sequence[Colour]) -> str:
    """Class indices in the classes' colours; unlabelled pixels grey."""
    return _indexed(labels_HW, {**dict(enumerate(palette)), IGNORE: UNLABELLED})


def error_map(truth_HW: Pixels, prediction_HW: Pixels) -> str:
    """Where a prediction is wrong, right, or cannot be judged."""
    wrong = np.where(truth_HW == IGNORE, 2, (truth_HW != prediction_HW).astype(np.uint8))
    return _indexed(wrong, {0: RIGHT, 1: WRONG, 2: UNLABELLED})


def share_wrong(truth_HW: Pixels, prediction_HW: Pixels) -> float:
    """Share of the labelled pixels that are wrong; NaN where none is labelled."""
    labelled = truth_HW != IGNORE
    return float((truth_HW != prediction_HW)[labelled].mean()) if labelled.any() else float("nan")


def _indexed(values_HW: npt.NDArray[Any], colours: dict[int, Colour]) -> str:
    picture = Image.fromarray(_shrunk(values_HW))
    flat = [colours.get(i, UNLABELLED) for i in range(256)]
    picture.putpalette([channel for colour in flat for channel in colour])
    return _saved(picture, "PNG")


def _shrunk(values_HW: npt.NDArray[Any]) -> Pixels:
    """Every n-th pixel, so that no index is made up."""
    step = -(-max(values_HW.shape) // PIXELS)
    return np.ascontiguousarray(values_HW[::step, ::step].astype(np.uint8))


def _saved(picture: Image.Image, form: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, optimize=True, **({"quality": 85} if form == "JPEG" else {}))
    return encoded(buffer.getvalue(), f"image/{form.lower()}")
