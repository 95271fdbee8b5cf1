"""Methods over several tasks: average ranks, Friedman and Nemenyi tests, interquartile mean, wins. Free of torch.

After Demšar 2006 (Statistical comparisons of classifiers over multiple data sets) and Agarwal et al. 2021 (Deep
reinforcement learning at the edge of the statistical precipice).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.evidence import Evidence
from harness.jackknife import Floats
from harness.metrics import mean_iou
from harness.resampling import Bootstrap, reflected
from harness.statistics import LEVEL

QUARTER = 0.25


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Average ranks of methods over tasks, 1 for the best.

    Args:
        names: the methods, best first.
        order: their places in the list given.
        ranks: their average ranks.
        tasks: number of tasks.
        chi_square: Friedman's statistic; NaN below three methods or two tasks, or if all are alike.
        f: Iman and Davenport's, which is less conservative.
        p: of `f`, that all methods are alike.
        critical_difference: Nemenyi's, between two average ranks; NaN below two tasks.
        cliques: runs of methods (first and last index) that differ by less, none within another.
    """

    names: tuple[str, ...]
    order: tuple[int, ...]
    ranks: tuple[float, ...]
    tasks: int
    chi_square: float
    f: float
    p: float
    critical_difference: float
    cliques: tuple[tuple[int, int], ...]


def rank(scores_TM: Floats, names: Sequence[str]) -> Ranking:
    """Rank methods on each task, higher scores first and ties in the middle, and average.

    Args:
        scores_TM: a score of every method on every task [tasks, methods].
        names: the methods.

    Raises:
        ValueError: a score is missing, or there are not two methods.
    """
    tasks, number = scores_TM.shape
    if number != len(names) or number < 2 or tasks < 1 or np.isnan(scores_TM).any():
        raise ValueError("a ranking needs a score of at least two methods on every task")
    averages = stats.rankdata(-scores_TM, axis=1).mean(0)
    order = np.argsort(averages, kind="stable")
    ranks = averages[order]
    chi_square, f, p = _friedman(scores_TM)
    distance = critical_difference(number, tasks) if tasks > 1 else np.nan
    return Ranking(
        names=tuple(names[i] for i in order),
        order=tuple(order.tolist()),
        ranks=tuple(ranks.tolist()),
        tasks=tasks,
        chi_square=chi_square,
        f=f,
        p=p,
        critical_difference=distance,
        cliques=_cliques(ranks, distance),
    )


def critical_difference(methods: int, tasks: int, level: float = LEVEL) -> float:
    """Nemenyi's: average ranks further apart than this differ, all pairs considered (Demšar 2006, section 3.2.2)."""
    q = stats.studentized_range.ppf(level, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * tasks)))


def wins(scores_TM: Floats) -> list[int]:
    """On how many tasks each method has the best score; those that share it all win."""
    best = scores_TM == scores_TM.max(1, keepdims=True)
    return [int(number) for number in best.sum(0)]


def interquartile_mean(scores_T: Floats) -> Floats:
    """Mean over tasks without the lowest and the highest quarter of them [...]; a plain mean below four tasks."""
    return np.asarray(stats.trim_mean(scores_T, QUARTER, axis=0))


def interquartile_interval(rows: Mapping[str, Evidence]) -> tuple[float, float]:
    """Interval of a method's interquartile mean of mIoU over these very tasks: scenes and seeds vary, tasks do not.

    Args:
        rows: the method's row on each task, by the task's name; equal names draw equally, so that methods are paired.
    """
    value = interquartile_mean(np.array([mean_iou(row.areas.sum(1)).mean() for row in rows.values()]))
    return reflected(float(value), interquartile_replicates(rows))


def interquartile_replicates(rows: Mapping[str, Evidence]) -> Floats:
    """The same as replicates [R], to subtract from those of another method on the same tasks."""
    drawn = [
        Bootstrap(row.domains, len(row.seeds), stream=task).replicates(row.areas) for task, row in sorted(rows.items())
    ]
    return interquartile_mean(np.stack(drawn))


def _friedman(scores_TM: Floats) -> tuple[float, float, float]:
    tasks, number = scores_TM.shape
    if tasks < 2 or number < 3 or (scores_TM == scores_TM[:, :1]).all():
        return np.nan, np.nan, np.nan
    chi_square = float(stats.friedmanchisquare(*scores_TM.T).statistic)
    room = tasks * (number - 1) - chi_square
    if room <= 1e-9 * chi_square:  # every task ranks the methods alike; how likely that is can be counted
        _, ties = np.unique(scores_TM[0], return_counts=True)
        orders = math.factorial(number) / math.prod(math.factorial(tied) for tied in ties.tolist())
        return chi_square, np.inf, float(orders ** (1 - tasks))
    f = (tasks - 1) * chi_square / room
    return chi_square, f, float(stats.f.sf(f, number - 1, (number - 1) * (tasks - 1)))


def _cliques(ranks: Floats, distance: float) -> tuple[tuple[int, int], ...]:
    """Maximal runs of at least two sorted ranks that span less than the distance."""
    found: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.flatnonzero(ranks - ranks[first] < distance).max(initial=first))
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
