"""Areas, scores and the bootstrap, against MMSegmentation, loops over pixels, and cases done by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.tasks import IGNORE
from harness.metrics import REPLICATES, Bootstrap, areas, by_scene, confusion, interval, iou, scores

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


def test_areas_by_scene() -> None:
    tiles = np.arange(4 * 2 * 3).reshape(4, 2, 3)
    names, summed = by_scene(tiles, ["b", "a", "b", "c"])
    assert names == ["a", "b", "c"]
    assert np.array_equal(summed, [tiles[1], tiles[0] + tiles[2], tiles[3]])


# --- Bootstrap


def binomial(rng: np.random.Generator, scenes: int, chance: float, seeds: int = 1) -> npt.NDArray[np.int64]:
    """Areas [seeds, scenes, 1, 3] whose IoU is the share of successes among 20 pixels a scene."""
    hits = rng.binomial(20, chance, (seeds, scenes))
    return np.stack([hits, hits, np.full_like(hits, 20)], axis=-1)[:, :, None]


def test_identical_scenes_and_seeds_have_an_interval_of_no_width() -> None:
    one = np.array([[10, 15, 20], [3, 9, 4]])
    repeated = np.broadcast_to(one, (3, 8, 2, 3))
    mean = scores(one).miou
    spread = interval(mean, Bootstrap(["a"] * 5 + ["b"] * 3, 3).replicates(repeated))
    assert (spread.low, spread.high) == pytest.approx((mean, mean), rel=1e-12)
    assert spread.mean == mean


def test_identical_methods_differ_by_exactly_0_and_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    first = binomial(rng, 12, 0.5, seeds=2)
    domains = ["a"] * 7 + ["b"] * 5
    a, b = (Bootstrap(domains, 2).replicates(first.copy()) for _ in range(2))
    assert not (a - b).any()
    assert a.std() > 0
    # one more hit in every scene: the gain is sure although the scores are not
    better = first + np.array([1, 1, 0])
    gain = interval(5.0, Bootstrap(domains, 2).replicates(better) - a)
    assert (gain.low, gain.high) == pytest.approx((5, 5))


def test_resamples_pool_areas_and_average_over_seeds() -> None:
    rng = np.random.default_rng(1)
    stack = np.stack([binomial(rng, 6, 0.5, 3)[:, :, 0], binomial(rng, 6, 0.2, 3)[:, :, 0]], axis=2)
    bootstrap = Bootstrap(["a"] * 4 + ["b"] * 2, 3)
    assert np.array_equal(bootstrap.scene_counts[:, :4].sum(1), np.full(REPLICATES, 4)), "within the domain"
    assert np.array_equal(bootstrap.scene_counts[:, 4:].sum(1), np.full(REPLICATES, 2))
    replicates = bootstrap.replicates(stack)
    for r in (0, 17, REPLICATES - 1):
        counts = bootstrap.scene_counts[r].astype(int)
        drawn = [scores(np.repeat(stack[s], counts, axis=0).sum(0)).miou for s in range(3)]
        assert replicates[r] == pytest.approx(float(np.dot(drawn, bootstrap.seed_counts[r])))
    assert np.mean(replicates) == pytest.approx(np.mean([scores(s.sum(0)).miou for s in stack]), abs=0.5)


def test_draws_are_fixed_and_follow_the_domains() -> None:
    first, second = Bootstrap(["a", "b", "a"], 2), Bootstrap(["a", "b", "a"], 2)
    assert np.array_equal(first.scene_counts, second.scene_counts)
    assert np.array_equal(first.seed_counts, second.seed_counts)
    assert np.array_equal(first.scene_counts[:, 1], np.ones(REPLICATES)), "the only scene of its domain"
    assert set(first.scene_counts[:, 0]) == {0, 1, 2}


def test_more_scenes_or_seeds_narrow_the_interval() -> None:
    rng = np.random.default_rng(2)

    def width(scenes: int, seeds: int) -> float:
        stack = binomial(rng, scenes, 0.5, seeds)
        spread = interval(50, Bootstrap(["a"] * scenes, seeds).replicates(stack))
        return spread.high - spread.low

    # 20 pixels of chance 0.5 in each of n scenes: a 95 % interval is 2 x 1.96 x sqrt(0.25 / 20 n) wide
    assert width(100, 1) == pytest.approx(2 * 196 * math.sqrt(0.25 / 2000), rel=0.25)
    assert width(400, 1) == pytest.approx(2 * 196 * math.sqrt(0.25 / 8000), rel=0.25)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    bootstrap = Bootstrap(["a"] * 30, 1)
    covered = 0
    for _ in range(300):
        spread = interval(NAN, bootstrap.replicates(binomial(rng, 30, 0.4)))
        covered += spread.low <= 40 <= spread.high
    assert 0.89 < covered / 300 < 0.98


def test_a_class_that_a_resample_loses_is_left_out_there() -> None:
    # class 1 is in the first scene alone: resamples without it have the IoU of class 0 only
    stack = np.array([[[50, 100, 50], [10, 10, 10]], [[50, 100, 50], [0, 0, 0]], [[50, 100, 50], [0, 0, 0]]])[None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bootstrap = Bootstrap(["a"] * 3, 1)
        replicates = bootstrap.replicates(stack)
    lost = bootstrap.scene_counts[:, 0] == 0
    assert 0.2 < lost.mean() < 0.4
    assert replicates[lost] == pytest.approx(50)
    assert replicates[~lost] == pytest.approx(75)


def test_undefined_replicates_are_left_out_of_the_interval() -> None:
    spread = interval(NAN, np.array([NAN, 1.0, 2.0, 3.0, NAN]))
    assert 1 <= spread.low <= spread.high <= 3


def test_an_interval_of_undefined_replicates_is_undefined_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = Bootstrap(["a", "a"], 1).replicates(np.zeros((1, 2, 3, 3), np.int64))
        assert np.isnan(nothing).all()
        spread = interval(NAN, nothing)
    assert math.isnan(spread.low)
    assert math.isnan(spread.high)
