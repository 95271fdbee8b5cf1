"""What training draws: MMSegmentation's resize, crop and flip, and a distortion of colours for any bands and type."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import IGNORE
from harness import scales
from harness.relevant import check_released_jitter

with warnings.catch_warnings(), contextlib.redirect_stdout(None):
    # mmseg warns and prints at import about optional parts that nothing here uses
    warnings.simplefilter("ignore")
    from mmcv.transforms import BaseTransform, RandomChoiceResize
    from mmseg.datasets.transforms import RandomCrop
    from mmseg.datasets.transforms.transforms import RandomFlip

_REDRAWS = 10
_MAX_LONG_EDGE = 2.0  # a longer tile is shrunk until its long edge is so many of its largest short edge

Pixels = npt.NDArray[Any]


def geometry(protocol: scales.Protocol, edge: int) -> list[BaseTransform]:
    """Resize, crop and flip, as the protocol says.

    Args:
        protocol: the recipe.
        edge: the tiles' short edge in pixels; resizing is relative to it and not to the crop, because training and
            evaluation must see one pixel size.
    """
    steps: list[BaseTransform] = []
    if protocol.resize:
        steps.append(
            RandomChoiceResize(
                scales=[round(fraction * edge) for fraction in protocol.resize],
                resize_type="mmseg.ResizeShortestEdge",
                max_size=int(_MAX_LONG_EDGE * max(protocol.resize) * edge),
            )
        )
    steps.append(QuickCrop((protocol.crop, protocol.crop), cat_max_ratio=protocol.cat_max_ratio))
    if protocol.flip:
        steps.append(RandomFlip(prob=0.5))
    return steps


class QuickCrop(RandomCrop):  # type: ignore[misc]
    """MMSegmentation's `RandomCrop`: the same draws and boxes, its classes counted without sorting the pixels."""

    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """Upper and lower row, left and right column; up to ten times redrawn while one class exceeds its share."""
        box = self._draw(results["img"].shape)
        if self.cat_max_ratio < 1:
            for _ in range(_REDRAWS):
                inside = self.crop(results["gt_seg_map"], box)
                # float32 counts, exact up to 16 million pixels
                counts = cv2.calcHist([inside], [0], None, [IGNORE], [0, IGNORE]).astype(np.int64)
                if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                    break
                box = self._draw(results["img"].shape)
        return box

    def _draw(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        height, width = self.crop_size
        top = np.random.randint(0, max(shape[0] - height, 0) + 1)
        left = np.random.randint(0, max(shape[1] - width, 0) + 1)
        return top, top + height, left, left + width


class _Arithmetic(Protocol):
    """How a distortion counts, by the type of the pixels. Sizes are those of 8-bit images."""

    def enter(self, stored: Pixels) -> Pixels:
        """Stored values as they are worked on."""

    def leave(self, worked: Pixels, dtype: npt.DTypeLike) -> Pixels:
        """And back."""

    def affine(self, values: Pixels, gain: float = 1.0, shift: float = 0.0) -> Pixels:
        """Times `gain` plus `shift`, kept in bounds."""

    def recolour(self, rgb: Pixels, gain: float | None, turn: int | None) -> Pixels:
        """Saturation times `gain` and hue turned by `turn` times 2 degrees; None for no change."""


class _EightBits:
    """Bytes throughout, as MMSegmentation counts."""

    def enter(self, stored: Pixels) -> Pixels:
        return stored

    def leave(self, worked: Pixels, dtype: npt.DTypeLike) -> Pixels:
        return worked

    def affine(self, values: Pixels, gain: float = 1.0, shift: float = 0.0) -> Pixels:
        return cv2.LUT(values, self._table(gain, shift))

    def recolour(self, rgb: Pixels, gain: float | None, turn: int | None) -> Pixels:
        hue = ((np.arange(256) + (turn or 0)) % (180 if turn is not None else 256)).astype(np.uint8)
        saturation = self._table(1.0 if gain is None else gain, 0.0)
        tables = np.stack([hue, saturation, self._table(1.0, 0.0)], axis=-1)
        hsv = cv2.LUT(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), tables.reshape(1, 256, 3))
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)

    def _table(self, gain: float, shift: float) -> Pixels:
        """What each byte becomes."""
        return np.asarray(np.clip(np.arange(256, dtype=np.float32) * gain + shift, 0, 255), dtype=np.uint8)


class _Floats:
    """Floats in which `white` is 1; nothing is cut off at the top but by the type itself."""

    def __init__(self, white: float) -> None:
        self.white = white

    def enter(self, stored: Pixels) -> Pixels:
        return (stored / np.float32(self.white)).astype(np.float32)

    def leave(self, worked: Pixels, dtype: npt.DTypeLike) -> Pixels:
        values = worked.astype(np.float64) * self.white
        if np.issubdtype(dtype, np.integer):
            values = np.rint(values).clip(0, np.iinfo(np.dtype(dtype)).max)
        return np.asarray(values, dtype=dtype)

    def affine(self, values: Pixels, gain: float = 1.0, shift: float = 0.0) -> Pixels:
        return np.asarray(np.maximum(values * np.float32(gain) + np.float32(shift / 255), 0), dtype=np.float32)

    def recolour(self, rgb: Pixels, gain: float | None, turn: int | None) -> Pixels:
        hsv = cv2.cvtColor(np.maximum(rgb, 0), cv2.COLOR_RGB2HSV)  # hue in degrees, saturation from 0 to 1
        if gain is not None:
            hsv[..., 1] = np.clip(hsv[..., 1] * np.float32(gain), 0, 1)
        if turn is not None:
            hsv[..., 0] = (hsv[..., 0] + 2 * turn) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


class _Defective:
    """Floats from 0 to 255 with the bounds of bytes: saturation passes 1, hue turns in half the circle, bytes wrap."""

    def enter(self, stored: Pixels) -> Pixels:
        return stored.astype(np.float32)

    def leave(self, worked: Pixels, dtype: npt.DTypeLike) -> Pixels:
        # by way of integers, which wrap alike on every machine
        return worked.astype(np.int64).astype(np.uint8)

    def affine(self, values: Pixels, gain: float = 1.0, shift: float = 0.0) -> Pixels:
        return np.asarray(np.clip(values * np.float32(gain) + np.float32(shift), 0, 255), dtype=np.float32)

    def recolour(self, rgb: Pixels, gain: float | None, turn: int | None) -> Pixels:
        hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
        if gain is not None:
            hsv[..., 1] = self.affine(hsv[..., 1], gain=gain)
        if turn is not None:
            hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


class PhotometricJitter(BaseTransform):  # type: ignore[misc]
    """Brightness, contrast, saturation and hue jitter of the visible bands; other bands pass unchanged.

    The parameters are those of MMSegmentation's `PhotoMetricDistortion`, which drops bands beyond the third: brightness
    by up to 32 of 255, contrast and saturation by 0.5 to 1.5, hue by up to 36 degrees. Bytes stay bytes throughout.
    Other types are worked on as floats, relative to a level `white` that stands for 255: nothing wraps, and of integers
    nothing is cut off but at the limits of their type.

    Args:
        rgb: indices of the R, G and B bands.
        white: what 255 is to bytes, in the digital numbers of images that are not bytes; above 0.
        keep_fill: pixels that are zero in every band stay so, as images need that are normalised by their own pixels;
            else they are distorted like all others, as MMSegmentation does.
    """

    def __init__(self, rgb: Sequence[int], white: float = 255.0, *, keep_fill: bool = False) -> None:
        """Keep band indices, level and what becomes of fill."""
        self.rgb = list(rgb)
        self.white = white
        self.keep_fill = keep_fill

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Jitter `img` [H, W, bands]; each step with probability 0.5, contrast before or after the colours."""
        image = results["img"].copy()
        how = self.arithmetic(image.dtype)
        stored = np.empty((*image.shape[:2], len(self.rgb)), image.dtype)
        # OpenCV, because NumPy takes ten times as long to pick bands out of interleaved ones
        cv2.mixChannels([image], [stored], [i for pair in zip(self.rgb, range(3), strict=True) for i in pair])
        moved = how.leave(_distorted(how.enter(stored), how), image.dtype)
        cv2.mixChannels([moved], [image], [i for pair in zip(range(3), self.rgb, strict=True) for i in pair])
        if self.keep_fill:
            image[~valid_pixels(results["img"])] = 0
        return {**results, "img": image}

    def arithmetic(self, dtype: np.dtype[Any]) -> _Arithmetic:
        """How images of a type are counted."""
        return _EightBits() if dtype == np.uint8 else _Floats(self.white)


class ReleasedJitter(PhotometricJitter):
    """The distortion of four bands as the released code does it, defect included.

    It gives floats from 0 to 255 to OpenCV, whose hue then is in degrees and whose saturation reaches 1, and treats
    both as if they were bytes: more saturation makes negative values, which wrap when they become bytes again, and a
    turn of 0 halves the circle of hues (SpectralMoE, sheet section 7.3). Only images of bytes have it.
    """

    def arithmetic(self, dtype: np.dtype[Any]) -> _Arithmetic:
        """The released one. Raises `ValueError` for other images than of bytes."""
        check_released_jitter(dtype)
        return _Defective()


def _distorted(visible: Pixels, how: _Arithmetic) -> Pixels:
    if np.random.randint(2):
        visible = how.affine(visible, shift=np.random.uniform(-32, 32))
    contrast_first = np.random.randint(2)
    if contrast_first and np.random.randint(2):
        visible = how.affine(visible, gain=np.random.uniform(0.5, 1.5))
    saturate, turn = np.random.randint(2), np.random.randint(2)
    if saturate or turn:
        gain = np.random.uniform(0.5, 1.5) if saturate else None
        visible = how.recolour(visible, gain, np.random.randint(-18, 18) if turn else None)
    if not contrast_first and np.random.randint(2):
        visible = how.affine(visible, gain=np.random.uniform(0.5, 1.5))
    return visible
