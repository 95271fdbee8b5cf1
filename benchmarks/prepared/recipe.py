"""What a data set must say to be prepared: its scenes among the official files, and how to read one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.prepared.labels import LabelMap, load_labels
from benchmarks.prepared.manifest import BandFacts, DomainFacts, DType
from benchmarks.prepared.raw import RawFile, RawTree
from benchmarks.tasks import ImageHWC, LabelHW

Choices = Mapping[str, str]
"""Name of a choice to the value that was chosen."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A question that the published protocol leaves open: the answers known (the first is the default), and why."""

    name: str
    values: tuple[str, ...]
    why: str


EDGES = ("pad", "shift", "drop")
"""What happens to the last row and column of tiles: filled, moved inwards over the one before, or left out."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image with its label, as files; `region` where it is known."""

    name: str
    domain: str
    image: RawFile
    label: RawFile
    region: str = ""


class Place(Protocol):
    """Where a scene lies on the ground."""

    @property
    def method(self) -> str:
        """How that is known, as in the manifest's `georef`."""

    def footprint(self, row: int, col: int, height: int, width: int) -> tuple[tuple[float, float], ...]:
        """Corners of a rectangle of the image file: longitude and latitude in degrees, WGS 84, from the upper left."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """A scene as read: what is to be cut into tiles.

    Args:
        image: [H, W, bands] in the domain's band order.
        label: [H, W], class indices or `IGNORE`.
        origin: row and column of its upper left pixel in the image file.
        place: where it lies, if known.
        notes: what was found on the way, for people.
    """

    image: ImageHWC
    label: LabelHW
    origin: tuple[int, int] = (0, 0)
    place: Place | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a source says of some domains together: numbers of scenes and of 512-pixel tiles, as lowest and highest."""

    domains: tuple[str, ...]
    says: str
    scenes: tuple[int, int] | None = None
    tiles: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """From official files to tiles, for one task.

    Args:
        task: name of the task.
        version: rises whenever the tiles it makes change.
        domains: their facts, by name.
        labels: name of the label map.
        choices: the open questions.
        find: the scenes among the official files, given the choices. Raises `ValueError` where files are missing.
        read: one scene's pixels, given the choices. Raises `ValueError` for defects.
        expect: what the paper and the released schedule say, given the choices.
        dtype: of the pixels that `read` gives.
    """

    task: str
    version: int
    domains: Mapping[str, DomainFacts]
    labels: str
    choices: tuple[Choice, ...]
    find: Callable[[RawTree, Choices], Sequence[Scene]]
    read: Callable[[Scene, Choices], Pixels]
    expect: Callable[[Choices], Sequence[Expected]]
    dtype: DType = "uint8"

    @property
    def label_map(self) -> LabelMap:
        """From raw label values to classes."""
        return load_labels(self.labels)

    def choose(self, given: Iterable[str]) -> dict[str, str]:
        """Every choice with its value: the default, or the one given as `name=value`.

        Raises:
            ValueError: an unknown name or value; the known ones are listed.
        """
        chosen = {choice.name: choice.values[0] for choice in self.choices}
        known = {choice.name: choice.values for choice in self.choices}
        for text in given:
            name, equals, value = text.partition("=")
            if not equals or name not in known:
                raise ValueError(f"--choose {text}: write name=value, with one of the names {', '.join(known)}")
            if value not in known[name]:
                raise ValueError(f"--choose {text}: {name} is one of {', '.join(known[name])}")
            chosen[name] = value
        return chosen


def made_of(recipe: Recipe, files: Iterable[RawFile], choices: Choices, tile_px: int) -> str:
    """Hash of all that makes tiles: recipe and its version, choices, tile size, files by path and size."""
    listing = [[file.where, file.size] for file in files]
    text = json.dumps([recipe.task, recipe.version, sorted(choices.items()), tile_px, listing])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bands(**facts: float | tuple[float, float]) -> tuple[BandFacts, ...]:
    """Bands in order, each by its name and its centre, or centre and width, in nanometres."""
    return tuple(
        BandFacts(name=name, centre_nm=fact[0], fwhm_nm=fact[1])
        if isinstance(fact, tuple)
        else BandFacts(name=name, centre_nm=fact)
        for name, fact in facts.items()
    )


def check_pair(scene: Scene, image: npt.NDArray[np.generic], label: npt.NDArray[np.generic]) -> None:
    """Raise `ValueError` unless a scene's image and label have one size."""
    if image.shape[:2] != label.shape[:2]:
        (height, width), (rows, cols) = image.shape[:2], label.shape[:2]
        raise ValueError(
            f"{scene.label} has {cols} x {rows} pixels, but its image {scene.image} {width} x {height} "
            "(width x height); use the official pair"
        )
