"""How sure the numbers are: intervals, paired differences, corrected p-values. Free of torch.

Scenes vary within their domain, and seeds; every method meets the same ones, so differences are paired. What
this assumes, and how often the intervals cover the truth: docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import optimize, special
from statsmodels.stats.multitest import multipletests

from harness.evidence import Evidence
from harness.jackknife import Floats, Jackknife, Statistic, jackknife, joined, strata
from harness.metrics import Areas, mean_iou

LEVEL = 0.95
MIN_SEEDS, MIN_SCENES = 3, 10
"""Below these numbers no difference is marked as significant."""
MIN_CLASS_SCENES = 3
"""A class labelled in fewer scenes has no interval of its own."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A score or a difference of scores, in percent points.

    Args:
        mean: over seeds.
        low: lower end of the 95 % interval; NaN where the scenes cannot tell.
        high: upper end.
        p: two-sided, that the true value is 0; NaN likewise.
    """

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Difference(Estimate):
    """A paired difference.

    Args:
        seeds: number of seeds that both have.
        scenes: number of scenes.
        p_holm: `p`, corrected for all comparisons of its family that may be marked; NaN if it may not.
    """

    seeds: int
    scenes: int
    p_holm: float = np.nan

    @property
    def eligible(self) -> bool:
        """Whether there are seeds and scenes enough for a mark."""
        return self.seeds >= MIN_SEEDS and self.scenes >= MIN_SCENES and not np.isnan(self.p)

    @property
    def significant(self) -> bool:
        """Whether it is marked: the corrected p-value is below 5 %."""
        return self.p_holm < 1 - LEVEL


def estimates(areas_SNK3: Areas, domains: Sequence[str], statistic: Statistic = mean_iou) -> list[Estimate]:
    """Scores with intervals, which end at 0 and 100.

    Args:
        areas_SNK3: areas of a row's scenes [seeds, scenes, K, 3].
        domains: the domain of each scene.
        statistic: what is estimated; a list of one for a single score.
    """
    return [_within(estimate) for estimate in _estimates(jackknife(areas_SNK3, domains, statistic))]


def mean_estimate(rows: Sequence[Evidence], statistic: Statistic = mean_iou) -> Estimate | None:
    """The mean of a score over rows, such as a method's over its tasks, over the seeds that all have; None without one.

    Scenes of different tasks are independent. Rows of one task meet the same scenes, so that what a scene contributes
    to each of them adds up. The rows stay as they are: it says nothing of a task that is not among them.

    Args:
        rows: each of one method on one task.
        statistic: what is averaged, a single score.
    """
    seeds = common_seeds(rows)
    parts = [_of_row(row.only(seeds), statistic) for row in rows]
    return _within(_estimates(joined(rows, parts))[0]) if seeds else None


def mean_difference(pairs: Sequence[tuple[Evidence, Evidence]], statistic: Statistic = mean_iou) -> Difference | None:
    """The mean over pairs of the paired difference, the first minus the second, over the seeds that all of them have.

    Args:
        pairs: rows of the same scenes, a pair for each task; see `mean_estimate`.
        statistic: what is compared, a single score.

    Raises:
        ValueError: two rows of a pair are not of the same scenes.
    """
    for mine, theirs in pairs:
        _refuse_other_scenes(mine, theirs)
    seeds = common_seeds([row for pair in pairs for row in pair])
    if not seeds:
        return None
    parts = [_of_row(one.only(seeds), statistic) - _of_row(other.only(seeds), statistic) for one, other in pairs]
    whole = joined([one for one, _ in pairs], parts)
    return Difference(**vars(_estimates(whole)[0]), seeds=len(seeds), scenes=len(whole.domains))


def common_seeds(rows: Iterable[Evidence]) -> list[int]:
    """The seeds that all rows have, in order."""
    sets = [set(row.seeds) for row in rows]
    return sorted(set.intersection(*sets)) if sets else []


def differences(
    mine: Evidence, theirs: Evidence, statistic: Statistic = mean_iou, *, domain: str = ""
) -> list[Difference]:
    """Paired differences `mine - theirs` over the seeds and scenes of both; empty if they share no seed.

    Args:
        mine: a row.
        theirs: another row of the same table.
        statistic: what is compared; a list of one for a single score.
        domain: only the scenes of this domain.

    Raises:
        ValueError: the rows are not of the same scenes.
    """
    _refuse_other_scenes(mine, theirs)
    seeds = common_seeds([mine, theirs])
    if not seeds:
        return []
    kept = [i for i, name in enumerate(mine.domains) if domain in ("", name)]
    domains = [mine.domains[i] for i in kept]
    parts = [jackknife(row.only(seeds).areas[:, kept], domains, statistic) for row in (mine, theirs)]
    found = _estimates(parts[0] - parts[1])
    return [Difference(**vars(estimate), seeds=len(seeds), scenes=len(kept)) for estimate in found]


def compare_pairs(pairs: Sequence[tuple[Evidence, Evidence] | None]) -> list[Difference | None]:
    """Paired differences of mIoU, corrected as one family: every method of a table against its baseline, or all pairs.

    Args:
        pairs: rows to subtract, the second from the first; None where there is nothing to compare with.

    Returns:
        A difference per pair; None where there is no pair, or none with a common seed.
    """
    found = [differences(*pair) if pair else [] for pair in pairs]
    return corrected([each[0] if each else None for each in found])


def all_pairs(rows: Sequence[Evidence]) -> dict[tuple[int, int], Difference | None]:
    """Paired differences of mIoU, first minus second, of every two rows of a table; corrected as one family."""
    places = list(combinations(range(len(rows)), 2))
    return dict(zip(places, compare_pairs([(rows[i], rows[j]) for i, j in places]), strict=True))


def corrected(family: Sequence[Difference | None]) -> list[Difference | None]:
    """The same differences with `p_holm`, by Holm's method over those that may be marked."""
    eligible = [i for i, difference in enumerate(family) if difference and difference.eligible]
    p_holm = dict(zip(eligible, holm([family[i].p for i in eligible]), strict=True))  # type: ignore[union-attr]
    return [each and replace(each, p_holm=p_holm.get(i, np.nan)) for i, each in enumerate(family)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's corrected p-values (Holm 1979), in the same order; NaN stays and counts for nothing."""
    values = np.asarray(p_values, dtype=np.float64)
    known = ~np.isnan(values)
    if known.any():
        values[known] = multipletests(values[known], method="holm")[1]
    return [float(value) for value in values]


def class_scenes(areas_SNK3: Areas) -> list[int]:
    """In how many scenes each class is labelled [K]."""
    return [int(number) for number in (areas_SNK3[0, :, :, 2] > 0).sum(0)]


def _within(score: Estimate) -> Estimate:
    """The estimate of a score, whose interval ends where scores do."""
    return replace(score, low=float(np.clip(score.low, 0, 100)), high=float(np.clip(score.high, 0, 100)))


def _refuse_other_scenes(mine: Evidence, theirs: Evidence) -> None:
    if mine.scenes != theirs.scenes:
        raise ValueError(f"{mine.title} and {theirs.title} were evaluated on different scenes: they cannot be compared")


def _of_row(row: Evidence, statistic: Statistic) -> Jackknife:
    return jackknife(row.areas, row.domains, statistic)


def _estimates(found: Jackknife) -> list[Estimate]:
    number = found.value.shape[1]
    return [_estimate(found.value[:, m], found.influence[:, :, m], found.domains) for m in range(number)]


def _estimate(value_S: Floats, influence_SN: Floats, domains: Sequence[str]) -> Estimate:
    """Two sources of variation, scenes and seeds, each with a t quantile of its own freedom (Howe 1974).

    The squared half width is `(t_scenes se_scenes)^2 + (t_seeds se_seeds)^2`: the sum of two normal half widths, with
    the few degrees of freedom of the seeds kept from spoiling, or sharing in, the many of the scenes.
    """
    mean, seeds = float(value_S.mean()), len(value_S)
    groups = [members for members in strata(domains) if len(members) > 1]
    squares_N = influence_SN.mean(0) ** 2
    by_domain = np.array([(len(g) - 1) / len(g) * squares_N[g].sum() for g in groups])
    freedom = np.array([len(g) - 1 for g in groups])
    if not groups or np.isnan(by_domain).any() or np.isnan(mean):
        return Estimate(mean=mean, low=np.nan, high=np.nan, p=np.nan)
    scenes_var = float(by_domain.sum())
    # Satterthwaite's: a domain of few scenes that varies much leaves little freedom
    scenes_df = float(scenes_var**2 / (by_domain**2 / freedom).sum()) if scenes_var > 0 else float(freedom.sum())
    seeds_var = 0.0
    if seeds > 1:
        apart_SN = influence_SN - influence_SN.mean(0)
        shared = sum((len(g) - 1) / len(g) * (apart_SN[:, g] ** 2).sum() for g in groups) / (seeds * (seeds - 1))
        # what seeds differ by on these scenes alone is in `scenes_var` already
        seeds_var = max(0.0, float(value_S.var(ddof=1)) / seeds - float(shared))

    def half_width(p: float) -> float:
        square = scenes_var * special.stdtrit(scenes_df, p / 2) ** 2
        return float(np.sqrt(square + (seeds_var * special.stdtrit(seeds - 1, p / 2) ** 2 if seeds > 1 else 0.0)))

    reach = half_width(1 - LEVEL)
    return Estimate(mean=mean, low=mean - reach, high=mean + reach, p=_p_value(abs(mean), half_width))


def _p_value(distance: float, half_width: Callable[[float], float]) -> float:
    """The level at which the interval just touches 0."""
    smallest = 1e-15
    if distance == 0:
        return 1.0
    if half_width(smallest) <= distance:
        return 0.0
    return float(optimize.brentq(lambda p: half_width(p) - distance, smallest, 1.0, xtol=1e-14))
