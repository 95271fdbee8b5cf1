"""Average ranks, their tests and their diagram, against the example of Demšar's paper and cases done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.ranking import critical_difference, interquartile_mean, rank, wins
from harness.ranking_plot import plot_ranking

C45 = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
DEMSAR = [
    *[[4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1]],
    *[[2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5] * 4, [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2]],
]
"""Ranks of four classifiers on 14 data sets (Demšar 2006, table 6)."""


def test_ranks_and_critical_difference_are_those_of_demsars_example() -> None:
    found = rank(-np.array(DEMSAR, dtype=np.float64), C45)
    by_name = dict(zip(found.names, found.ranks, strict=True))
    assert [round(by_name[name], 3) for name in C45] == [3.143, 2.0, 2.893, 1.964]
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert found.cliques == ((0, 3),), "1.179 apart: not told apart at 5 %"
    # the paper leaves ties uncorrected: 9.28
    assert found.chi_square * (1 - 78 / (14 * 4 * 15)) == pytest.approx(9.28, abs=0.05)
    assert 0.005 < found.p < 0.02
    assert critical_difference(4, 14, level=0.9) == pytest.approx(1.12, abs=0.005)


def test_critical_values_are_the_published_ones() -> None:
    published = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
    for methods, q in enumerate(published, start=2):
        assert critical_difference(methods, 6) == pytest.approx(q * np.sqrt(methods * (methods + 1) / 36), rel=5e-4)


def test_cliques_are_maximal() -> None:
    scores_TM = np.array([[5.0, 4, 3, 2, 1]] * 30)
    found = rank(scores_TM, list("abcde"))
    assert found.critical_difference == pytest.approx(1.114, abs=0.001)
    assert found.cliques == ((0, 1), (1, 2), (2, 3), (3, 4))
    assert rank(scores_TM[:, :2], ["a", "b"]).cliques == ()
    assert rank(np.array([[1.0, 1, 0]] * 40), list("abc")).cliques == ((0, 1),)


def test_ties_wins_and_the_middle_half() -> None:
    scores_TM = np.array([[3.0, 3.0, 1.0], [2.0, 5.0, 4.0], [9.0, 0.0, 9.0], [4.0, 4.0, 4.0]])
    assert wins(scores_TM) == [3, 3, 2]
    assert rank(scores_TM, list("abc")).ranks == pytest.approx((1.875, 2.0, 2.125))
    assert interquartile_mean(scores_TM) == pytest.approx([3.5, 3.5, 4.0])
    assert interquartile_mean(scores_TM[:3]) == pytest.approx(scores_TM[:3].mean(0)), "too few to leave any out"


def test_a_ranking_of_holes_is_refused() -> None:
    with pytest.raises(ValueError, match="every task"):
        rank(np.array([[1.0, np.nan]]), ["a", "b"])


def test_the_diagram_names_every_method_and_its_rank() -> None:
    found = rank(-np.array(DEMSAR, dtype=np.float64), C45)
    figure = plot_ranking(found)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    for name, average in zip(found.names, found.ranks, strict=True):
        assert name in texts
        assert f"{average:.2f}" in texts
    assert "CD = 1.25" in texts
    assert "14 tasks" in texts
    bars = [drawn for drawn in figure.axes[0].lines if drawn.get_linewidth() == 3]
    assert [tuple(bar.get_xdata()) for bar in bars] == [(found.ranks[0], found.ranks[-1])]
