"""What there is to know of a task before any of its files is here. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks.prepared.manifest import DomainFacts
from benchmarks.prepared.recipe import Expected, Recipe
from benchmarks.recipes import RECIPES, load_recipe
from benchmarks.tasks import DataSource, Described, Task
from harness.contact_sheet import Sheet, span
from harness.lookup import find_scale
from harness.screen import console, show_listing


def task_facts(task: Task, source: DataSource) -> Mapping[str, Sequence[DomainFacts]]:
    """Cameras of a task's domains, by what it says itself, how it is rendered, or its recipe; empty if none tells."""
    if isinstance(source, Described):
        return source.facts
    if source.kind == "embedded":
        scenes = find_scale("mini").scenes
        assert scenes is not None, "the mini scale renders"
        reader = source.open(scenes)
        return reader.facts if isinstance(reader, Described) else {}
    recipe = _recipe(task)
    return {name: (facts,) for name, facts in recipe.domains.items()} if recipe else {}


def _recipe(task: Task) -> Recipe | None:
    return load_recipe(task.name) if task.name in RECIPES else None


def show_task(task: Task, given: str) -> None:
    """All of it; `given` is how the user named the task."""
    _say(f"[bold]{escape(task.name)}[/bold]: {escape(task.title)} (version {task.version})")
    for source in (task.files, task.embedded):
        if source:
            _show_source(task, source)
    recipe = _recipe(task)
    if recipe:
        _show_recipe(recipe)
    _show_ways(task, given, recipe)


def _show_source(task: Task, source: DataSource) -> None:
    kind = "synthetic mirror" if source.kind == "embedded" else "files"
    _say(f"\n[bold]{kind}[/bold]: {escape(source.title)}")
    facts = task_facts(task, source)
    show_listing(
        "domains",
        [
            {
                "domain": domain,
                "side": "source" if domain == source.source else "target",
                "sensor": " and ".join(dict.fromkeys(fact.sensor for fact in facts.get(domain, ())))
                or source.sensors[domain],
                "GSD": span([fact.gsd_m for fact in facts.get(domain, ())]) or "not known here",
            }
            for domain in (source.source, *source.targets)
        ],
    )
    show_listing("bands in the order of the task, nm (± FWHM / 2)", _band_rows(task, facts))
    _show_classes(source)


def _band_rows(task: Task, facts: Mapping[str, Sequence[DomainFacts]]) -> list[dict[str, object]]:
    """One row per band; one column for each list of bands, named after the domains that have it."""
    serves: dict[tuple[str, ...], list[str]] = {}
    for domain, cameras in facts.items():
        several = len({camera.bands for camera in cameras}) > 1  # of one domain
        for camera in cameras:
            bands = tuple(_band(band.name, band.centre_nm, band.fwhm_nm) for band in camera.bands)
            title = f"{domain} ({camera.sensor})" if several else domain
            if title not in serves.setdefault(bands, []):
                serves[bands].append(title)
    return [
        {
            "": number,
            "task": _band(band.name, 1000 * band.centre_um, None),
            **{", ".join(titles): bands[number - 1] for bands, titles in serves.items() if number <= len(bands)},
        }
        for number, band in enumerate(task.bands, 1)
    ]


def _band(name: str, centre: float, width: float | None) -> str:
    return f"{name} {centre:g}" + (f" ± {width / 2:g}" if width else "")


def _show_classes(source: DataSource) -> None:
    table = Table("", "", "class", "colour", title="classes", title_justify="left", box=None)
    for index, (name, colour) in enumerate(zip(source.classes, source.palette, strict=True)):
        red, green, blue = colour
        swatch = Text("██", style=f"rgb({red},{green},{blue})")
        table.add_row(str(index), swatch, escape(name), f"#{red:02x}{green:02x}{blue:02x}")
    console.print(table)


def _show_recipe(recipe: Recipe) -> None:
    _say(f"\n[bold]preparing[/bold] (recipe version {recipe.version})")
    rows = [
        {
            "choice": choice.name,
            "default": choice.values[0],
            "other answers": ", ".join(choice.values[1:]),
            "why it is open": choice.why,
        }
        for choice in recipe.choices
    ]
    show_listing("choices (change with --choose name=value)", rows)
    show_listing("expected counts, at the default choices", [_count(row) for row in recipe.expect(recipe.choose([]))])


def _count(expected: Expected) -> dict[str, object]:
    return {
        "domains": ", ".join(expected.domains),
        "scenes": _between(expected.scenes),
        "tiles of 512 px": _between(expected.tiles),
        "says": expected.says,
    }


def _between(limits: tuple[int, int] | None) -> str:
    if limits is None:
        return ""
    return f"{limits[0]:,}" if limits[0] == limits[1] else f"{limits[0]:,} to {limits[1]:,}"


def _show_ways(task: Task, given: str, recipe: Recipe | None) -> None:
    console.print()
    if task.files:
        _say(f"licence: {escape(task.files.licence)}")
        _say(f"obtain: {escape(task.files.obtain)}")
    if recipe:
        _say(f"prepare: python run.py data prepare {escape(given)} --raw DOWNLOADS --out DATA")
        _say(f"train: python run.py --suite all --task {escape(given)} --data-root DATA")
    elif task.files and task.files.home:
        _say(f"files: read as they are, below {escape(str(task.files.home))} or --data-root; nothing to prepare")
        _say(f"check: python run.py data verify {escape(given)}")
        _say(f"train: python run.py --suite all --task {escape(given)}")
    else:
        _say("prepare: there is no recipe for its official files yet; the synthetic mirror runs without any")
        _say(f"train: python run.py --suite all --task {escape(given)}")


def show_sheet(sheet: Sheet, path: Path) -> None:
    """Which tiles a contact sheet shows, and where it is."""
    rows = [{"domain": panel.domain, "tiles": ", ".join(s.tile.name for s in panel.tiles)} for panel in sheet.panels]
    show_listing("tiles from left to right", rows)
    _say(f"contact sheet: {escape(str(path))}")


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
