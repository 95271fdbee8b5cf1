"""Bands: how an encoder pretrained on three visible bands meets a task's bands. Imports torch where it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.tasks import Band

if TYPE_CHECKING:
    from torch import Tensor


def nearest(centres: Sequence[float], wanted: float) -> int:
    """Index of the centre nearest to the wanted one, both in one unit (ties: the earlier one)."""
    return min(range(len(centres)), key=lambda i: abs(centres[i] - wanted))


def nearest_bands(wanted: Sequence[Band], given: Sequence[Band]) -> list[int]:
    """For each wanted band the index of the given band nearest in wavelength (ties: the earlier one)."""
    return [nearest([band.centre_um for band in given], band.centre_um) for band in wanted]


def expand_kernel(weight_DChw: Tensor, pretrained: Sequence[Band], task: Sequence[Band], mode: str) -> Tensor:
    """A patch-embedding kernel for the task's bands from one for the pretrained bands.

    Args:
        weight_DChw: kernel [D, pretrained bands, h, w].
        pretrained: its bands, in order.
        task: the task's bands, in file order.
        mode: `nearest` copies the channel nearest in wavelength; `mean` gives every band the mean channel, scaled by
            pretrained / task bands so that grey input keeps its response; `released` copies channel i mod 3 to
            band i, as SpectralMoE's converter does; `linear` interpolates over the channels in their order; `timm` is
            timm's own repetition with that scaling.

    Returns:
        Kernel [D, task bands, h, w].
    """
    import torch
    from timm.models import adapt_input_conv
    from torch.nn.functional import interpolate

    if mode == "nearest":
        return weight_DChw[:, nearest_bands(task, pretrained)]
    if mode == "mean":
        scale = len(pretrained) / len(task)
        return weight_DChw.mean(1, keepdim=True).repeat(1, len(task), 1, 1) * scale
    if mode == "released":
        return weight_DChw[:, torch.arange(len(task)) % len(pretrained)]
    if mode == "linear":
        between_DXC = interpolate(weight_DChw.flatten(2).mT, size=len(task), mode="linear")
        return between_DXC.mT.reshape(-1, len(task), *weight_DChw.shape[2:])
    if mode == "timm":
        return adapt_input_conv(len(task), weight_DChw)
    raise ValueError(f"unknown protocol.band_expansion={mode} (known: nearest, mean, released, linear, timm)")
