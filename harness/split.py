"""Which tiles train, which validate, which are targets. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tasks import Reader, TileRef

SOURCE_VAL = "source_val"
TARGET = "target"
"""The names under which held-out source tiles, and all target tiles together, are scored."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The tiles of one trial: source training, source validation, and each target domain."""

    train: tuple[TileRef, ...]
    source_val: tuple[TileRef, ...]
    targets: dict[str, tuple[TileRef, ...]]

    @property
    def evaluated(self) -> dict[str, tuple[TileRef, ...]]:
        """Tiles by the name they are scored under: `source_val` first, then the targets in order."""
        return {SOURCE_VAL: self.source_val, **self.targets}

    @property
    def tiles(self) -> tuple[TileRef, ...]:
        """Every tile the trial reads."""
        return self.train + tuple(tile for tiles in self.evaluated.values() for tile in tiles)


def split_tiles(reader: Reader, source: str, targets: Sequence[str], max_tiles: int) -> Split:
    """Split the source by scene: every tenth scene (at least one) validates and is never trained on.

    Raises:
        ValueError: the source has fewer than two scenes, or a target has no tiles.
    """
    tiles = reader.tiles(source)
    scenes = sorted({tile.scene for tile in tiles})
    if len(scenes) < 2:
        raise ValueError(
            f"source domain {source} has {len(scenes)} scene(s): one must be held out for validation, so give at "
            f"least two"
        )
    count = max(1, round(len(scenes) / 10))
    # spread over the sorted names, so that no sensor unit or region is held out as a block
    held = {scenes[(2 * i + 1) * len(scenes) // (2 * count)] for i in range(count)}
    by_domain = {domain: reader.tiles(domain) for domain in targets}
    for domain, found in by_domain.items():
        if not found:
            raise ValueError(f"target domain {domain} has no tiles: complete the data folder")
    return Split(
        train=spread([tile for tile in tiles if tile.scene not in held], max_tiles),
        source_val=spread([tile for tile in tiles if tile.scene in held], max_tiles),
        targets={domain: spread(found, max_tiles) for domain, found in by_domain.items()},
    )


def spread(tiles: Sequence[TileRef], most: int) -> tuple[TileRef, ...]:
    """At most so many tiles, evenly over the list; 0 for all."""
    if not most or len(tiles) <= most:
        return tuple(tiles)
    return tuple(tiles[i * len(tiles) // most] for i in range(most))
