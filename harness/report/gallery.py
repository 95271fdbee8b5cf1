"""What attachments show: the same target tiles through every method, and which expert serves which patch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.records import Arrays, Record
from harness.report.drawings import load
from harness.report.findings import Comparison, Findings, Row
from harness.report.parts import NOTHING, Choice, Choices, Column, Legend, Note, Part, Picture, Plot, Section, Strip
from harness.report.pictures import (
    PIXELS,
    RIGHT,
    UNLABELLED,
    WRONG,
    Colour,
    css,
    error_map,
    label_map,
    palette_of,
    photo,
    share_wrong,
    spread_colours,
)

log = logging.getLogger(__name__)

METHODS = 16
"""At most so many methods side by side."""
TILES = 6
"""At most so many tiles of a task and backbone."""
BYTES = 8_000_000
"""All pictures of tiles together; every task and backbone has the same share, which leaves out tiles beyond it."""
ROUTED, ROUTED_TILES, LAYERS = 4, 3, 8
"""At most so many methods with maps of experts, tiles of each, and layers."""

_SMALL = 128  # pixels a side of the tile beside maps of experts

Tile = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Which expert serves which patch, in one trial: its tiles and their arrays, without the pixels of predictions."""

    row: Row
    record: Record
    tiles: Sequence[Mapping[str, str]]
    arrays: Arrays


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the attachments of a comparison show.

    Args:
        tiles: a choice for each tile.
        routing: of the first methods that let it be seen.
        problems: what could not be shown, and why.
    """

    tiles: Sequence[Choice]
    routing: Sequence[Routing]
    problems: Sequence[str]


def hang(found: Findings) -> dict[str, Gallery]:
    """Read the attachments of every comparison, one after the other; by the comparison's slug."""
    return {c.slug: _gallery(c, found, BYTES // len(found.comparisons)) for c in found.comparisons}


def _gallery(comparison: Comparison, found: Findings, budget: int) -> Gallery:
    palette = palette_of(comparison.task, comparison.first.inputs["data"], comparison.first.result["classes"])
    columns: dict[Tile, list[Column]] = {}
    routing: list[Routing] = []
    problems: list[str] = []
    for i, row in enumerate(comparison.rows):
        record = row.records[0]
        if i >= METHODS and len(routing) >= ROUTED:
            break
        try:
            arrays = found.store.attachment(record, "panels")
        except ValueError as error:
            log.warning("%s", error)
            problems.append(f"{row.title}: {error}")
            continue
        tiles = record.result["panels"]
        if i < METHODS:
            _show(columns, row, tiles, arrays, palette)
        if len(routing) < ROUTED and any("/most/" in name for name in arrays):
            kept = {n: a for n, a in arrays.items() if "/most/" in n or n.startswith("share/") or n.endswith("/image")}
            routing.append(Routing(row=row, record=record, tiles=tiles, arrays=kept))
    if len(comparison.rows) > METHODS:
        left = ", ".join(row.title for row in comparison.rows[METHODS:])
        problems.append(f"Without pictures, beyond {METHODS} methods: {left}.")
    choices, left_out = _within(columns, comparison, budget)
    if left_out:
        problems.append(f"{left_out} tile(s) left out to keep the file small.")
    return Gallery(tiles=choices, routing=routing, problems=problems)


def _show(
    columns: dict[Tile, list[Column]],
    row: Row,
    tiles: Sequence[Mapping[str, str]],
    arrays: Arrays,
    palette: Sequence[Colour],
) -> None:
    """Add a method's column to every tile, and to a new tile what is the same for all methods."""
    for i, names in enumerate(tiles[:TILES]):
        truth, prediction = arrays[f"{i}/truth"], arrays[f"{i}/prediction"]
        tile = (names["domain"], names["scene"], names["name"])
        if tile not in columns:
            image = Picture(uri=photo(arrays[f"{i}/image"]), alt=f"Input tile {tile[2]}", label="input")
            label = Picture(uri=label_map(truth, palette), alt=f"True classes of tile {tile[2]}", label="truth")
            columns[tile] = [Column(title="Tile", pictures=(image, label))]
        wrong = share_wrong(truth, prediction)
        told = "nothing labelled" if wrong != wrong else f"{wrong:.0%} wrong"
        seed = row.records[0].inputs["seed"]
        mapped = Picture(
            uri=label_map(prediction, palette),
            alt=f"Classes that {row.title} predicts, seed {seed}",
            label="prediction",
        )
        errors = Picture(
            uri=error_map(truth, prediction), alt=f"Errors of {row.title}: {told} of labelled pixels", label=told
        )
        columns[tile].append(Column(title=row.title, pictures=(mapped, errors)))


def _within(columns: Mapping[Tile, Sequence[Column]], comparison: Comparison, budget: int) -> tuple[list[Choice], int]:
    """Tiles as choices, as long as they fit; the first one always does."""
    sensors = comparison.labels["domains"]
    choices: list[Choice] = []
    spent = 0
    for (domain, _, name), found in columns.items():
        spent += sum(len(picture.uri) for column in found for picture in column.pictures)
        if choices and spent > budget:
            continue
        title = f"{sensors.get(domain, domain)} · {name}"
        choices.append(Choice(title=title, parts=[Strip(caption=f"{comparison.title}: {title}.", columns=found)]))
    return choices, len(columns) - len(choices)


def panels(found: Findings, galleries: Mapping[str, Gallery]) -> Section:
    """The same tiles through every method."""
    options = []
    for comparison in found.comparisons:
        gallery = galleries[comparison.slug]
        colours = palette_of(comparison.task, comparison.first.inputs["data"], comparison.first.result["classes"])
        named = [(css(c), str(n)) for c, n in zip(colours, comparison.first.result["classes"], strict=True)]
        unlabelled = (css(UNLABELLED), "unlabelled")
        shown: list[Part] = [
            Choices(label="Tile", options=gallery.tiles),
            Legend(title="Classes", items=[*named, unlabelled]),
            Legend(title="Errors", items=[(css(RIGHT), "right"), (css(WRONG), "wrong"), unlabelled]),
        ]
        problems = [Note(text=problem, warning=True) for problem in gallery.problems]
        options.append(Choice(title=comparison.title, parts=[*(shown if gallery.tiles else []), *problems]))
    return Section(
        slug="panels",
        title="Predictions on the same tiles",
        lead=(
            f"Target tiles with input, truth, and each method's classes and errors (lowest seed, checkpoint chosen on "
            f"the source). Tiles are chosen by the data alone, and for their many classes, so they are harder than "
            f"most: look here for how methods fail, not for how often. At most {TILES} tiles and {METHODS} methods of "
            f"a task and backbone, {PIXELS} px a side, {BYTES / 1e6:.0f} MB in all; bands are stretched for the eye."
        ),
        parts=[Choices(label="Task and backbone", options=options)] if options else [Note(text=NOTHING)],
    )


def routing(found: Findings, galleries: Mapping[str, Gallery]) -> Section:
    """Maps of experts and their load."""
    options = [
        Choice(title=f"{c.title} · {route.row.title}", parts=_routed(f"{c.slug}-{i}", route))
        for c in found.comparisons
        for i, route in enumerate(galleries[c.slug].routing)
    ]
    nothing = Note(text="No trial of a method that sends tokens to experts: no routing maps.")
    return Section(
        slug="routing",
        title="Which expert serves which patch",
        lead=(
            f"For methods that share work among experts: the expert with the largest share at every patch, layer by "
            f"layer, and each expert's mean share over all tiles looked at (lowest seed only: which expert is number 0 "
            f"differs from seed to seed, so do not compare colours between trials or layers). Equal loads do not prove "
            f"that experts differ, nor a pattern that it helps. At most {ROUTED} methods, {ROUTED_TILES} tiles and "
            f"{LAYERS} layers, spread evenly."
        ),
        parts=[Choices(label="Trial", options=options)] if options else [nothing],
        numbers=bool(options),
    )


def _routed(slug: str, route: Routing) -> list[Part]:
    groups = _groups(route.arrays)
    experts = max(len(route.arrays[name]) for name in route.arrays if name.startswith("share/"))
    colours = spread_colours(experts)
    numbered = [(css(colour), str(expert)) for expert, colour in enumerate(colours)]
    shares = {
        group: np.stack([route.arrays[f"share/{name}"] for name in names]).astype(np.float64)
        for group, names in groups.items()
    }
    layers = {group: [_layer(name) for name in names] for group, names in groups.items()}
    even = ", ".join(f"{100 / share.shape[1]:.0f}" for share in shares.values())
    told = "; ".join(
        f"{group}, layer {layer}: " + ", ".join(f"{100 * s:.0f}" for s in share)
        for group, share_LE in shares.items()
        for layer, share in zip(layers[group], share_LE, strict=True)
    )
    svg = load(shares, layers, f"Share of each expert in percent. {told}", f"load-{slug}")
    return [
        Choices(label="Tile", options=_tiles(route, groups, colours)),
        Legend(title="Expert", items=numbered),
        Plot(caption=f"Expert load in % of a layer's tokens; equal shares: {even}.", svg=svg, name=f"load-{slug}"),
    ]


def _tiles(route: Routing, groups: Mapping[str, Sequence[str]], colours: Sequence[Colour]) -> list[Choice]:
    sensors = route.record.result["labels"]["domains"]
    choices = []
    for i, names in enumerate(route.tiles[:ROUTED_TILES]):
        image = Picture(uri=photo(route.arrays[f"{i}/image"], _SMALL), alt=f"Input tile {names['name']}", label="input")
        depth = max(len(layers) for layers in groups.values())
        columns = [Column(title="Tile", pictures=(image,))]
        for at in _spread(depth):
            column = [
                _expert_map(group, _layer(layers[at]), route.arrays[f"{i}/most/{layers[at]}"], colours)
                for group, layers in groups.items()
                if at < len(layers)
            ]
            columns.append(Column(title=f"Layer {_layer(next(iter(groups.values()))[at])}", pictures=column))
        title = f"{sensors.get(names['domain'], names['domain'])} · {names['name']}"
        caption = f"{title}: the expert with the largest share at each patch."
        choices.append(Choice(title=title, parts=[Strip(caption=caption, columns=columns, small=True)]))
    return choices


def _expert_map(group: str, layer: str, most_HW: npt.NDArray[np.uint8], colours: Sequence[Colour]) -> Picture:
    experts, counts = np.unique(most_HW, return_counts=True)
    busiest = int(experts[counts.argmax()])
    alt = f"{group}, layer {layer}: expert {busiest} leads on {counts.max() / most_HW.size:.0%} of the patches"
    return Picture(uri=label_map(most_HW, colours), alt=alt, label=group)


def _groups(arrays: Arrays) -> dict[str, list[str]]:
    """Names of what was observed, by all but their layer, in the order of the layers."""
    groups: dict[str, list[str]] = {}
    for name in sorted((n.removeprefix("share/") for n in arrays if n.startswith("share/")), key=_place):
        groups.setdefault(name.rpartition("/")[0] or "tokens", []).append(name)
    return groups


def _place(name: str) -> tuple[str, int, str]:
    group, _, layer = name.rpartition("/")
    return group, int(layer) if layer.isdigit() else 0, layer


def _layer(name: str) -> str:
    return name.rpartition("/")[2]


def _spread(depth: int) -> list[int]:
    """Layers to show, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, depth - 1, min(depth, LAYERS)).tolist()})
