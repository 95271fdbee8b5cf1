"""What goes on a contact sheet: tiles of each domain, their three bands for the eye, one stretch per domain.

Free of torch. `harness.contact_drawing` lays the sheet out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.prepared.manifest import BandFacts, DomainFacts
from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import IGNORE, DataSource, LabelHW, Reader, Sample, Task, TileRef
from harness.bands import nearest
from harness.stretch import limits
from harness.zoo import NIR, RGB

CANDIDATES = 8
"""Tiles looked at for each one shown."""

PERCENTILES = (2, 98)
"""Of the stretch."""

MOST_TILES = 12
"""Tiles of a domain side by side; more would be too small to see."""

_LABELLED, _OCCURS = 0.5, 0.01
_MIDDLE, _MOST_GAMMA = 0.4, 2.0
"""Brightness that a median is raised to, and the limit of that."""

_RED, _GREEN, _BLUE = zip(((600, 700), (500, 600), (420, 500)), RGB, strict=True)
_TRUE = (_RED, _GREEN, _BLUE)
_FALSE = (((750, 1000), NIR), _RED, _GREEN)
"""Lowest and highest centre in nanometres, and the best band, of what is shown as red, green and blue."""

Picture = npt.NDArray[np.float32]
"""[H, W, 3], 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Which bands of an image are shown as red, green and blue (indices), and whether that is how the eye sees them."""

    bands: tuple[int, int, int]
    true: bool


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """From digital numbers to brightness: black, white, and the exponent's inverse in between."""

    low: float
    high: float
    gamma: float

    def __call__(self, image: npt.NDArray[np.generic]) -> Picture:
        """An image of any type as 0 to 1."""
        linear = np.clip((image.astype(np.float32) - self.low) / (self.high - self.low), 0, 1)
        return np.asarray(linear ** (1 / self.gamma), dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One tile of the sheet: its picture and its classes."""

    tile: TileRef
    picture: Picture
    label: LabelHW


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One domain of the sheet.

    Args:
        domain: its name.
        side: `source` or `target`.
        sensor: its camera, for people.
        gsd: its ground sampling distance with unit; empty if not known.
        colours: what is shown, for people.
        stretch: from digital numbers to brightness.
        tiles: its tiles.
    """

    domain: str
    side: str
    sensor: str
    gsd: str
    colours: str
    stretch: Stretch
    tiles: tuple[Shown, ...]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All that is drawn."""

    title: str
    subtitle: str
    caption: str
    legend: Mapping[str, tuple[int, int, int]]
    panels: tuple[Panel, ...]

    @property
    def present(self) -> frozenset[int]:
        """Classes that occur in the tiles, `IGNORE` among them if some pixel has no label."""
        found = {value for panel in self.panels for shown in panel.tiles for value in np.unique(shown.label).tolist()}
        return frozenset(found)


def make_sheet(
    task: Task,
    source: DataSource,
    reader: Reader,
    facts: Mapping[str, Sequence[DomainFacts]],
    *,
    count: int,
    seed: int,
    note: str,
    on_domain: Callable[[], None],
) -> Sheet:
    """Choose tiles and turn them into pictures.

    Args:
        task: whose bands the images have.
        source: the supply of the tiles.
        reader: of the supply.
        facts: cameras of the domains, as far as known.
        count: tiles per domain.
        seed: another one shows other tiles.
        note: more to say of the data, for people.
        on_domain: called after each domain.

    Raises:
        ValueError: `count` is out of range, or the data are missing or defective.
    """
    if not 1 <= count <= MOST_TILES:
        raise ValueError(f"--tiles {count}: give 1 to {MOST_TILES}")
    panels = []
    for domain in (source.source, *source.targets):
        panels.append(_panel(task, source, domain, choose(reader, domain, count, seed), facts.get(domain, ())))
        on_domain()
    return Sheet(
        title=f"{task.name}: {task.title}",
        subtitle=", ".join(filter(None, (_subtitle(task, source), note))),
        caption=_caption(count, seed, reader.fingerprint, task.version, source.kind == "embedded"),
        legend=dict(zip(source.classes, source.palette, strict=True)),
        panels=tuple(panels),
    )


def _subtitle(task: Task, source: DataSource) -> str:
    if source.kind == "embedded":
        return f"synthetic mirror: {source.title}"
    return "" if source.title == task.title else source.title


def _caption(count: int, seed: int, fingerprint: str, version: int, synthetic: bool) -> str:
    rendered = "Rendered, not photographed. " if synthetic else ""
    return (
        f"{rendered}Per domain: above the images, below their labels. Images of one domain share one stretch, from "
        f"percentile {PERCENTILES[0]} to {PERCENTILES[1]} of all their pixels in the bands shown, and one gamma; each "
        "domain has its own, so that brightness cannot be compared between domains. "
        f"A domain's scenes are divided into up to {count} parts by name; each gives the tile with the most classes "
        f"of up to {CANDIDATES} drawn at random (seed {seed}). Class colours are the data set's own and not chosen "
        "for colour-blind readers; hatched: not labelled; names in grey: in none of these tiles. "
        f"Version {version} of the task, data {fingerprint}."
    )


def choose(reader: Reader, domain: str, count: int, seed: int) -> list[tuple[TileRef, Sample]]:
    """Tiles spread evenly over a domain's scenes, those preferred that are labelled and hold many classes."""
    by_scene: dict[str, list[TileRef]] = {}
    for tile in reader.tiles(domain):
        by_scene.setdefault(tile.scene, []).append(tile)
    rng = np.random.default_rng(seed)
    parts = np.array_split(np.array(sorted(by_scene), dtype=object), min(count, len(by_scene)))
    quotas = [len(part) for part in np.array_split(np.arange(count), len(parts))]
    chosen = []
    for scenes, quota in zip(parts, quotas, strict=True):
        tiles = [by_scene[scene][i] for scene in scenes for i in rng.permutation(len(by_scene[scene]))]
        drawn = [tiles[i] for i in rng.permutation(len(tiles))[: CANDIDATES * quota]]
        samples = sorted(((tile, reader.read(tile)) for tile in drawn), key=lambda pair: _worth(pair[1]), reverse=True)
        chosen += samples[:quota]
    return chosen


def _worth(sample: Sample) -> tuple[bool, int, float]:
    """Labelled at all, how many classes, how much of it."""
    counts = np.bincount(sample.label.reshape(-1), minlength=IGNORE + 1)[:IGNORE] / sample.label.size
    return bool(counts.sum() >= _LABELLED), int((counts >= _OCCURS).sum()), float(counts.sum())


def _panel(
    task: Task, source: DataSource, domain: str, samples: Sequence[tuple[TileRef, Sample]], facts: Sequence[DomainFacts]
) -> Panel:
    bands = facts[0].bands if facts else _bands(task)
    alike = all(fact.bands == bands for fact in facts)
    colours = find_colours([band.centre_nm for band in bands])
    stretch = find_stretch([sample.image[..., colours.bands] for _, sample in samples])
    return Panel(
        domain=domain,
        side="source" if domain == source.source else "target",
        sensor=" and ".join(dict.fromkeys(fact.sensor for fact in facts)) or source.sensors[domain],
        gsd=span([fact.gsd_m for fact in facts]),
        colours=_describe(bands, colours, wavelengths=alike),
        stretch=stretch,
        tiles=tuple(
            Shown(tile=tile, picture=stretch(sample.image[..., colours.bands]), label=sample.label)
            for tile, sample in samples
        ),
    )


def _bands(task: Task) -> tuple[BandFacts, ...]:
    return tuple(BandFacts(name=band.name, centre_nm=1000 * band.centre_um) for band in task.bands)


def span(metres: Sequence[float]) -> str:
    """Lengths as one text: `4 m`, `1.2-1.6 m`; empty for none."""
    ends = sorted({f"{length:g}" for length in (min(metres), max(metres))}, key=float) if metres else []
    return f"{'–'.join(ends)} m" if ends else ""


def find_colours(centres_nm: Sequence[float]) -> Colours:
    """The bands nearest to red, green and blue if all three are there; else NIR, R, G; else spread, longest first.

    Args:
        centres_nm: centres of the image's bands.
    """
    for wanted, true in ((_TRUE, True), (_FALSE, False)):
        found = [_nearest(centres_nm, *between, 1000 * best.centre_um) for between, best in wanted]
        if None not in found:
            red, green, blue = (index for index in found if index is not None)
            return Colours(bands=(red, green, blue), true=true)
    by_length = sorted(range(len(centres_nm)), key=lambda i: -centres_nm[i])
    last = len(by_length) - 1
    return Colours(bands=(by_length[0], by_length[(last + 1) // 2], by_length[last]), true=False)


def _nearest(centres_nm: Sequence[float], low: float, high: float, best: float) -> int | None:
    inside = [i for i, centre in enumerate(centres_nm) if low <= centre < high]
    return inside[nearest([centres_nm[i] for i in inside], best)] if inside else None


def _describe(bands: Sequence[BandFacts], colours: Colours, *, wavelengths: bool) -> str:
    """For people; cameras of one domain may differ in wavelengths."""
    names = [bands[i].name + (f" {bands[i].centre_nm:.0f} nm" if wavelengths else "") for i in colours.bands]
    if len(set(colours.bands)) == 1:
        return f"one band in grey ({names[0]})"
    return f"{'true' if colours.true else 'false'} colour ({', '.join(names)})"


def find_stretch(images: Sequence[npt.NDArray[np.generic]]) -> Stretch:
    """One stretch for several images [H, W, 3], by their pixels that are not zero in every band.

    Percentiles become black and white; what is darker than a picture should be is brightened, nothing is darkened.
    """
    values = np.concatenate([image[valid_pixels(image)].reshape(-1) for image in images])
    if not values.size:
        return Stretch(low=0, high=1, gamma=1)
    low, high = (float(value) for value in limits(values, *PERCENTILES))
    median = np.clip((float(np.median(values)) - low) / (high - low), 0.01, 0.99)
    gamma = float(np.clip(np.log(median) / np.log(_MIDDLE), 1, _MOST_GAMMA))
    return Stretch(low=low, high=high, gamma=round(gamma, 1))
