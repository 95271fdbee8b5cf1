"""Areas and scores, against MMSegmentation, loops over pixels, and cases done by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.tasks import IGNORE
from harness.metrics import areas, by_scene, confusion, iou, mean_accuracy, mean_iou, scores

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mmseg.evaluation import IoUMetric

Maps = npt.NDArray[np.int64]
NAN = math.nan


def maps(seed: int, classes: int, absent: Sequence[int] = (), count: int = 3) -> tuple[Maps, Maps]:
    """Predictions and labels [count, 20, 24] with ignored pixels; some classes are in neither."""
    rng = np.random.default_rng(seed)
    kinds = [k for k in range(classes) if k not in absent]
    label = rng.choice(kinds, (count, 20, 24))
    prediction = np.where(rng.random(label.shape) < 0.5, label, rng.choice(kinds, label.shape))
    label[rng.random(label.shape) < 0.15] = IGNORE
    return prediction.astype(np.int64), label.astype(np.int64)


def pooled(predictions: Maps, labels: Maps, classes: int) -> npt.NDArray[np.int64]:
    return np.sum([areas(confusion(p, y, classes)) for p, y in zip(predictions, labels, strict=True)], axis=0)


def by_pixel(prediction: Maps, label: Maps, classes: int) -> npt.NDArray[np.int64]:
    """Areas [K, 3], one pixel at a time."""
    counted = np.zeros((classes, 3), dtype=np.int64)
    for p, y in zip(prediction.ravel(), label.ravel(), strict=True):
        if y != IGNORE:
            counted[p, 1] += 1
            counted[y, 2] += 1
            counted[y, 0] += int(p == y)
    return counted


CASES = [(2, ()), (7, ()), (7, (0, 4)), (24, (3,))]


@pytest.mark.parametrize(("classes", "absent"), CASES)
def test_areas_equal_a_loop_over_pixels(classes: int, absent: Sequence[int]) -> None:
    prediction, label = maps(0, classes, absent)
    assert np.array_equal(pooled(prediction, label, classes), by_pixel(prediction, label, classes))
    matrix = confusion(prediction[0], label[0], classes)
    assert matrix.dtype == np.int64
    assert matrix[1, 0] == ((label[0] == 1) & (prediction[0] == 0)).sum(), "rows are labels"
    assert matrix.sum() == (label[0] != IGNORE).sum()


@pytest.mark.parametrize(("classes", "absent"), CASES)
@pytest.mark.parametrize("predicted_only", [False, True])
def test_scores_equal_mmsegmentations(classes: int, absent: Sequence[int], predicted_only: bool) -> None:
    prediction, label = maps(1, classes, absent)
    if predicted_only:  # a class that is predicted where it is nowhere labelled
        label[label == 1] = IGNORE
    found = [
        IoUMetric.intersect_and_union(torch.from_numpy(p), torch.from_numpy(y), classes, IGNORE)
        for p, y in zip(prediction, label, strict=True)
    ]
    sums = [sum(parts) for parts in zip(*found, strict=True)]
    theirs = IoUMetric.total_area_to_metrics(*sums, ["mIoU"])
    ours = scores(pooled(prediction, label, classes))
    np.testing.assert_allclose(ours.iou, 100 * np.asarray(theirs["IoU"]), rtol=1e-6)
    np.testing.assert_allclose(ours.acc, 100 * np.asarray(theirs["Acc"]), rtol=1e-6)
    assert ours.aacc == pytest.approx(100 * float(theirs["aAcc"]), rel=1e-6)
    assert ours.miou == pytest.approx(100 * np.nanmean(theirs["IoU"]), rel=1e-6)
    assert ours.macc == pytest.approx(100 * np.nanmean(theirs["Acc"]), rel=1e-6)
    undefined = {k for k in range(classes) if math.isnan(ours.iou[k])}
    assert undefined == set(absent)
    assert math.isnan(ours.acc[1]) == predicted_only
    assert (ours.iou[1] == 0) == predicted_only


def test_scores_by_hand() -> None:
    label = np.array([[0, 0, 0, 0], [1, 1, IGNORE, IGNORE]])
    prediction = np.array([[0, 0, 1, 2], [1, 0, 0, 2]])
    counted = areas(confusion(prediction, label, 4))
    assert counted.tolist() == [[2, 3, 4], [1, 2, 2], [0, 1, 0], [0, 0, 0]]
    result = scores(counted)
    assert result.iou[:3] == pytest.approx((100 * 2 / 5, 100 / 3, 0))
    assert math.isnan(result.iou[3])
    assert result.acc[:2] == pytest.approx((50, 50))
    assert math.isnan(result.acc[2])
    assert result.miou == pytest.approx((40 + 100 / 3 + 0) / 3)
    assert result.miou_present == pytest.approx((40 + 100 / 3) / 2)
    assert result.macc == pytest.approx(50)
    assert result.aacc == pytest.approx(50)


def test_nothing_labelled_is_undefined_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = scores(areas(confusion(np.zeros((2, 2), np.int64), np.full((2, 2), IGNORE), 3)))
    values = (result.miou, result.macc, result.aacc, result.miou_present, *result.iou, *result.acc)
    assert all(map(math.isnan, values))


def test_large_areas_are_summed_exactly() -> None:
    tiles = np.array([[[2**24 + 1, 2**24 + 1, 2**24 + 3]]] * 3)
    _, summed = by_scene(tiles, ["a"] * 3)
    assert summed.tolist() == [[[3 * 2**24 + 3, 3 * 2**24 + 3, 3 * 2**24 + 9]]], "float32 would lose pixels"
    assert scores(summed[0]).miou < 100


def test_iou_takes_any_leading_shape() -> None:
    rng = np.random.default_rng(0)
    inside = rng.integers(1, 50, (2, 5, 3))
    stack = np.stack([inside, inside + 7, inside + rng.integers(0, 9, inside.shape)], axis=-1)
    np.testing.assert_array_equal(iou(stack)[1, 4], iou(stack[1, 4]))
    np.testing.assert_allclose(iou(stack), 100 * inside / (stack[..., 1] + stack[..., 2] - inside))
    assert mean_iou(stack)[1, 4] == scores(stack[1, 4]).miou
    assert mean_accuracy(stack)[1, 4] == scores(stack[1, 4]).macc


def test_areas_by_scene() -> None:
    tiles = np.arange(4 * 2 * 3).reshape(4, 2, 3)
    names, summed = by_scene(tiles, ["b", "a", "b", "c"])
    assert names == ["a", "b", "c"]
    assert np.array_equal(summed, [tiles[1], tiles[0] + tiles[2], tiles[3]])
