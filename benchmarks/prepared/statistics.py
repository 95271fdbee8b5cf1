"""Which pixels are valid, and the stored band statistics of a prepared task, as far as training needs them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SCHEMA = 1
"""Rises whenever a field of `statistics.json` changes its meaning."""


def valid_pixels(image: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where an image [H, W, bands] is not zero in every band: `image.any(-1)`, which NumPy takes long over."""
    words = np.ascontiguousarray(image)
    if image.dtype.kind == "u":  # whole words are tested at once; a float has two zeros
        words = words.view(f"u{math.gcd(image.shape[-1] * image.itemsize, 8)}")
    valid = words[..., 0] != 0
    for i in range(1, words.shape[-1]):
        valid |= words[..., i] != 0
    return np.asarray(valid)


def load_normalisation(path: Path, manifest: str, bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per band of the source's valid pixels, in digital numbers.

    Args:
        path: the file that `data stats` wrote.
        manifest: hash of the manifest that they must belong to.
        bands: how many bands there must be.

    Raises:
        ValueError: they belong to another manifest, or the file is not understood. Names the remedy.
    """
    remedy = "run `data stats` again, or remove the file: each trial then takes statistics of its own"
    try:
        body = json.loads(path.read_bytes())
        schema, belongs = body["schema"], body["manifest"]
        mean, std = (tuple(float(value) for value in body["source"][name]) for name in ("mean", "std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not understood ({type(error).__name__}: {error}); {remedy}") from error
    if schema != SCHEMA or belongs != manifest:
        raise ValueError(f"{path} belongs to another manifest, or to another version of this program; {remedy}")
    if not len(mean) == len(std) == bands or min(std) <= 0:
        raise ValueError(f"{path}: expected {bands} means and as many standard deviations above 0; {remedy}")
    return mean, std
