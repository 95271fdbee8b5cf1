"""Is a domain's band order what it is said to be? Judged by class spectra: what fits them clearly better, and leaves.

Only ratios of bands are compared, so that brightness does not matter, twice: as they are, and less their mean over
classes, which also takes out gain and haze of single bands. Both must speak for another order by a gap, whichever class
is left out. Shifts of season, air or camera keep the ratios' order between classes; a swap of two bands turns it round.
Bands that are equal within noise tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt

from benchmarks.legends import VEGETATION
from benchmarks.tasks import Band, Described, Reader, Task
from harness.data_statistics import DomainStatistics, TaskStatistics

_LEAST_PIXELS = 500
_LEAST_CLASSES = 4
_LEAST_BANDS = 2
_MOST_BANDS = 5  # of more, only the reverse order is tried: neighbours among them can hardly be told apart
_GOOD = 0.5  # correlation of an order that fits
_BETTER = (
    0.5  # by which it fits better than the stated one: of 32 bands reversed, ratios of neighbours still agree a bit
)
_LEAST_CONTRAST = 0.02  # of the logarithms of moved bands between classes: below, the bands are equal within noise
_INFRARED_UM = 0.72
_RED_UM = 0.6
_CLEAR = 0.2

Logs = npt.NDArray[np.float64]
"""Logarithms of mean values [classes, bands]."""


def stated_bands(task: Task, reader: Reader) -> dict[str, tuple[Band, ...]]:
    """The bands of each domain in the order in which they are read, as the data tell, or the task's for all."""
    source = task.files
    assert source is not None, "its files were read"
    facts = reader.facts if isinstance(reader, Described) else {}
    return dict.fromkeys((source.source, *source.targets), task.bands) | {
        name: tuple(Band(name=band.name, centre_um=band.centre_nm / 1000) for band in cameras[0].bands)
        for name, cameras in facts.items()
    }


def suspicions(statistics: TaskStatistics, bands: Mapping[str, Sequence[Band]]) -> list[str]:
    """What speaks against the stated band order of any domain, a sentence each; empty if nothing does.

    Args:
        statistics: of all domains.
        bands: of each domain, as stated, in file order. Bands of two domains are compared if they share a name.
    """
    found = []
    for name, domain in statistics.domains.items():
        if complaint := _vegetation(domain, bands[name]):
            found.append(f"{name}: {complaint}")
        if name != statistics.source:
            own = statistics.domains[statistics.source]
            if complaint := _other_order(own, domain, bands[statistics.source], bands[name], statistics.source):
                found.append(f"{name}: {complaint}")
    return found


def unchecked(statistics: TaskStatistics, bands: Mapping[str, Sequence[Band]]) -> list[str]:
    """Targets whose band order could not be compared with the source's, and why, a sentence each.

    Args:
        statistics: of all domains.
        bands: of each domain, as stated, in file order.
    """
    source = statistics.source
    told = []
    for name, domain in statistics.domains.items():
        classes = _common_classes(statistics.domains[source], domain)
        common = {band.name for band in bands[name]} & {band.name for band in bands[source]}
        lacks = [f"{len(classes)} classes have {_LEAST_PIXELS} pixels in both"] * (len(classes) < _LEAST_CLASSES)
        lacks += [f"{len(common)} bands have one name"] * (len(common) < _LEAST_BANDS)
        if lacks and name != source:
            told.append(f"{name} not checked against {source}: only {', '.join(lacks)}")
    return told


def _vegetation(domain: DomainStatistics, bands: Sequence[Band]) -> str:
    """Leaves are brighter in the near infrared, and darker in red, than what is around them."""
    names = _supported(domain)
    green = [name for name in names if name in VEGETATION]
    others = [name for name in names if name not in VEGETATION]
    if not green or len(others) < 2:
        return ""
    contrast = _logs(domain, green).mean(0) - _logs(domain, others).mean(0)
    infrared = [i for i, band in enumerate(bands) if band.centre_um > _INFRARED_UM]
    expected = infrared or [i for i, band in enumerate(bands) if band.centre_um <= _RED_UM]
    brightest = int(contrast.argmax())
    if not expected or contrast[brightest] < max(contrast[i] for i in expected) + _CLEAR:
        return ""
    told = f"beside other classes, {', '.join(green)} is brightest in band {bands[brightest].name}"
    return f"{told}, not in the near infrared" if infrared else f"{told}: is that the near infrared?"


def _other_order(
    source: DomainStatistics,
    target: DomainStatistics,
    source_bands: Sequence[Band],
    target_bands: Sequence[Band],
    source_name: str,
) -> str:
    """An order of the target's bands in which its class spectra fit the source's clearly better than as stated."""
    classes = _common_classes(source, target)
    names = [band.name for band in target_bands]
    common = [i for i, band in enumerate(source_bands) if band.name in names]
    if len(classes) < _LEAST_CLASSES or len(common) < _LEAST_BANDS:
        return ""
    ours, theirs = _logs(source, classes)[:, common], _logs(target, classes)
    stated = [names.index(source_bands[i].name) for i in common]
    better = [
        (min(_fits(ours, theirs[:, columns])), order, judged)
        for order in _orders(len(names))
        if (judged := _clearly_better(ours, theirs, stated, columns := [order[i] for i in stated]))
    ]
    if not better:
        return ""
    _, order, (fit, now) = max(better)
    true = [names[order.index(i)] for i in range(len(names))]
    return (
        f"read as {_told(true)} its classes look like those of {source_name} (correlation {fit:.2f}), read as stated, "
        f"{_told(names)}, they do not ({now:.2f})"
    )


def _supported(domain: DomainStatistics) -> list[str]:
    return [name for name, moments in domain.classes.items() if moments.pixels >= _LEAST_PIXELS]


def _common_classes(source: DomainStatistics, target: DomainStatistics) -> list[str]:
    there = _supported(target)
    return [name for name in _supported(source) if name in there]


def _logs(domain: DomainStatistics, classes: Sequence[str]) -> Logs:
    means = np.array([domain.classes[name].mean for name in classes])
    return np.asarray(np.log(np.maximum(means, 1e-3 * means.max())))


def _orders(count: int) -> Iterator[tuple[int, ...]]:
    """All orders of a few bands but the stated one; of many, the reverse. Place i holds where band i would lie."""
    stated = tuple(range(count))
    if count > _MOST_BANDS:
        yield stated[::-1]
        return
    yield from (order for order in permutations(stated) if order != stated)


def _clearly_better(
    ours: Logs, theirs: Logs, stated: Sequence[int], columns: Sequence[int]
) -> tuple[float, float] | None:
    """Correlations of the columns and of those stated, by the bands that move, if they speak for the columns.

    They do if the columns fit, and better by a gap in both readings, whichever class is left out. The correlations
    returned are those of the reading with the smaller gap.
    """
    moved = [i for i, (a, b) in enumerate(zip(stated, columns, strict=True)) if a != b]
    if len(moved) < 2:  # ratios need two
        moved = list(range(len(stated))) if moved else []
    if not moved:
        return None
    left, right, now = (table[:, moved] for table in (ours, theirs[:, columns], theirs[:, stated]))
    if min(map(_contrast, (left, right, now))) < _LEAST_CONTRAST or min(_fits(left, right)) < _GOOD:
        return None
    whole = np.ones(len(left), dtype=bool)
    for rows in (whole, *(np.arange(len(left)) != i for i in range(len(left)))):
        gap = np.subtract(_fits(left[rows], right[rows]), _fits(left[rows], now[rows]))
        if gap.min() < _BETTER:
            return None
    return min(zip(_fits(left, right), _fits(left, now), strict=True), key=lambda pair: pair[0] - pair[1])


def _contrast(table: Logs) -> float:
    return float(np.sqrt((_readings(table)[1] ** 2).mean()))


def _readings(table: Logs) -> tuple[Logs, Logs]:
    """Ratios of bands: as they are, and less their mean over classes."""
    ratios = table - table.mean(1, keepdims=True)
    return ratios, ratios - ratios.mean(0)


def _fits(first: Logs, second: Logs) -> tuple[float, float]:
    """Correlations of both readings."""
    pairs = zip(_readings(first), _readings(second), strict=True)
    as_is, centred = (float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12)) for a, b in pairs)
    return as_is, centred


def _told(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_BANDS else f"{names[0]}, {names[1]}, ..., {names[-1]}"
