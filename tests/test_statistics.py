"""Intervals, differences and resampling: against closed forms, published examples, and simulations of known truth."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from harness.metrics import iou, mean_accuracy, mean_iou, scores
from harness.resampling import REPLICATES, Bootstrap, reflected
from harness.statistics import (
    MIN_SCENES,
    MIN_SEEDS,
    Difference,
    all_pairs,
    class_scenes,
    compare_pairs,
    corrected,
    differences,
    estimates,
    holm,
    mean_difference,
    mean_estimate,
)
from tests.simulated import Population, hits, row

NAN = math.nan
Areas = npt.NDArray[np.int64]


# --- Closed forms


def test_one_seed_and_one_class_give_students_interval() -> None:
    shares = np.random.default_rng(0).uniform(0.2, 0.8, 9)
    found = 100 * hits([shares])[0, :, 0, 0] / 10_000
    (estimate,) = estimates(hits([shares]), ["a"] * 9)
    expected = stats.ttest_1samp(found, 0).confidence_interval(0.95)
    assert estimate.mean == pytest.approx(found.mean())
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_paired_scenes_give_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.uniform(0.2, 0.8, (2, 14))
    other = (one + 0.03 + 0.05 * (other - 0.5)).round(4)
    one = one.round(4)
    (found,) = differences(row(hits([other]), ["a"] * 14), row(hits([one]), ["a"] * 14))
    expected = stats.ttest_rel(100 * other, 100 * one)
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert found.p > 1e-12, "a p-value that could not tell"


def test_seeds_that_differ_alike_on_all_scenes_give_students_interval_over_seeds() -> None:
    skill = np.array([0.40, 0.47, 0.42])
    (estimate,) = estimates(hits(np.repeat(skill[:, None], 12, axis=1)), ["a"] * 12)
    expected = stats.ttest_1samp(100 * skill, 0).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_scenes_and_seeds_each_count_with_their_own_freedom() -> None:
    skill, scene = np.array([-0.02, 0.0, 0.02]), np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    (estimate,) = estimates(hits(0.5 + skill[:, None] + scene[None]), ["a"] * 5)
    by_scenes = stats.t.ppf(0.975, 4) * 100 * scene.std(ddof=1) / math.sqrt(5)
    by_seeds = stats.t.ppf(0.975, 2) * 100 * skill.std(ddof=1) / math.sqrt(3)
    assert estimate.high - estimate.mean == pytest.approx(math.hypot(by_scenes, by_seeds), rel=1e-9)


def test_what_seeds_differ_by_on_single_scenes_is_counted_once() -> None:
    shares = np.random.default_rng(17).uniform(0.2, 0.8, (3, 8)).round(4) + np.array([[-0.15], [0.0], [0.15]])
    (estimate,) = estimates(hits(shares), ["a"] * 8)
    x = 100 * shares
    residual = x - x.mean(0) - x.mean(1, keepdims=True) + x.mean()
    by_scenes = x.mean(0).var(ddof=1) / 8
    by_seeds = x.mean(1).var(ddof=1) / 3 - (residual**2).sum() / (7 * 2) / (8 * 3)
    square = stats.t.ppf(0.975, 7) ** 2 * by_scenes + stats.t.ppf(0.975, 2) ** 2 * by_seeds
    assert estimate.high - estimate.mean == pytest.approx(math.sqrt(square), rel=1e-9)


def test_scenes_vary_within_their_domain_alone_and_freedom_is_satterthwaites() -> None:
    a, b = np.array([0.1, 0.2, 0.3, 0.2]), np.array([0.7, 0.9, 0.8])
    (estimate,) = estimates(hits([[*a, *b]]), ["a"] * 4 + ["b"] * 3)
    va, vb = (100 * 4 / 7) ** 2 * a.var(ddof=1) / 4, (100 * 3 / 7) ** 2 * b.var(ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    assert estimate.high - estimate.mean == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(va + vb), rel=1e-9)


def test_a_ratio_of_areas_has_the_linearised_variance() -> None:
    rng = np.random.default_rng(2)
    size = rng.integers(500, 5000, 300)
    hit = (size * rng.beta(6, 4, 300)).astype(np.int64)
    (estimate,) = estimates(np.stack([hit, hit, size], axis=-1)[None, :, None], ["a"] * 300)
    ratio = hit.sum() / size.sum()
    error = math.sqrt(((hit - ratio * size) ** 2).sum() * 300 / 299) / size.sum()
    assert estimate.high - estimate.mean == pytest.approx(100 * stats.t.ppf(0.975, 299) * error, rel=0.01)


def test_scores_of_a_list_are_estimated_each_alone() -> None:
    world = Population()
    rng = np.random.default_rng(3)
    domains = world.domains(12)
    areas = world.method(rng, world.scenes(rng, domains), 2)
    whole = estimates(areas, domains, iou)
    assert len(whole) == 7
    (alone,) = estimates(areas, domains, lambda pooled: iou(pooled)[..., 4])
    assert whole[4] == alone
    assert [e.mean for e in whole] == pytest.approx(np.mean([scores(s.sum(0)).iou for s in areas], axis=0))
    (macc,) = estimates(areas, domains, mean_accuracy)
    assert macc.mean == pytest.approx(np.mean([scores(s.sum(0)).macc for s in areas]))


# --- Averages


def test_an_average_over_tasks_has_the_variance_of_their_sum() -> None:
    rng = np.random.default_rng(18)
    one, two = rng.uniform(0.2, 0.8, 7).round(4), rng.uniform(0.1, 0.9, 12).round(4)
    rows = [row(hits([one]), ["a"] * 7), row(hits([two]), ["a"] * 12, task="flair_cr")]
    found = mean_estimate(rows)
    assert found
    parts = np.array([(100 / 2) ** 2 * x.var(ddof=1) / len(x) for x in (one, two)])
    freedom = parts.sum() ** 2 / (parts**2 / np.array([6, 11])).sum()
    assert found.mean == pytest.approx(50 * (one.mean() + two.mean()))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(parts.sum()), rel=1e-9)


def test_what_seeds_share_over_tasks_stays_in_their_average() -> None:
    skill = np.array([[-0.03, 0.0, 0.03], [-0.02, 0.05, -0.03]])  # of three seeds on either task
    scene = np.array([-0.2, -0.1, 0.0, 0.1, 0.2])
    rows = [
        row(hits(0.5 + own[:, None] + scene[None]), ["a"] * 5, task=task)
        for own, task in zip(skill, ("fbp_cs", "flair_cr"), strict=True)
    ]
    found = mean_estimate(rows)
    assert found
    by_scenes = stats.t.ppf(0.975, 8) * 100 * math.sqrt(2 * scene.var(ddof=1) / 5) / 2
    by_seeds = stats.t.ppf(0.975, 2) * 100 * skill.mean(0).std(ddof=1) / math.sqrt(3)
    assert found.high - found.mean == pytest.approx(math.hypot(by_scenes, by_seeds), rel=1e-9)


def test_rows_of_one_task_meet_the_same_scenes_and_average_no_luck_away() -> None:
    world = Population(seed_spread=0.1)
    rng = np.random.default_rng(19)
    domains = world.domains(12)
    mine = row(world.method(rng, world.scenes(rng, domains), 3), domains)
    for statistic in (mean_iou, mean_accuracy):
        (alone,) = estimates(mine.areas, domains, statistic)
        assert mean_estimate([mine], statistic) == alone
        twice = mean_estimate([mine, row(mine.areas, domains, title="lora")], statistic)
        assert twice
        assert (twice.mean, twice.low, twice.high) == pytest.approx((alone.mean, alone.low, alone.high))
    other = mean_estimate([mine, row(mine.areas, domains, task="flair_cr")])
    (alone,) = estimates(mine.areas, domains)
    assert other
    assert other.high - other.low < 0.95 * (alone.high - alone.low), "as if it were of scenes of its own"


def test_an_average_is_over_the_seeds_that_all_rows_have() -> None:
    shares = np.random.default_rng(20).uniform(0.2, 0.8, (3, 6)).round(2)
    whole = row(hits(shares), ["a"] * 6, seeds=(0, 1, 2))
    part = row(hits(shares[1:]), ["a"] * 6, seeds=(1, 2), task="flair_cr")
    found = mean_estimate([whole, part])
    assert found
    assert found.mean == pytest.approx(100 * shares[1:].mean())
    assert mean_estimate([whole, row(hits(shares[:1]), ["a"] * 6, seeds=(5,), task="flair_cr")]) is None


def test_an_average_of_differences_is_paired_within_each_task() -> None:
    shares = np.random.default_rng(21).uniform(0.2, 0.8, (2, 3, 9)).round(2)
    base = [row(hits(own), ["a"] * 9, task=task) for own, task in zip(shares, ("fbp_cs", "flair_cr"), strict=True)]
    better = [
        row(hits(own + gain), ["a"] * 9, title="lora", task=each.task)
        for own, gain, each in zip(shares, (0.05, 0.11), base, strict=True)
    ]
    found = mean_difference(list(zip(better, base, strict=True)))
    assert found
    assert (found.mean, found.low, found.high) == pytest.approx((8, 8, 8))
    assert (found.seeds, found.scenes) == (3, 18)
    (alone,) = differences(better[0], base[0])
    assert mean_difference([(better[0], base[0])]) == alone
    with pytest.raises(ValueError, match="different scenes"):
        mean_difference([(better[0], row(hits(shares[0, :, :4]), ["a"] * 4))])


# --- Edges


def test_identical_methods_differ_by_exactly_0() -> None:
    areas = hits(np.random.default_rng(4).uniform(0.2, 0.8, (3, 12)))
    (found,) = differences(row(areas, ["a"] * 12), row(areas.copy(), ["a"] * 12))
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_gain_that_is_the_same_everywhere_is_sure() -> None:
    shares = np.random.default_rng(5).uniform(0.2, 0.8, (3, 12)).round(2)
    (found,) = differences(row(hits(shares + 0.05), ["a"] * 12), row(hits(shares), ["a"] * 12))
    assert (found.mean, found.low, found.high) == pytest.approx((5, 5, 5))
    assert found.p < 1e-9


def test_intervals_of_scores_end_where_scores_do() -> None:
    (estimate,) = estimates(hits([[0.0, 0.01, 0.3, 0.99]]), ["a"] * 4)
    assert estimate.low == 0
    (estimate,) = estimates(hits([[1.0, 0.99, 0.7, 0.01]]), ["a"] * 4)
    assert estimate.high == 100


def test_a_single_scene_of_a_domain_stays_as_it_is_and_alone_gives_no_interval() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (lonely,) = estimates(hits([[0.3, 0.5]]), ["a", "b"])
        assert lonely.mean == pytest.approx(40)
        assert math.isnan(lonely.low)
        assert math.isnan(lonely.p)
        (both,) = estimates(hits([[0.3, 0.50, 0.52]]), ["a", "b", "b"])
        assert both.high - both.mean == pytest.approx(stats.t.ppf(0.975, 1) * 100 * (2 / 3) * 0.01, rel=1e-9)


def test_what_is_undefined_has_no_interval_and_warns_of_nothing() -> None:
    areas = np.zeros((2, 4, 2, 3), np.int64)
    areas[:, :, 0] = [5, 8, 10]
    areas[:, 0, 1] = [5, 8, 10]  # class 1 is in one scene: without that one it is undefined
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = estimates(areas, ["a"] * 4, iou)
    assert not math.isnan(first.low)
    assert not math.isnan(second.mean)
    assert math.isnan(second.low)
    assert class_scenes(areas) == [4, 1]


def test_rows_are_paired_over_common_seeds_alone() -> None:
    shares = np.random.default_rng(6).uniform(0.2, 0.8, (4, 12))
    mine = row(hits(shares[[0, 1, 2]]), ["a"] * 12, seeds=(0, 1, 2))
    theirs = row(hits(shares[[1, 2, 3]]), ["a"] * 12, seeds=(1, 2, 3))
    (found,) = differences(mine, theirs)
    assert found.mean == 0, "seeds 1 and 2 are the same on both sides"
    assert found.seeds == 2
    apart = row(hits(shares[[3]]), ["a"] * 12, seeds=(5,))
    assert differences(mine, apart) == []
    assert compare_pairs([(mine, apart), None]) == [None, None]


def test_rows_of_other_scenes_are_not_compared() -> None:
    shares = np.random.default_rng(7).uniform(0.2, 0.8, (1, 6))
    with pytest.raises(ValueError, match="different scenes"):
        differences(row(hits(shares), ["a"] * 6), row(hits(shares), ["a"] * 3 + ["b"] * 3))


def test_one_domain_alone_is_compared_by_its_scenes() -> None:
    shares = np.random.default_rng(8).uniform(0.2, 0.8, (2, 2, 9)).round(4)
    domains = ["a"] * 4 + ["b"] * 5
    (found,) = differences(row(hits(shares[0]), domains), row(hits(shares[1]), domains), domain="b")
    (expected,) = differences(
        row(hits(shares[0, :, 4:]), ["b"] * 5, title="lora"), row(hits(shares[1, :, 4:]), ["b"] * 5)
    )
    assert found == expected
    assert found.scenes == 5


# --- Many comparisons


def test_holms_correction_of_an_example_done_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, NAN, 0.04]) == pytest.approx([0.02, NAN, 0.04], nan_ok=True)
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def difference(p: float, seeds: int = MIN_SEEDS, scenes: int = MIN_SCENES) -> Difference:
    return Difference(mean=1.0, low=0.0, high=2.0, p=p, seeds=seeds, scenes=scenes)


def test_only_what_may_be_marked_is_corrected_for_and_marked() -> None:
    family = [
        difference(0.02),
        None,
        difference(0.001, seeds=MIN_SEEDS - 1),
        difference(0.001, scenes=MIN_SCENES - 1),
        difference(0.03),
        difference(0.2),
    ]
    found = corrected(family)
    assert found[1] is None
    assert [each.p_holm for each in found if each] == pytest.approx([0.06, NAN, NAN, 0.06, 0.2], nan_ok=True)
    assert not any(each.significant for each in found if each)
    alone = corrected([difference(0.02)])[0]
    assert alone
    assert alone.significant


def test_all_pairs_are_one_family() -> None:
    world = Population()
    rng = np.random.default_rng(9)
    domains = world.domains(30)
    met = world.scenes(rng, domains)
    rows = [row(world.method(rng, met, 3, gain), domains) for gain in (0.0, 0.0, 0.6)]
    found = all_pairs(rows)
    assert list(found) == [(0, 1), (0, 2), (1, 2)]
    family = [each for each in found.values() if each]
    assert [each.significant for each in family] == [False, True, True]
    assert family[1].mean < 0, "first minus second"
    assert [each.p_holm for each in family] == pytest.approx(holm([each.p for each in family]))


# --- Bootstrap


def test_replicates_of_a_mean_vary_as_a_mean_does() -> None:
    shares = np.random.default_rng(10).uniform(0.2, 0.8, 6)
    spread = Bootstrap(["a"] * 6, 1).replicates(hits([shares])).std()
    assert spread == pytest.approx(100 * shares.std(ddof=1) / math.sqrt(6), rel=0.05), "not (n - 1) / n of it"
    seeds = np.array([0.3, 0.4, 0.6])
    spread = Bootstrap(["a"], 3).replicates(hits(seeds[:, None])).std()
    assert spread == pytest.approx(100 * seeds.std(ddof=1) / math.sqrt(3), rel=0.05)


def test_resamples_pool_areas_and_average_over_seeds() -> None:
    world = Population(seed_spread=0.1)
    rng = np.random.default_rng(11)
    domains = ["a"] * 4 + ["b"] * 2
    areas = world.method(rng, world.scenes(rng, domains), 3)
    bootstrap = Bootstrap(domains, 3)
    np.testing.assert_allclose(bootstrap.scene_counts[:, :4].sum(1), 4)
    np.testing.assert_allclose(bootstrap.scene_counts[:, 4:].sum(1), 2)
    np.testing.assert_allclose(bootstrap.seed_weights.sum(1), 1)
    replicates, accuracy = bootstrap.replicates(areas), bootstrap.replicates(areas, mean_accuracy)
    for r in (0, 17, REPLICATES - 1):
        pooled = [np.einsum("n,nka->ka", bootstrap.scene_counts[r], areas[s]) for s in range(3)]
        for found, statistic in ((replicates, mean_iou), (accuracy, mean_accuracy)):
            drawn = [float(statistic(each)) for each in pooled]
            assert found[r] == pytest.approx(float(np.dot(drawn, bootstrap.seed_weights[r])))


def test_draws_are_fixed_but_for_their_stream() -> None:
    first, second = Bootstrap(["a", "b", "a"], 2), Bootstrap(["a", "b", "a"], 2)
    assert np.array_equal(first.scene_counts, second.scene_counts)
    assert np.array_equal(first.seed_weights, second.seed_weights)
    assert np.array_equal(first.scene_counts[:, 1], np.ones(REPLICATES)), "the only scene of its domain"
    assert set(first.scene_counts[:, 0]) == {0, 2}
    other = Bootstrap(["a", "b", "a"], 2, stream="another task")
    assert 0.4 < (other.scene_counts[:, 0] == first.scene_counts[:, 0]).mean() < 0.6


def test_the_reflected_interval_undoes_the_bias_of_resamples() -> None:
    low, high = reflected(10, np.linspace(4, 14, 1001))
    assert (low, high) == pytest.approx((20 - 13.75, 20 - 4.25))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(map(math.isnan, reflected(NAN, np.full(5, NAN))))
