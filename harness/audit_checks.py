"""The checks of `data audit` that look at names and pixels; those that look at places are in `footprints`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.prepared.audit_report import Check, Example, Finding
from benchmarks.prepared.manifest import TileRow
from harness.audit_limits import BORDER_RADIUS, MOST_RADIUS, RADIUS, SURE_RADIUS
from harness.likeness import EXAMPLES, NONE_ALIKE, Alike, alike, hashes
from harness.tile_marks import BORDER_BITS, LOOKS_SIDE, Marks

_TOP, _BOTTOM, _LEFT, _RIGHT = range(4)
_SEAMS = ((_BOTTOM, _TOP), (_TOP, _BOTTOM), (_RIGHT, _LEFT), (_LEFT, _RIGHT))


@dataclass(frozen=True, kw_only=True)
class Side:
    """One set of tiles: its name, their marks, and what a manifest says of them (None without one)."""

    name: str
    marks: Sequence[Marks]
    rows: Sequence[TileRow] | None

    @property
    def scenes(self) -> set[str]:
        """Names of the scenes."""
        return {mark.tile.scene for mark in self.marks}

    @property
    def placed(self) -> list[bool]:
        """Whether each tile has a footprint."""
        return [row.footprint is not None for row in self.rows] if self.rows else [False] * len(self.marks)

    @property
    def methods(self) -> set[str]:
        """How its footprints were found."""
        return {row.georef for row in self.rows or () if row.footprint is not None}

    @property
    def regions(self) -> set[str]:
        """Names of the regions; empty if that of any tile is not known."""
        found = {row.region for row in self.rows or ()}
        return set() if "" in found else found

    def label(self, index: int) -> str:
        """A tile by domain and name."""
        tile = self.marks[index].tile
        return f"{tile.domain}/{tile.name}"


def check_radius(radius: int) -> None:
    """Raise `ValueError` for a radius that is none."""
    if not 0 <= radius <= MOST_RADIUS:
        raise ValueError(f"--radius {radius}: give 0 to {MOST_RADIUS} bits of {LOOKS_SIDE**2}; {RADIUS} is the default")


def same_scenes(first: Side, second: Side) -> Finding | None:
    """Scenes by whose names both sets go."""
    both = sorted(first.scenes & second.scenes)
    if not both:
        return None
    return Finding(
        check="same scene",
        certain=True,
        leak=True,
        pairs=len(both),
        tiles=sum(mark.tile.scene in both for mark in second.marks),
        note="rename scenes whose names agree by chance",
        examples=tuple(Example(first=scene, second=scene) for scene in both[:EXAMPLES]),
    )


def exact(first: Side, second: Side, *, target: bool) -> Finding | None:
    """Tiles of equal pixels, whatever their files; `target`: whether the second set is one."""
    count = Counter(mark.pixels or b"" for mark in first.marks)
    count.pop(b"", None)
    at = {mark.pixels: index for index, mark in reversed(list(enumerate(first.marks)))}
    twins = [(index, mark.pixels) for index, mark in enumerate(second.marks) if mark.pixels in count]
    if not twins:
        return None
    return Finding(
        check="exact duplicate",
        certain=True,
        leak=target,
        pairs=sum(count[pixels or b""] for _, pixels in twins),
        tiles=len(twins),
        note="equal pixels",
        examples=tuple(
            Example(first=first.label(at[pixels]), second=second.label(index)) for index, pixels in twins[:EXAMPLES]
        ),
    )


def near(first: Side, second: Side, radius: int, workers: int, *, target: bool) -> list[Finding]:
    """Tiles that look alike, but for exact duplicates: for certain, and perhaps. `ValueError` if a worker was killed.

    Args:
        first: one set of tiles.
        second: the other.
        radius: bits by which they may differ; those within `SURE_RADIUS` are certain.
        workers: processes.
        target: whether the second set is a target, so that what is certain is a leak.
    """
    numbers: dict[bytes, int] = {}
    sets = []
    for side in (first, second):
        kept = [index for index, mark in enumerate(side.marks) if mark.looks]
        groups = [numbers.setdefault(side.marks[index].pixels or b"", len(numbers)) for index in kept]
        sets.append((kept, hashes([side.marks[index].looks or b"" for index in kept], groups)))
    (kept, one), (others, other) = sets
    whole, sure = alike(one, other, radius, workers), min(radius, SURE_RADIUS)
    found = []
    for least, most, doubt in ((0, sure, ""), (sure + 1, radius, ": perhaps duplicates")):
        near_by = alike(one, other, most, workers, least=least) if whole.pairs and least <= most else NONE_ALIKE
        note = f"perceptual hashes differ in {least} to {most} of {LOOKS_SIDE**2} bits{doubt}; look at the examples"
        sides, both = (first, second), (kept, others)
        found.append(_likeness("near duplicate", near_by, sides, both, note, certain=not doubt, target=target))
    return [finding for finding in found if finding]


def borders(first: Side, second: Side, workers: int) -> Finding | None:
    """Borders that continue one another, but for pairs with footprints, which say more; `ValueError` as by `near`."""
    found: list[Alike] = []
    placed = [[0 if there else -1 for there in side.placed] for side in (first, second)]
    for seam in _SEAMS:
        kept, sets = [], []
        for side, at, groups in zip((first, second), seam, placed, strict=True):
            kept.append([index for index, mark in enumerate(side.marks) if mark.borders[at]])
            given = [side.marks[index].borders[at] or b"" for index in kept[-1]]
            sets.append(hashes(given, [groups[index] for index in kept[-1]]))
        found.append(alike(sets[0], sets[1], BORDER_RADIUS, workers).renumbered(*kept))
    every = (list(range(len(first.marks))), list(range(len(second.marks))))
    return _likeness(
        "border",
        sum(found[1:], found[0]),
        (first, second),
        every,
        f"outermost lines differ in at most {BORDER_RADIUS} of {BORDER_BITS} bits: perhaps adjacent; look at them",
        certain=False,
        target=False,
    )


def _likeness(
    check: Check,
    found: Alike,
    sides: tuple[Side, Side],
    kept: tuple[Sequence[int], Sequence[int]],
    note: str,
    *,
    certain: bool,
    target: bool,
) -> Finding | None:
    if not found.pairs:
        return None
    return Finding(
        check=check,
        certain=certain,
        leak=certain and target,
        pairs=found.pairs,
        tiles=len(found.second),
        note=note,
        examples=tuple(
            Example(first=sides[0].label(kept[0][i]), second=sides[1].label(kept[1][j]), measure=bits)
            for bits, i, j in found.nearest
        ),
    )
