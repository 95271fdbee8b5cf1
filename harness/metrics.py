"""From areas per tile to IoU, intervals and significance. NumPy only, so that tables need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Areas = npt.NDArray[np.int64]
"""[..., K, 3]: intersection, predicted and labelled pixels of each class."""

REPLICATES = 1000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Scores:
    """In percent, as MMSegmentation defines them.

    A class absent from prediction and label is left out of mIoU; one predicted but not labelled counts 0 there and is
    left out of mAcc and `miou_present`. Undefined values are NaN.
    """

    miou: float
    macc: float
    aacc: float
    miou_present: float
    iou: tuple[float, ...]
    acc: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with a bootstrap interval over scenes (and seeds, where there are several), in percent points."""

    mean: float
    low: float
    high: float


def confusion(prediction_HW: npt.NDArray[np.int64], label_HW: npt.NDArray[np.int64], classes: int) -> Areas:
    """Confusion matrix [K labelled, K predicted] of the pixels whose label is a class."""
    valid = label_HW < classes
    joint = label_HW[valid] * classes + prediction_HW[valid]
    return np.bincount(joint, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def areas(confusion_KK: Areas) -> Areas:
    """Areas [K, 3] of a confusion matrix."""
    return np.stack([confusion_KK.diagonal(), confusion_KK.sum(0), confusion_KK.sum(1)], axis=-1)


def iou(areas_K3: npt.NDArray[np.float64] | Areas) -> npt.NDArray[np.float64]:
    """IoU [..., K] in percent; NaN where a class is neither predicted nor labelled."""
    intersection, predicted, labelled = np.moveaxis(areas_K3, -1, 0)
    return _ratio(intersection, predicted + labelled - intersection)


def scores(areas_K3: Areas) -> Scores:
    """All scores of pooled areas [K, 3]."""
    intersection, _, labelled = np.moveaxis(areas_K3, -1, 0)
    per_class, accuracy = iou(areas_K3), _ratio(intersection, labelled)
    return Scores(
        miou=_mean(per_class),
        macc=_mean(accuracy),
        aacc=float(_ratio(intersection.sum(), labelled.sum())),
        miou_present=_mean(per_class[labelled > 0]),
        iou=tuple(per_class.tolist()),
        acc=tuple(accuracy.tolist()),
    )


def by_scene(tile_areas: Areas, scenes: Sequence[str]) -> tuple[list[str], Areas]:
    """Areas per scene [scenes, K, 3] from areas per tile, with the scenes' names in sorted order."""
    names = sorted(set(scenes))
    rows = {name: i for i, name in enumerate(names)}
    summed = np.zeros((len(names), *tile_areas.shape[1:]), dtype=np.int64)
    np.add.at(summed, [rows[scene] for scene in scenes], tile_areas)
    return names, summed


class Bootstrap:
    """Resamples scenes within their domain, and seeds, with replacement; the same draws serve every method (paired).

    Args:
        domains: the domain of each scene, in the order of the areas given to `replicates`.
        seeds: number of seeds.
    """

    def __init__(self, domains: Sequence[str], seeds: int) -> None:
        """Draw all resamples once, from a fixed stream."""
        generator = np.random.default_rng(0)
        counts = np.zeros((REPLICATES, len(domains)))
        for domain in sorted(set(domains)):
            members = np.flatnonzero([d == domain for d in domains])
            counts[:, members] = generator.multinomial(len(members), [1 / len(members)] * len(members), REPLICATES)
        self.scene_counts = counts
        self.seed_counts = generator.multinomial(seeds, [1 / seeds] * seeds, REPLICATES) / seeds

    def replicates(self, areas_SNK3: Areas) -> npt.NDArray[np.float64]:
        """Mean over seeds of the pooled mIoU, for every resample [R]; areas are [seeds, scenes, K, 3]."""
        pooled = np.einsum("rn,snka->rska", self.scene_counts, areas_SNK3.astype(np.float64))
        miou_RS = _mean_last(iou(pooled))
        return np.asarray((miou_RS * self.seed_counts).sum(-1))


def interval(mean: float, replicates: npt.NDArray[np.float64]) -> Interval:
    """Percentile interval at the 95 % level; undefined where no replicate is defined."""
    if np.isnan(replicates).all():
        return Interval(mean=mean, low=np.nan, high=np.nan)
    low, high = np.nanquantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean=mean, low=float(low), high=float(high))


def _ratio(top: npt.ArrayLike, bottom: npt.ArrayLike) -> npt.NDArray[np.float64]:
    over = np.asarray(bottom, dtype=np.float64)
    return 100.0 * np.divide(np.asarray(top, dtype=np.float64), over, out=np.full_like(over, np.nan), where=over > 0)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(_mean_last(values))


def _mean_last(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the last axis without NaN entries; NaN where there is none (nanmean would warn)."""
    defined = ~np.isnan(values)
    count = defined.sum(-1)
    total = np.where(defined, values, 0.0).sum(-1)
    return np.asarray(np.divide(total, count, out=np.full_like(total, np.nan, dtype=np.float64), where=count > 0))
