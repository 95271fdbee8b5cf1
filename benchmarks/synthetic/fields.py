"""Small images of numbers that layouts and renderings are made of: smooth noise, shifted copies, blurs."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
BoolImage = npt.NDArray[np.bool_]


def smooth_noise(rng: np.random.Generator, px: int, period_px: float) -> FloatImage:
    """Smooth noise [px, px] of about zero mean and unit variance whose hills are about `period_px` apart."""
    knots = max(2, round(px / period_px) + 1)
    coarse = rng.standard_normal((knots + 2, knots + 2)).astype(np.float32)
    pixels_per_knot = px / (knots - 1)
    size = round((knots + 2) * pixels_per_knot)
    fine = np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)
    margin = (size - px) // 2
    # Interpolation between knots halves the variance, and somewhat more.
    return 1.4 * fine[margin : margin + px, margin : margin + px]


def grain(rng: np.random.Generator, px: int, sigma_px: float) -> FloatImage:
    """Fine-grained noise [px, px] of about zero mean and unit variance, correlated over about `sigma_px`."""
    white = rng.standard_normal((px, px), dtype=np.float32)
    # A Gaussian blur of white noise leaves a standard deviation of 1 / (2 sqrt(pi) sigma).
    return blur(white, sigma_px) * np.float32(2 * np.sqrt(np.pi) * sigma_px)


def blur(image: FloatImage, sigma_px: float) -> FloatImage:
    """Gaussian blur of an image [px, px] or [px, px, bands], mirrored at the borders."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.float32)


def coarsen(image: FloatImage, factor: float) -> FloatImage:
    """The look of a sensor with pixels `factor` times larger, on the same grid: averaged, then interpolated back."""
    height, width = image.shape[:2]
    coarse = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = cv2.resize(image, coarse, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def borders(regions: npt.NDArray[np.int32]) -> BoolImage:
    """True on pixels whose right or lower neighbour belongs to another region."""
    edge = np.zeros(regions.shape, dtype=np.bool_)
    edge[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    edge[:-1] |= regions[:-1] != regions[1:]
    return edge
