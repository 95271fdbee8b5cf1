"""Panels for the report: a few target tiles, what a trial makes of them, and what its method used where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.tasks import IGNORE, Reader, Task, TileRef
from harness.bands import nearest_bands
from harness.pipeline import Statistics, evaluation_batches
from harness.records import Arrays
from harness.segmentor import Segmentor
from harness.split import Split, spread
from harness.stretch import stretch
from harness.zoo import RGB

PANELS = 6
"""Tiles shown, shared out evenly among the target domains; at least one for each."""

_CANDIDATES = 4  # of so many tiles for each one shown, those with the most classes are shown


@dataclass(frozen=True, kw_only=True)
class Panels:
    """What the report shows of a trial.

    Args:
        tiles: domain, scene and name of each tile shown.
        arrays: of tile i `i/image` [H, W, 3] uint8, stretched for the eye, `i/truth` and `i/prediction` [H, W] class
            indices, and for everything the method lets be seen (`Method.observe`) `i/most/NAME` [h, w], the thing
            that each patch uses most; `share/NAME` [E], the mean share of each thing over all tiles looked at.
    """

    tiles: list[dict[str, str]]
    arrays: Arrays


@torch.no_grad()
def make_panels(
    model: Segmentor, reader: Reader, split: Split, statistics: Statistics, task: Task, classes: Sequence[str]
) -> Panels:
    """Predict some target tiles with the model as it is. Which ones depends on the data alone, not on the method."""
    shown, looked_at = choose_tiles(reader, split.targets)
    device, rgb = next(model.parameters()).device, nearest_bands(RGB, task.bands)
    arrays: dict[str, npt.NDArray[np.uint8] | npt.NDArray[np.float32]] = {}
    shares: dict[str, list[Tensor]] = {}
    model.eval()
    for batch in evaluation_batches(reader, looked_at, classes, statistics, 1):
        with _watched(model) as observed:
            prediction_HW = model.predict(batch.image.to(device))[0].cpu().numpy().astype(np.uint8)
        for name, share_BNE in observed.items():
            shares.setdefault(name, []).append(share_BNE.float().mean((0, 1)))
        if batch.tiles[0] not in shown:
            continue
        i, sample = shown.index(batch.tiles[0]), reader.read(batch.tiles[0])
        arrays[f"{i}/image"] = stretch(sample.image[..., rgb])
        arrays[f"{i}/truth"] = sample.label
        arrays[f"{i}/prediction"] = prediction_HW
        for name, share_BNE in observed.items():
            most_N = share_BNE[0].argmax(-1).to(torch.uint8)
            arrays[f"{i}/most/{name}"] = most_N.unflatten(0, model.method.grid).cpu().numpy()
    for name, means in shares.items():
        arrays[f"share/{name}"] = torch.stack(means).mean(0).cpu().numpy()
    return Panels(tiles=[asdict(tile) for tile in shown], arrays=arrays)


def choose_tiles(reader: Reader, targets: Mapping[str, Sequence[TileRef]]) -> tuple[list[TileRef], list[TileRef]]:
    """The tiles to show, and all that are looked at: spread over each target domain, shown where classes are many."""
    each = max(1, PANELS // len(targets))
    shown: list[TileRef] = []
    looked_at: list[TileRef] = []
    for tiles in targets.values():
        candidates = spread(tiles, _CANDIDATES * each)
        richest = sorted(candidates, key=lambda tile: -_classes(reader, tile))[:each]
        shown += [tile for tile in candidates if tile in richest]
        looked_at += candidates
    return shown, looked_at


def _classes(reader: Reader, tile: TileRef) -> int:
    found = np.unique(reader.read(tile).label)
    return int((found != IGNORE).sum())


@contextmanager
def _watched(model: Segmentor) -> Iterator[dict[str, Tensor]]:
    observed: dict[str, Tensor] = {}
    model.method.observed = observed
    try:
        yield observed
    finally:
        model.method.observed = None
