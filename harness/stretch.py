"""Digital numbers made visible: percentiles that become black and white. Free of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import ImageHWC

_DARK, _BRIGHT = 2, 98


def limits(values: npt.NDArray[Any], low: float, high: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Two percentiles of values [n], or of each band of [n, bands]; where they are equal, the upper one is raised by 1.

    Args:
        values: at least one.
        low: the lower percentile, from 0 to 100.
        high: the upper one.
    """
    black, white = np.percentile(values, (low, high), axis=0)
    return np.asarray(black), np.where(white > black, white, black + 1)


def stretch(image_HWC: ImageHWC) -> npt.NDArray[np.uint8]:
    """An image for the eye: per band from the 2nd to the 98th percentile of pixels that are not 0, as 8 bits."""
    image = image_HWC.astype(np.float32)
    valid = image[valid_pixels(image)]
    if not len(valid):
        return np.zeros(image.shape, np.uint8)
    black, white = limits(valid, _DARK, _BRIGHT)
    return np.asarray(np.clip((image - black) / (white - black), 0, 1) * 255, dtype=np.uint8)
