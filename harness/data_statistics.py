"""Band statistics of a data set: the source's, which normalise, and how far each target lies from them, per class.

A pixel is valid if it is not zero in every band: fill and no-data are left out, unlabelled ground is not. Sums of
integer images are exact, so that neither order nor number of processes changes a digit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.prepared.manifest import STATISTICS
from benchmarks.prepared.reader import PreparedReader
from benchmarks.prepared.statistics import SCHEMA, valid_pixels
from benchmarks.tasks import IGNORE, Reader
from harness.pool import each
from harness.records import replace_file
from harness.verify import Job, file_source, open_once

Sums = tuple[int, list[int | float], list[int | float]]
"""Number of pixels; per band their sum and the sum of their squares."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Mean and standard deviation per band over a number of pixels; NaN over none."""

    pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class DomainStatistics:
    """Of all valid pixels of a domain, and of the labelled ones of each class that occurs."""

    all: Moments
    classes: Mapping[str, Moments]


@dataclass(frozen=True, kw_only=True)
class TaskStatistics:
    """Of each domain, the source first; `fingerprint` says of which manifest (None without one)."""

    source: str
    domains: Mapping[str, DomainStatistics]
    fingerprint: str | None

    def shift(self, target: str, class_name: str | None = None) -> tuple[float, ...]:
        """Per band the target's mean less the source's, in standard deviations of the source.

        Args:
            target: name of the domain.
            class_name: of labelled pixels of a class only; all valid pixels if None.
        """
        source, other = self.domains[self.source], self.domains[target]
        if class_name is None:
            pair = (source.all, other.all)
        else:
            pair = (source.classes[class_name], other.classes[class_name])
        spread = source.all.std
        return tuple((b - a) / s if s else math.nan for a, b, s in zip(pair[0].mean, pair[1].mean, spread, strict=True))

    def body(self) -> dict[str, Any]:
        """As plain values for a JSON file."""
        own = self.domains[self.source]
        shifts = {
            name: {
                "all": self.shift(name),
                "classes": {c: self.shift(name, c) for c in domain.classes if c in own.classes},
            }
            for name, domain in self.domains.items()
            if name != self.source
        }
        return {
            "schema": SCHEMA,
            "manifest": self.fingerprint,
            "source": {"domain": self.source, **_plain(own.all)},
            "domains": {
                name: {**_plain(domain.all), "classes": {c: _plain(m) for c, m in domain.classes.items()}}
                for name, domain in self.domains.items()
            },
            "shift_in_source_std": shifts,
        }


def _plain(moments: Moments) -> dict[str, Any]:
    return {"pixels": moments.pixels, "mean": list(moments.mean), "std": list(moments.std)}


def measure(
    task: str, work: Sequence[Job], workers: int, reader: Reader, on_tiles: Callable[[], None]
) -> TaskStatistics:
    """Read every tile of `work`, which `verify.jobs` made, once.

    Raises:
        ValueError: a tile is defective, or the source has no valid pixel.
    """
    source = file_source(task)
    found: dict[Job, dict[int, Sums] | ValueError] = {}
    for job, sums in each(_sum, work, workers):
        found[job] = sums
        on_tiles()
    by_domain: dict[str, list[dict[int, Sums]]] = {domain: [] for domain in (source.source, *source.targets)}
    for job in work:
        sums = found[job]
        if isinstance(sums, ValueError):
            raise ValueError(f"{sums}; `data verify {task}` lists every fault")
        by_domain[job.tiles[0].domain].append(sums)
    domains = {name: _domain(parts, source.classes) for name, parts in by_domain.items()}
    if not domains[source.source].all.pixels:
        raise ValueError(f"the source domain {source.source} holds no valid pixel; prepare it from whole files")
    fingerprint = reader.manifest_digest if isinstance(reader, PreparedReader) else None
    return TaskStatistics(source=source.source, domains=domains, fingerprint=fingerprint)


def _sum(job: Job) -> dict[int, Sums]:
    """Sums over some tiles: per class index, and under `IGNORE` of all valid pixels, labelled or not."""
    reader = open_once(job.task, job.root)
    total: dict[int, Sums] = {}
    for tile in job.tiles:
        sample = reader.read(tile)
        valid = valid_pixels(sample.image)
        pixels, label = sample.image[valid], sample.label[valid]
        wide = pixels.astype(np.float64 if pixels.dtype.kind == "f" else np.int64)
        for index in np.unique(label[label != IGNORE]).tolist():
            _add(total, index, _sums(wide[label == index]))
        if len(wide):
            _add(total, IGNORE, _sums(wide))
    return total


def _sums(pixels: Any) -> Sums:
    return len(pixels), pixels.sum(0).tolist(), (pixels**2).sum(0).tolist()


def _add(total: dict[int, Sums], index: int, more: Sums) -> None:
    if index in total:
        count, sums, squares = total[index]
        more = (
            count + more[0],
            [a + b for a, b in zip(sums, more[1], strict=True)],
            [a + b for a, b in zip(squares, more[2], strict=True)],
        )
    total[index] = more


def _domain(parts: Sequence[dict[int, Sums]], classes: Sequence[str]) -> DomainStatistics:
    total: dict[int, Sums] = {}
    for part in parts:
        for index, sums in part.items():
            _add(total, index, sums)
    return DomainStatistics(
        all=_moments(total.get(IGNORE, (0, [], []))),
        classes={name: _moments(total[index]) for index, name in enumerate(classes) if index in total},
    )


def _moments(sums: Sums) -> Moments:
    count, first, second = sums
    # whole numbers stay whole until the division, so that no digit is lost to cancellation
    variances = [max(0, count * b - a * a) / count**2 for a, b in zip(first, second, strict=True)]
    return Moments(
        pixels=count, mean=tuple(a / count for a in first), std=tuple(math.sqrt(value) for value in variances)
    )


def store(statistics: TaskStatistics, reader: PreparedReader) -> Path:
    """Write them beside the manifest, whole or not at all; training takes its normalisation from there."""
    path = reader.folder / STATISTICS
    replace_file(path, (json.dumps(statistics.body(), indent=1, allow_nan=False) + "\n").encode())
    return path
