"""What a task file says: a user's own bands, classes and domains, and where their files lie; checked.

The file is TOML; docs/datasets.md, section "Your own sensor", describes it with an example.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from benchmarks.catalogue import TASKS
from benchmarks.prepared.manifest import BandFacts, DomainFacts
from benchmarks.tasks import IGNORE

RESERVED = ("source_val", "target")
"""Names under which records keep scores beside those of the domains."""

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]
_Text = Annotated[str, StringConstraints(min_length=1)]
_Channel = Annotated[int, Field(ge=0, le=255)]
_FORBID = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class BandEntry:
    """One `[[bands]]`: centre and full width at half maximum in micrometres."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    name: _Name
    centre_um: Annotated[float, Field(ge=0.1, le=100)]
    fwhm_um: Annotated[float, Field(gt=0, le=100)] | None = None


@dataclass(frozen=True, kw_only=True)
class ClassEntry:
    """One `[[classes]]`: its name, the values that label files have for it, its colour in figures."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    name: _Text
    values: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    colour: tuple[_Channel, _Channel, _Channel]


@dataclass(frozen=True, kw_only=True)
class DomainEntry:
    """`[source]`, or one of `[[targets]]`.

    Args:
        name: of the domain.
        images: a folder, read at any depth, or a glob, below the data root.
        labels: likewise.
        gsd_m: ground sampling distance in metres.
        sensor: for people; the name if empty.
        scene: a regular expression; its first group, found in a file's path below the folder and without suffix,
            names the scene. Empty: every file is a scene of its own.
        pair: a regular expression, applied likewise; an image and a label with the same first group are a pair. Empty:
            those of the same path.
        file_bands: for each band of the task its position in the image files, counted from 1; empty: the files hold
            the task's bands in its order.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    name: _Name
    images: _Text
    labels: _Text
    gsd_m: Annotated[float, Field(gt=0)]
    sensor: str = ""
    scene: str = ""
    pair: str = ""
    file_bands: tuple[Annotated[int, Field(ge=1)], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What the file says.

    Args:
        name: of the task; not one of ours.
        title: for the heading of tables.
        version: raise it when pixels change in files that keep their name and size.
        dtype: of the image files; `int16` is read as float32.
        bands: in the order in which models see them.
        classes: in index order.
        source: the domain to train on.
        targets: the domains to test on.
        ignore: label values that count nowhere.
        nodata: image value of pixels without data; such a pixel becomes zero in all bands and counts nowhere.
        licence: for people.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID

    name: _Name
    title: _Text
    version: Annotated[int, Field(ge=1)]
    dtype: Literal["uint8", "uint16", "int16", "float32"]
    bands: Annotated[tuple[BandEntry, ...], Field(min_length=1)]
    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=2, max_length=IGNORE - 1)]
    source: DomainEntry
    targets: Annotated[tuple[DomainEntry, ...], Field(min_length=1)]
    ignore: tuple[int, ...] = ()
    nodata: float | None = None
    licence: str = ""

    @property
    def domains(self) -> tuple[DomainEntry, ...]:
        """The source, then the targets."""
        return (self.source, *self.targets)

    def numbers(self) -> tuple[Any, ...]:
        """What of it can change a number, beside the files that it leads to."""
        return (
            self.dtype,
            [(band.name, band.centre_um) for band in self.bands],
            [(entry.name, sorted(entry.values)) for entry in self.classes],
            sorted(set(self.ignore)),
            self.nodata,
            [(domain.name, domain.file_bands) for domain in self.domains],
        )

    def facts(self) -> dict[str, tuple[DomainFacts, ...]]:
        """Sensor, ground sampling distance and bands of each domain."""
        bands = tuple(
            BandFacts(
                name=band.name,
                centre_nm=round(1000 * band.centre_um, 6),
                fwhm_nm=None if band.fwhm_um is None else round(1000 * band.fwhm_um, 6),
            )
            for band in self.bands
        )
        return {
            domain.name: (
                DomainFacts(
                    side="source" if domain is self.source else "target",
                    sensor=domain.sensor or domain.name,
                    gsd_m=domain.gsd_m,
                    bands=bands,
                ),
            )
            for domain in self.domains
        }

    def complaints(self) -> Iterator[str]:
        """What no single field can tell, each as `key: what is wrong; remedy`."""
        if self.name in TASKS:
            yield f"name = {self.name!r}: a built-in task has this name; choose another"
        yield from _twice("bands", "name", (band.name for band in self.bands))
        yield from _twice("classes", "name", (entry.name for entry in self.classes))
        labels = [value for entry in self.classes for value in entry.values]
        yield from _twice("classes", "value", [*labels, *dict.fromkeys(self.ignore)])
        yield from _twice("source and targets", "name", (domain.name for domain in self.domains))
        if not _holds(self.dtype, self.nodata):
            yield f"nodata = {self.nodata:g}: no value of type {self.dtype}; give one, or remove the key"
        for place, domain in self._placed():
            if domain.name in RESERVED:
                yield f"{place}.name = {domain.name!r}: records use this name themselves; choose another"
            if domain.file_bands and len(domain.file_bands) != len(self.bands):
                yield (
                    f"{place}.file_bands = {list(domain.file_bands)}: {len(domain.file_bands)} positions for "
                    f"{len(self.bands)} bands; give one for each band of the task"
                )
            for key in ("scene", "pair"):
                yield from _pattern(f"{place}.{key}", getattr(domain, key))

    def _placed(self) -> list[tuple[str, DomainEntry]]:
        return [("source", self.source), *((f"targets.{i}", domain) for i, domain in enumerate(self.targets, 1))]


def _holds(dtype: str, value: float | None) -> bool:
    """Whether pixels of the type can have the value."""
    if value is None or dtype == "float32":
        return True
    limits = np.iinfo(dtype)
    return value.is_integer() and limits.min <= value <= limits.max


def _twice(where: str, key: str, values: Iterable[object]) -> Iterator[str]:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            also = " (or both of a class and in `ignore`)" if key == "value" else ""
            yield f"{where}: the {key} {value!r} stands there twice{also}; each must be its own"
        seen.add(value)


def _pattern(where: str, text: str) -> Iterator[str]:
    try:
        groups = re.compile(text).groups
    except re.error as error:
        yield f"{where} = {text!r}: no regular expression ({error}); mend it"
        return
    if text and not groups:
        yield f"{where} = {text!r}: it has no group; put round brackets around the part that counts"


def load_definition(path: Path) -> Definition:
    """What a task file says, checked. Raises `ValueError` as `load_task`."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"task file {path} cannot be read ({error.strerror}): give --task path/to/task.toml"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"task file {path} is no TOML ({error}); mend it (docs/datasets.md has an example)") from error
    try:
        definition = TypeAdapter(Definition).validate_python(given)
    except ValidationError as error:
        # a key that is misspelt comes before the one that is missing for it
        found = sorted(error.errors(), key=lambda problem: problem["type"] not in _UNKNOWN)
        problems = [_explain(dict(problem)) for problem in found]
    else:
        problems = list(definition.complaints())
        if not problems:
            return definition
    more = f" ({len(problems) - 1} more of this file after it)" if len(problems) > 1 else ""
    raise ValueError(f"task file {path}: {problems[0]}{more}")


_HINTS = {
    "centre_um": "micrometres, 0.1 to 100: 490 nm is 0.49",
    "fwhm_um": "micrometres, the full width at half maximum",
    "gsd_m": "metres per pixel, above 0",
    "colour": "three numbers from 0 to 255, as in [0, 0, 200]",
    "values": "a list of whole numbers, as in [1]",
    "dtype": "uint8, uint16, int16 or float32",
    "version": "a whole number from 1",
    "ignore": "a list of whole numbers, as in [0, 255]",
    "nodata": "a number, nan included",
    "file_bands": "positions in the file from 1, one per band, as in [4, 3, 2]",
    "name": "up to 40 letters, digits, _ and -, beginning with a letter or digit",
    "images": 'a folder or glob, as in "drone/images"',
    "labels": 'a folder or glob, as in "drone/labels"',
    "targets": "at least one [[targets]]",
    "bands": "at least one [[bands]]",
    "classes": f"from 2 to {IGNORE - 1} [[classes]]",
}
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_TABLES: dict[str, type] = {"bands": BandEntry, "classes": ClassEntry, "source": DomainEntry, "targets": DomainEntry}


def _explain(problem: dict[str, Any]) -> str:
    """One of pydantic's complaints in our words; entries of lists are counted from 1."""
    parts = [part for part in problem["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in parts)
    last = next((part for part in reversed(parts) if isinstance(part, str)), "")
    if problem["type"] in _UNKNOWN:
        known = [field.name for field in fields(_TABLES.get(str(parts[0]), Definition) if parts[1:] else Definition)]
        near = difflib.get_close_matches(last, known, n=1)
        guess = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"{key} is unknown; {guess}"
    hint = _HINTS.get(last, "see docs/datasets.md")
    if problem["type"] in ("missing", "missing_argument"):
        return f"{key} is missing; give {hint}"
    value = problem["input"]
    shown = "nan" if isinstance(value, float) and math.isnan(value) else repr(value)
    return f"{key} = {shown[:80]}: {problem['msg'][0].lower()}{problem['msg'][1:]}; give {hint}"
