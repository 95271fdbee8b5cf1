"""From areas per tile to IoU and accuracy. NumPy only, so that tables need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Areas = npt.NDArray[np.int64]
"""[..., K, 3]: intersection, predicted and labelled pixels of each class."""


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


def accuracy(areas_K3: npt.NDArray[np.float64] | Areas) -> npt.NDArray[np.float64]:
    """Accuracy (recall) [..., K] in percent; NaN where a class is not labelled."""
    return _ratio(areas_K3[..., 0], areas_K3[..., 2])


def mean_iou(areas_K3: npt.NDArray[np.float64] | Areas) -> npt.NDArray[np.float64]:
    """MMSegmentation's mIoU [...] in percent, over the classes that are predicted or labelled."""
    return _mean_last(iou(areas_K3))


def mean_accuracy(areas_K3: npt.NDArray[np.float64] | Areas) -> npt.NDArray[np.float64]:
    """MMSegmentation's mAcc [...] in percent, over the classes that are labelled."""
    return _mean_last(accuracy(areas_K3))


def scores(areas_K3: Areas) -> Scores:
    """All scores of pooled areas [K, 3]."""
    intersection, _, labelled = np.moveaxis(areas_K3, -1, 0)
    per_class = iou(areas_K3)
    return Scores(
        miou=_mean(per_class),
        macc=float(mean_accuracy(areas_K3)),
        aacc=float(_ratio(intersection.sum(), labelled.sum())),
        miou_present=_mean(per_class[labelled > 0]),
        iou=tuple(per_class.tolist()),
        acc=tuple(accuracy(areas_K3).tolist()),
    )


def by_scene(tile_areas: Areas, scenes: Sequence[str]) -> tuple[list[str], Areas]:
    """Areas per scene [scenes, K, 3] from areas per tile, with the scenes' names in sorted order."""
    names = sorted(set(scenes))
    rows = {name: i for i, name in enumerate(names)}
    summed = np.zeros((len(names), *tile_areas.shape[1:]), dtype=np.int64)
    np.add.at(summed, [rows[scene] for scene in scenes], tile_areas)
    return names, summed


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
