"""What a data set must say to be prepared: its scenes among the official files, and how to read one of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.prepared.labels import LabelMap, load_labels
from benchmarks.prepared.manifest import BandFacts, DomainFacts, DType
from benchmarks.prepared.raw import RawFile, RawTree
from benchmarks.tasks import ImageHWC, LabelHW, short_hash

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
class Need:
    """A file that is no part of the data set and that the user brings, by an option of `data prepare`.

    Args:
        option: name of the option, without dashes.
        what: what the file must be and where to get one, for people.
    """

    option: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One image with its label, as files, and what was found out about it without opening them.

    Args:
        name: of its folder and its tiles, unique within its domain.
        domain: where it belongs.
        image: the image file.
        label: its label file.
        others: files that are read with these two.
        region: administrative region or city, empty if not known.
        date: of acquisition, as `2019-07-13`, empty if not known.
        centre: longitude and latitude in degrees, WGS 84, if the region was found by them.
        notes: what was found on the way, for people.
        part_of: the manifest's scene, the unit of splits and intervals, where several images make one.
    """

    name: str
    domain: str
    image: RawFile
    label: RawFile
    others: tuple[RawFile, ...] = ()
    region: str = ""
    date: str = ""
    centre: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()
    part_of: str = ""

    @property
    def files(self) -> tuple[RawFile, ...]:
        """Every file it is made of."""
        return (self.image, self.label, *self.others)

    @property
    def unit(self) -> str:
        """The manifest's scene: `part_of`, or else the image itself."""
        return self.part_of or self.name


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
        needs: files that the user brings; `find` has them in the tree's `extras`, and what it learns from them must be
            in the scenes.
        remark: what to tell of the official files as a whole and to keep in the manifest, given the scenes found.
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
    needs: tuple[Need, ...] = ()
    remark: Callable[[RawTree, Choices, Sequence[Scene]], Sequence[str]] = lambda tree, choices, scenes: ()

    @property
    def label_map(self) -> LabelMap:
        """From raw label values to classes."""
        return load_labels(self.labels)

    def choose(self, given: Iterable[str]) -> dict[str, str]:
        """Every choice with its value: the default, or the one given as `name=value`.

        Raises:
            ValueError: an unknown name or value, of which the known ones are listed; two values of one name.
        """
        chosen = {choice.name: choice.values[0] for choice in self.choices}
        known = {choice.name: choice.values for choice in self.choices}
        told: dict[str, str] = {}
        for text in given:
            name, equals, value = text.partition("=")
            if not equals or name not in known:
                raise ValueError(f"--choose {text}: write name=value, with one of the names {', '.join(known)}")
            if value not in known[name]:
                raise ValueError(f"--choose {text}: {name} is one of {', '.join(known[name])}")
            if told.setdefault(name, value) != value:
                raise ValueError(f"--choose {text}: {name}={told[name]} was given too; give one of them")
        return chosen | told

    def check_extras(self, given: Mapping[str, Path]) -> None:
        """Compare the files that the user brings, by option, with those that are needed.

        Raises:
            ValueError: one lacks or is no file, or is of no use.
        """
        needed = {need.option: need.what for need in self.needs}
        for option, what in needed.items():
            if option not in given:
                raise ValueError(f"{self.task} needs --{option} FILE: {what}")
        for option, path in given.items():
            if option not in needed:
                raise ValueError(f"--{option} {path}: {self.task} needs no such file; leave it out")
            if not path.is_file():
                raise ValueError(f"--{option} {path} is no file; give {needed[option]}")


def made_of(recipe: Recipe, scenes: Iterable[Scene], choices: Choices, tile_px: int) -> str:
    """Hash of all that makes tiles: recipe and its version, choices, tile size, files by path and size, and facts."""
    ordered = sorted(scenes, key=lambda scene: (scene.domain, scene.name))
    listing = [[file.where, file.size] for scene in ordered for file in scene.files]
    text = json.dumps([recipe.task, recipe.version, sorted(choices.items()), tile_px, listing, learnt(ordered)])
    return short_hash(text)


def learnt(scenes: Iterable[Scene]) -> str:
    """Hash of what is known of scenes beside their pixels."""
    facts = [
        [scene.name, scene.domain, scene.region, scene.date, scene.centre, scene.notes, scene.unit] for scene in scenes
    ]
    return short_hash(json.dumps(facts))


def region_table(scenes: Iterable[Scene]) -> str:
    """Scenes whose region was found by their place, as CSV: stem, lon, lat, region, domain, notes; empty if none."""
    placed = sorted((scene for scene in scenes if scene.centre), key=lambda scene: scene.name)
    rows = [
        (scene.name, *(f"{x:.6f}" for x in scene.centre or ()), scene.region, scene.domain, "; ".join(scene.notes))
        for scene in placed
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("stem", "lon", "lat", "region", "domain", "notes"), *rows])
    return text.getvalue() if rows else ""


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
