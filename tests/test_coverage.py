"""What intervals and p-values promise, by simulation: the truth covered, a method never better than itself."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from benchmarks.catalogue import TASKS
from harness.ranking import interquartile_interval, interquartile_mean
from harness.resampling import Bootstrap
from harness.statistics import compare_pairs, differences, estimates, mean_estimate
from tests.simulated import Population, row


def binomial_bounds(level: float, repetitions: int, slack: float) -> tuple[float, float]:
    """Where a share must lie: 99.9 % of the binomial, and the slack to either side that is allowed of the method."""
    low, high = stats.binom.interval(0.999, repetitions, level)
    return low / repetitions - slack, high / repetitions + slack


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "seed_spread"), [(1, 0.0), (3, 0.03), (3, 0.1)])
@pytest.mark.parametrize("scenes", [10, 20, 60])
def test_intervals_cover_the_truth_as_often_as_they_say(scenes: int, seeds: int, seed_spread: float) -> None:
    world = Population(seed_spread=seed_spread)
    truth, domains = world.truth(scenes), world.domains(scenes)
    rng = np.random.default_rng([12, scenes, seeds])
    repetitions = 600
    covered = 0
    for _ in range(repetitions):
        (estimate,) = estimates(world.method(rng, world.scenes(rng, domains), seeds), domains)
        covered += estimate.low <= truth <= estimate.high
    low, high = binomial_bounds(0.95, repetitions, slack=0.01)
    assert low <= covered / repetitions <= high + 0.01, "more is allowed: with few seeds it errs on the safe side"


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "seed_spread"), [(1, 0.0), (3, 0.03), (3, 0.1)])
@pytest.mark.parametrize("scenes", [10, 20, 60])
def test_a_method_against_itself_is_significant_one_time_in_twenty(scenes: int, seeds: int, seed_spread: float) -> None:
    world = Population(seed_spread=seed_spread)
    domains = world.domains(scenes)
    rng = np.random.default_rng([13, scenes, seeds])
    blank = np.zeros((seeds, scenes, 7, 3), np.int64)
    sides = row(blank, domains), row(blank, domains)
    repetitions = 600
    significant = 0
    for _ in range(repetitions):
        met = world.scenes(rng, domains)
        one, other = (replace(side, areas=world.method(rng, met, seeds)) for side in sides)
        significant += differences(one, other)[0].p < 0.05
    low, high = binomial_bounds(0.05, repetitions, slack=0.01)
    assert low - 0.01 <= significant / repetitions <= high


@pytest.mark.slow
@pytest.mark.parametrize(("tasks", "scenes"), [(3, 10), (3, 20), (7, 20)])
def test_intervals_of_averages_cover_the_truth_as_often_as_they_say(tasks: int, scenes: int) -> None:
    world = Population(seed_spread=0.1)
    truth, domains = world.truth(scenes), world.domains(scenes)
    blank = np.zeros((3, scenes, 7, 3), np.int64)
    rows = [row(blank, domains, task=name) for name in sorted(TASKS)[:tasks]]
    rng = np.random.default_rng([22, tasks, scenes])
    repetitions = 600
    covered = 0
    for _ in range(repetitions):
        drawn = [replace(each, areas=world.method(rng, world.scenes(rng, domains), 3)) for each in rows]
        estimate = mean_estimate(drawn)
        assert estimate
        covered += estimate.low <= truth <= estimate.high
    low, high = binomial_bounds(0.95, repetitions, slack=0.01)
    assert low <= covered / repetitions <= high + 0.01, "more is allowed: with few seeds it errs on the safe side"


@pytest.mark.slow
def test_of_five_methods_like_the_baseline_one_is_marked_one_time_in_twenty_or_less() -> None:
    world = Population(seed_spread=0.1)
    domains = world.domains(20)
    rng = np.random.default_rng(14)
    blank = row(np.zeros((3, 20, 7, 3), np.int64), domains)
    repetitions = 300
    marked = plain = 0
    for _ in range(repetitions):
        met = world.scenes(rng, domains)
        base, *rows = (replace(blank, areas=world.method(rng, met, 3)) for _ in range(6))
        with mock.patch("gc.collect"):  # statsmodels calls it every time
            found = [each for each in compare_pairs([(each, base) for each in rows]) if each]
        marked += any(each.significant for each in found)
        plain += any(each.p < 0.05 for each in found)
    assert marked / repetitions <= binomial_bounds(0.05, repetitions, slack=0.01)[1]
    assert plain > 2 * marked, "without the correction some of five is marked more often"


@pytest.mark.slow
def test_percentiles_of_a_bootstrap_would_not_cover_with_few_scenes() -> None:
    world = Population()
    truth, domains = world.truth(10), world.domains(10)
    rng = np.random.default_rng(15)
    bootstrap = Bootstrap(domains, 1)
    covered = []
    for _ in range(300):
        replicates = bootstrap.replicates(world.method(rng, world.scenes(rng, domains), 1))
        low, high = np.quantile(replicates, [0.025, 0.975])
        covered.append(low <= truth <= high)
    assert np.mean(covered) < 0.9, "then the simpler interval would do"


@pytest.mark.slow
def test_the_interquartile_mean_is_covered_too() -> None:
    worlds = [Population(seed_spread=0.1)] * 5
    gains = (-0.8, -0.4, 0.0, 0.4, 0.8)
    domains = worlds[0].domains(20)
    truth = interquartile_mean(np.array([world.truth(20, gain) for world, gain in zip(worlds, gains, strict=True)]))
    rng = np.random.default_rng(16)
    blank = row(np.zeros((3, 20, 7, 3), np.int64), domains)
    repetitions, covered = 150, 0
    for _ in range(repetitions):
        tasks = {}
        for task, (world, gain) in enumerate(zip(worlds, gains, strict=True)):
            drawn = world.method(rng, world.scenes(rng, domains), 3, gain)
            tasks[str(task)] = replace(blank, areas=drawn)
        low, high = interquartile_interval(tasks)
        covered += low <= truth <= high
    assert binomial_bounds(0.93, repetitions, slack=0.01)[0] <= covered / repetitions, "93 %: docs/statistics.md"
