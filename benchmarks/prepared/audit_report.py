"""The stored outcome of `data audit`: what was compared, what was found, what could not be checked.

Beside a manifest it is `audit.json`. A folder without a manifest has it in the data root as `TASK.audit.json`, because
`DATA/TASK` would be taken for a prepared task. It holds no absolute path and no time, so that the same data audited by
the same settings give the same bytes, and it is bound to the data by a hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from benchmarks.prepared.reader import PreparedReader
from benchmarks.tasks import Reader

SCHEMA = 2
"""Rises whenever a field changes its meaning."""

FILE = "audit.json"
"""Name of the report beside a manifest; after the task's name, in a data root without one."""

Outcome = Literal["verified disjoint", "disjoint by construction", "cannot be verified", "overlap found"]
Check = Literal["same scene", "exact duplicate", "near duplicate", "overlapping footprint", "close footprint", "border"]


@dataclass(frozen=True, kw_only=True)
class Example:
    """Two tiles (`domain/tile`) or scenes, and how alike or near they are: bits that differ, or shared km2."""

    first: str
    second: str
    measure: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found between two sets of tiles.

    Args:
        check: which one.
        certain: whether it shows one ground on both sides, or only raises the suspicion.
        leak: whether it spoils the scores of a target: it is certain, and the second set is one.
        pairs: how many pairs of tiles (of `same scene`: scenes).
        tiles: how many tiles of the second set they touch.
        note: how sure it is, for people.
        examples: the nearest ones.
    """

    check: Check
    certain: bool
    leak: bool
    pairs: int
    tiles: int
    note: str
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """How two sets of tiles lie on the ground, of those that have footprints.

    Args:
        placed: how many tiles of the first and the second set have one.
        methods: how they were found, on either side.
        accuracy_km: by how much two of them may be wrong together.
        shared_km2: area that both sets cover.
        shared_fraction: that area as a share of the second set's.
        nearest_km: least distance of two centroids.
        distances: tiles of the second set by distance to the nearest centroid of the first.
    """

    placed: tuple[int, int]
    methods: tuple[tuple[str, ...], tuple[str, ...]]
    accuracy_km: float
    shared_km2: float
    shared_fraction: float
    nearest_km: float
    distances: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class PairAudit:
    """Two sets of tiles: source and a target, or training and validation tiles of the source.

    Args:
        first: name of the first set.
        second: name of the second.
        tiles: how many each holds.
        outcome: in one of four phrases.
        why: what that rests on.
        findings: what was found; empty if nothing.
        unchecked: what could not be checked, and why.
        ground: where they lie, if both sets have footprints.
    """

    first: str
    second: str
    tiles: tuple[int, int]
    outcome: Outcome
    why: str
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()
    ground: Ground | None = None


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """All pairs of sets of a task.

    Args:
        schema: `SCHEMA`.
        task: name of the task.
        data: `data_digest` of what was audited.
        settings: radii and limits of the checks.
        plain: per domain, tiles that are mostly fill or nearly constant and so were not compared by likeness.
        pairs: source with each target, then training with validation tiles.
    """

    schema: int = SCHEMA
    task: str
    data: str
    settings: Mapping[str, float]
    plain: Mapping[str, int]
    pairs: tuple[PairAudit, ...]

    @property
    def leaks(self) -> int:
        """How many findings spoil the scores of a target."""
        return sum(finding.leak for pair in self.pairs for finding in pair.findings)

    def dump(self) -> bytes:
        """The file's bytes: the same for the same content."""
        return (json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


class StaleReport(ValueError):
    """A stored report is of other data, or of another version of this program."""


_REPORT = TypeAdapter(AuditReport)


def report_path(task: str, reader: Reader, root: Path) -> Path:
    """Where the report of a task's data is kept.

    Args:
        task: name of the task.
        reader: of its data.
        root: the data root.
    """
    return reader.folder / FILE if isinstance(reader, PreparedReader) else root / f"{task}.{FILE}"


def data_digest(reader: Reader) -> str:
    """The hash that binds a report to its data: the manifest's, or without one the reader's fingerprint."""
    return reader.manifest_digest if isinstance(reader, PreparedReader) else reader.fingerprint


def load_report(path: Path, data: str) -> AuditReport:
    """A stored report.

    Args:
        path: its file, which exists.
        data: `data_digest` of the data at hand.

    Raises:
        StaleReport: it is of other data or of another schema.
        ValueError: it is not understood.
    """
    again = "run `data audit` again"
    try:
        body = json.loads(path.read_bytes())
        schema = body["schema"]
        if schema == SCHEMA:
            report = _REPORT.validate_python(body)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"{path} is not understood ({type(error).__name__}); {again}") from error
    if schema != SCHEMA:
        raise StaleReport(f"{path} has schema {schema}, this program reads {SCHEMA}; {again}")
    if report.data != data:
        raise StaleReport(f"{path} is of other data than there are now; {again}")
    return report
