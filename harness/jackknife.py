"""What each scene contributes to a score: it is left out in turn, the others standing in for it. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.evidence import Evidence
from harness.metrics import Areas

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats | Areas], Floats]
"""Pooled areas [..., K, 3] to a score [...] or scores [..., M]."""


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """A statistic of a row, and what its scenes contribute.

    Args:
        value: by seed [S, M].
        influence: of each scene [S, N, M]; 0 where its domain has no other.
        domains: the domain of each scene.
    """

    value: Floats
    influence: Floats
    domains: tuple[str, ...]

    def __sub__(self, other: Jackknife) -> Jackknife:
        """The difference, paired over seeds and scenes."""
        return replace(self, value=self.value - other.value, influence=self.influence - other.influence)


def jackknife(areas_SNK3: Areas, domains: Sequence[str], statistic: Statistic) -> Jackknife:
    """Leave each scene out in turn, the others of its domain standing in for it.

    The influences of a domain sum to 0 and their squares, times (n - 1) / n, to its variance (Rust and Rao 1996, JKn).
    """
    areas = areas_SNK3.astype(np.float64)
    total = areas.sum(1)
    value = statistic(total)
    value = value if value.ndim > 1 else value[:, None]
    influence = np.zeros((*areas.shape[:2], value.shape[1]))
    for members in strata(domains):
        n = len(members)
        if n < 2:
            continue
        inside = areas[:, members].sum(1, keepdims=True)
        rest = total[:, None] - inside + (inside - areas[:, members]) * (n / (n - 1))
        left = statistic(rest).reshape(influence[:, members].shape)
        influence[:, members] = left.mean(1, keepdims=True) - left
    return Jackknife(value=value, influence=influence, domains=tuple(domains))


def joined(rows: Sequence[Evidence], parts: Sequence[Jackknife]) -> Jackknife:
    """The mean of what was found of rows: tasks side by side, the same scenes of a task laid over one another.

    Args:
        rows: in any order.
        parts: of each row, with equal seeds.
    """
    influence: dict[tuple[str, tuple[str, ...]], Floats] = {}
    for row, part in zip(rows, parts, strict=True):
        place = (row.task, row.scenes)
        influence[place] = influence.get(place, 0.0) + part.influence / len(parts)
    return Jackknife(
        value=np.mean([part.value for part in parts], axis=0),
        influence=np.concatenate(list(influence.values()), axis=1),
        domains=tuple(f"{task}/{scene.partition('/')[0]}" for task, scenes in influence for scene in scenes),
    )


def strata(domains: Sequence[str]) -> list[npt.NDArray[np.intp]]:
    """Places of the scenes of each domain, domains by name: what is resampled, or left out, stays within one."""
    return [np.flatnonzero([domain == name for domain in domains]) for name in sorted(set(domains))]
