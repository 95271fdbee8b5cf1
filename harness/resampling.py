"""Resampling, for what has no interval by formula: averages that leave out the best and the worst. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.jackknife import Floats, Statistic, strata
from harness.metrics import Areas, mean_iou
from harness.statistics import LEVEL
from harness.trial import stream_seed

REPLICATES = 2000


class Bootstrap:
    """Resamples scenes within their domain, and seeds; the same draws serve every method (paired).

    Of n scenes n - 1 are drawn with replacement and weigh n / (n - 1), likewise of seeds: without that, few of them
    vary too little (Rao and Wu 1988). A single scene of a domain, and a single seed, stay as they are.

    Args:
        domains: the domain of each scene, in the order of the areas given to `replicates`.
        seeds: number of seeds.
        stream: names the draws; what is averaged, such as tasks, must not share them.
    """

    def __init__(self, domains: Sequence[str], seeds: int, stream: str = "") -> None:
        """Draw all resamples once, from a fixed stream."""
        generator = np.random.default_rng(stream_seed(0, f"bootstrap/{stream}"))
        counts = np.ones((REPLICATES, len(domains)))
        for members in strata(domains):
            counts[:, members] = _draws(generator, len(members))
        self.scene_counts = counts
        self.seed_weights = _draws(generator, seeds) / seeds

    def replicates(self, areas_SNK3: Areas, statistic: Statistic = mean_iou) -> Floats:
        """Mean over seeds of the pooled statistic, for every resample [R, ...]; areas are [seeds, scenes, K, 3]."""
        pooled = np.tensordot(self.scene_counts, areas_SNK3.astype(np.float64), axes=(1, 1))
        return np.asarray(np.einsum("rs,rs...->r...", self.seed_weights, statistic(pooled)))


def reflected(value: float, replicates: Floats) -> tuple[float, float]:
    """Basic bootstrap interval at the 95 % level (Davison and Hinkley 1997, 5.2); NaN where no replicate is defined.

    Resamples are biased as the sample is; reflected at the value, that cancels, where percentiles would double it. For
    averages over many scenes: of one task, `estimates` covers better (docs/statistics.md).
    """
    if np.isnan(replicates).all():
        return np.nan, np.nan
    low, high = np.nanquantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(2 * value - high), float(2 * value - low)


def _draws(generator: np.random.Generator, number: int) -> Floats:
    if number < 2:
        return np.ones((REPLICATES, number))
    drawn = generator.multinomial(number - 1, [1 / number] * number, REPLICATES)
    return np.asarray(drawn * (number / (number - 1)))
