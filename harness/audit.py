"""Does the target leak? The same ground in the source and in a target, or on both sides of the source's split.

Five checks, from the surest to the faintest: the same scenes, exact duplicates, near duplicates, footprints that meet,
and, where there are no footprints, borders that continue one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.prepared.audit_report import AuditReport, Finding, Ground, Outcome, PairAudit, data_digest
from benchmarks.prepared.reader import PreparedReader
from benchmarks.tasks import Band, DataSource, Reader, TileRef
from harness.audit_checks import Side, borders, check_radius, exact, near, same_scenes
from harness.audit_limits import BORDER_RADIUS, SURE_RADIUS
from harness.counts import counted
from harness.footprints import AROUND_NAMES, compare
from harness.pool import each
from harness.records import replace_file
from harness.split import SOURCE_VAL, split_tiles
from harness.tile_marks import (
    BORDER_BITS,
    LEAST_BORDER_PX,
    LEAST_VALID,
    LEAST_VARIATION,
    LOOKS_SIDE,
    Look,
    Marks,
    mark_tiles,
    visible_bands,
)
from harness.verify import Job

__all__ = ["audit", "check_radius", "mark_all", "store"]

_SETTINGS = {
    "looks_bits": LOOKS_SIDE**2,
    "looks_sure_radius": SURE_RADIUS,
    "border_bits": BORDER_BITS,
    "border_radius": BORDER_RADIUS,
    "least_border_px": LEAST_BORDER_PX,
    "least_valid": LEAST_VALID,
    "least_variation": LEAST_VARIATION,
}

TRAINING = "training"
"""The name of the source's training tiles, beside those that validate."""


def mark_all(
    work: Iterable[Job], bands: Sequence[Band], reader: Reader, workers: int, on_tiles: Callable[[], None]
) -> dict[TileRef, Marks]:
    """The marks of every tile of `work`, which `verify.jobs` made. Raises `ValueError` for the first defective tile."""
    looks = [Look(job=job, visible=visible_bands(bands, reader, job.tiles[0].domain)) for job in work]
    marks: dict[TileRef, Marks] = {}
    defects: list[str] = []
    for _, found in each(mark_tiles, looks, workers):
        if isinstance(found, ValueError):
            defects.append(str(found))
        else:
            marks |= {mark.tile: mark for mark in found}
        on_tiles()
    if defects:
        raise ValueError(f"{min(defects)} (`data verify` lists all faults)")
    return marks


def audit(
    task: str,
    source: DataSource,
    reader: Reader,
    marks: Mapping[TileRef, Marks],
    radius: int,
    workers: int,
    on_pair: Callable[[], None],
) -> AuditReport:
    """Compare the source with each target, and its training with its validation tiles.

    Args:
        task: name of the task.
        source: its supply of real tiles.
        reader: of the data set.
        marks: of every tile, from `mark_all`.
        radius: in how many bits near duplicates may differ.
        workers: processes; 0 for one per core.
        on_pair: called after each target, and after the split.

    Raises:
        ValueError: the source cannot be split, or a worker was killed.
    """
    split = split_tiles(reader, source.source, source.targets, 0)
    whole = _side(source.source, reader.tiles(source.source), marks, reader)
    targets = [_side(name, tiles, marks, reader) for name, tiles in split.targets.items()]
    train = _side(TRAINING, split.train, marks, reader)
    held = _side(SOURCE_VAL, split.source_val, marks, reader)
    tile_px = reader.manifest.header.tile_px if isinstance(reader, PreparedReader) else 0
    pairs = []
    for first, second in [*((whole, target) for target in targets), (train, held)]:
        pairs.append(_compare(first, second, tile_px, radius, workers, target=second is not held))
        on_pair()
    return AuditReport(
        task=task,
        data=data_digest(reader),
        settings={**_SETTINGS, "looks_radius": radius},
        plain={side.name: sum(mark.looks is None for mark in side.marks) for side in (whole, *targets)},
        pairs=tuple(pairs),
    )


def _side(name: str, tiles: Sequence[TileRef], marks: Mapping[TileRef, Marks], reader: Reader) -> Side:
    rows = [reader.row(tile) for tile in tiles] if isinstance(reader, PreparedReader) else None
    return Side(name=name, marks=[marks[tile] for tile in tiles], rows=rows)


def _compare(first: Side, second: Side, tile_px: int, radius: int, workers: int, *, target: bool) -> PairAudit:
    ground: Ground | None = None
    meeting: list[Finding] = []
    if first.rows is not None and second.rows is not None:
        ground, meeting = compare(first.rows, second.rows, tile_px, target=target)
    everywhere = all(first.placed) and all(second.placed)
    found = [
        same_scenes(first, second) if target else None,
        exact(first, second, target=target),
        *near(first, second, radius, workers, target=target),
        *meeting,
        None if everywhere else borders(first, second, workers),
    ]
    findings = tuple(finding for finding in found if finding)
    outcome, why = _conclude(first, second, findings, ground, target=target)
    return PairAudit(
        first=first.name,
        second=second.name,
        tiles=(len(first.marks), len(second.marks)),
        outcome=outcome,
        why=why,
        findings=findings,
        unchecked=tuple(_unchecked(first, second)),
        ground=ground,
    )


def _conclude(
    first: Side, second: Side, findings: Sequence[Finding], ground: Ground | None, *, target: bool
) -> tuple[Outcome, str]:
    """The outcome and what it rests on."""
    proofs = [f"{finding.check} ({counted(finding.pairs, 'pair')})" for finding in findings if finding.certain]
    if proofs:
        return "overlap found", ", ".join(proofs)
    doubts = [finding.check for finding in findings if target or finding.check != "border"]
    if doubts:
        return "cannot be verified", f"{', '.join(doubts)}: perhaps one ground, which these data cannot decide"
    everywhere = all(first.placed) and all(second.placed)
    # a scene is named after a place that it need not hold, and neighbours may be named after two
    by_name = (first.methods | second.methods) & AROUND_NAMES
    if everywhere and ground and not by_name:
        return "verified disjoint", f"all footprints known, none meet; nearest centroids {ground.nearest_km:g} km apart"
    if not target:
        return "disjoint by construction", "split by scene"
    if first.regions and second.regions and not first.regions & second.regions and not by_name:
        return "disjoint by construction", "no region in common"
    if everywhere:
        return (
            "cannot be verified",
            "boxes around named places do not meet, but may not hold their scenes",
        )
    return "cannot be verified", "nothing found, but not every tile has a footprint"


def _unchecked(first: Side, second: Side) -> list[str]:
    told = []
    lacking = [
        f"{len(side.placed) - sum(side.placed)} of {len(side.placed)} of {side.name}"
        for side in (first, second)
        if not all(side.placed)
    ]
    if lacking:
        told.append(
            f"footprints: tiles without coordinates: {', '.join(lacking)}; of these, the same ground at another "
            "offset, scale, season or sensor would not be found"
        )
        bare = [s.name for s in (first, second) if not any(any(mark.borders) for mark in s.marks)]
        if bare:
            told.append(f"borders of {', '.join(bare)}: shorter than {LEAST_BORDER_PX} px, fill or without texture")
    plain = [f"{n} of {s.name}" for s in (first, second) if (n := sum(mark.looks is None for mark in s.marks))]
    if plain:
        told.append(f"near duplicates: tiles mostly of fill or nearly constant: {', '.join(plain)}")
    return told


def store(report: AuditReport, path: Path) -> None:
    """Write a report, whole or not at all. Raises `ValueError` if it cannot be written."""
    try:
        replace_file(path, report.dump())
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); make its folder writable") from error
