"""What records say of one method: its scores by seed, and the areas of every target scene for the statistics."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.metrics import Areas, by_scene
from harness.records import Record
from harness.rows import row_of
from harness.split import SOURCE_VAL, TARGET
from harness.trial import special

SELECTIONS = ("source_val", "last", "oracle")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The records of one method variant on one task, one per seed: a row of a table.

    Args:
        records: by seed.
        selection: the rule that chose the checkpoint of `areas`.
        scenes: names of the target scenes, `domain/scene`.
        domains: the domain of each of them.
        areas: their areas at that checkpoint, summed over tiles [seeds, scenes, K, 3].
    """

    records: tuple[Record, ...]
    selection: str
    scenes: tuple[str, ...]
    domains: tuple[str, ...]
    areas: Areas = field(repr=False)

    @property
    def labels(self) -> dict[str, Any]:
        """Titles of task, backbone and method, the same in every record of the row."""
        labels: dict[str, Any] = self.records[0].result["labels"]
        return labels

    @property
    def title(self) -> str:
        """The method's title, with options and controls that are not the default."""
        extra = special(self.labels)
        return str(self.labels["method"]) + (f" ({extra})" if extra else "")

    @property
    def name(self) -> str:
        """What a user calls the row: `method@backbone`, or `method[options]@backbone`."""
        inputs, extra = self.records[0].inputs, special(self.labels)
        return f"{inputs['method']}{f'[{extra}]' if extra else ''}@{inputs['backbone']}"

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.records[0].inputs["task"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(int(record.inputs["seed"]) for record in self.records)

    @property
    def target_domains(self) -> tuple[str, ...]:
        """Names of the target domains, in the task's order."""
        return tuple(name for name in self._scores(self.records[0]) if name not in (SOURCE_VAL, TARGET))

    def mean(self, domain: str = TARGET, score: str = "miou", selection: str = "") -> float:
        """Mean over seeds of a score as recorded, in percent; NaN where a seed has none.

        Args:
            domain: a target domain, `target` for all of them pooled, or `source_val`.
            score: `miou`, `macc`, `aacc` or `miou_present`.
            selection: another rule than the evidence's own.
        """
        found = [self._scores(record, selection)[domain][score] for record in self.records]
        return float(np.mean([np.nan if value is None else value for value in found]))

    def only(self, seeds: Collection[int]) -> Evidence:
        """The part of these seeds."""
        kept = [i for i, seed in enumerate(self.seeds) if seed in seeds]
        return Evidence(
            records=tuple(self.records[i] for i in kept),
            selection=self.selection,
            scenes=self.scenes,
            domains=self.domains,
            areas=self.areas[kept],
        )

    def _scores(self, record: Record, selection: str = "") -> dict[str, Any]:
        scores: dict[str, Any] = record.result["selections"][selection or self.selection]["scores"]
        return scores


def evidence_of(records: Sequence[Record], selection: str = "source_val") -> Evidence:
    """Gather the records of one row.

    Args:
        records: done records that differ by their seed alone.
        selection: `source_val`, `last` or `oracle`.
    """
    ordered = sorted(records, key=lambda record: int(record.inputs["seed"]))
    names: list[str] = []
    per_seed = []
    for record in ordered:
        tiles = record.result["tiles"]
        areas = record.arrays[f"areas/{record.result['selections'][selection]['step']}"]
        kept = [i for i, domain in enumerate(tiles["domain"]) if domain != SOURCE_VAL]
        names, summed = by_scene(areas[kept], [f"{tiles['domain'][i]}/{tiles['scene'][i]}" for i in kept])
        per_seed.append(summed)
    return Evidence(
        records=tuple(ordered),
        selection=selection,
        scenes=tuple(names),
        domains=tuple(name.partition("/")[0] for name in names),
        areas=np.stack(per_seed),
    )


def rows_of(records: Iterable[Record], selection: str = "source_val") -> list[Evidence]:
    """The rows of one table, baselines first within their backbone.

    Args:
        records: done records that may share a table (`harness.rows.table_of`).
        selection: `source_val`, `last` or `oracle`.
    """
    named: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        named.setdefault(row_of(record.inputs, record.result["labels"]), []).append(record)
    return sorted((evidence_of(same, selection) for same in named.values()), key=_order)


def baseline_of(row: Evidence, rows: Iterable[Evidence]) -> Evidence | None:
    """The baseline on the row's backbone, without controls; None if the row is it, or there is none."""
    for other in rows:
        labels = other.labels
        same = labels["backbone"] == row.labels["backbone"]
        if same and labels["baseline"] and not labels["controls"] and other is not row:
            return other
    return None


def _order(row: Evidence) -> tuple[Any, ...]:
    backbone, controls, method, options = row_of(row.records[0].inputs, row.labels)
    return (backbone, controls, not row.labels["baseline"], method, options)
