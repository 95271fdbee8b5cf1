"""Label maps: from the values or colours of official label files to class indices, kept as data files.

A map is `benchmarks/datasets/labels/NAME.csv`: one line per raw value with its official name and colour, the class it
becomes (or `ignore`), where that is laid down, and an evidence tag: V seen in an official source, P stated in the
paper, R recalled, C our choice.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.tasks import IGNORE, LabelHW

_FOLDER = Path(__file__).parents[1] / "datasets" / "labels"
_UNKNOWN = 254
_MOST_OFF_PALETTE = 0.01


@dataclass(frozen=True, kw_only=True)
class RawValue:
    """One raw value: its name and colour in the official legend, and the class it becomes (None: ignored)."""

    raw: int
    name: str
    colour: tuple[int, int, int]
    target: str | None


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """A total function from raw values, or their colours, to class indices.

    Args:
        name: of the data file.
        values: by raw value, from 0 without a gap.
        classes: class names in index order; each is reached.
    """

    name: str
    values: tuple[RawValue, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a map with gaps, unreachable classes, unknown targets or shared colours."""
        raws = [value.raw for value in self.values]
        assert raws == list(range(len(raws))), f"{self.name}: raw values must run from 0 without a gap"
        reached = {value.target for value in self.values if value.target}
        assert reached == set(self.classes), f"{self.name}: targets {reached} are not the classes {self.classes}"
        assert len({value.colour for value in self.values}) == len(raws), f"{self.name}: two values share a colour"

    def retarget(self, targets: Mapping[str, str]) -> LabelMap:
        """The same map with some raw values, by name, put into other classes of its own."""
        names = {value.name for value in self.values}
        assert targets.keys() <= names, f"{self.name}: no raw values {targets.keys() - names}"
        values = (replace(value, target=targets.get(value.name, value.target)) for value in self.values)
        return replace(self, values=tuple(values))

    def decode(self, label: npt.NDArray[np.uint8], where: object) -> tuple[LabelHW, int]:
        """Class indices [H, W] of a label raster, and how many pixels of unknown colour were ignored.

        Args:
            label: index values [H, W], or colours [H, W, 3].
            where: the file, for messages.

        Raises:
            ValueError: an index beyond the map, or more than 1 % of pixels in unknown colours.
        """
        if label.ndim == 3:
            return self._by_colour(label, where)
        if (highest := int(label.max(initial=0))) >= len(self.values):
            raise ValueError(
                f"{where} holds the value {highest}, expected 0 to {len(self.values) - 1} ({self.name}); "
                "use the official label files"
            )
        return self._table()[label], 0

    def _table(self) -> npt.NDArray[np.uint8]:
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[value.target] if value.target else IGNORE for value in self.values], dtype=np.uint8)

    def _by_colour(self, label: npt.NDArray[np.uint8], where: object) -> tuple[LabelHW, int]:
        table = np.full(1 << 24, _UNKNOWN, dtype=np.uint8)
        for value, target in zip(self.values, self._table(), strict=True):
            red, green, blue = value.colour
            table[red << 16 | green << 8 | blue] = target
        packed = label[..., 0].astype(np.uint32)
        for channel in (1, 2):  # in place: a scene has tens of millions of pixels
            packed <<= 8
            packed |= label[..., channel]
        decoded = table[packed]
        off = decoded == _UNKNOWN
        count = int(off.sum())
        if count > _MOST_OFF_PALETTE * decoded.size:
            row, col = np.argwhere(off)[0]
            colour = ",".join(map(str, label[row, col]))
            raise ValueError(
                f"{where}: {count} of {decoded.size} pixels have colours outside the legend (first: {colour}); "
                "use the official label files, not resampled or compressed with loss"
            )
        decoded[off] = IGNORE
        return decoded, count


@cache
def load_labels(name: str) -> LabelMap:
    """The label map of that name; classes are numbered in the order in which targets first appear."""
    with (_FOLDER / f"{name}.csv").open(newline="") as file:
        values = tuple(
            RawValue(
                raw=int(row["raw"]),
                name=row["name"],
                colour=(int(row["red"]), int(row["green"]), int(row["blue"])),
                target=None if row["target"] == "ignore" else row["target"],
            )
            for row in csv.DictReader(file)
        )
    return LabelMap(name=name, values=values, classes=tuple(dict.fromkeys(v.target for v in values if v.target)))
