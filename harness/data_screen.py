"""What the user sees of data sets: choices, counts, faults and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from benchmarks.prepared.manifest import Manifest
from benchmarks.prepared.recipe import Expected
from benchmarks.tasks import Task
from harness.band_tables import show_by_band
from harness.bench_setup import DataSetup
from harness.counts import counted
from harness.data_statistics import DomainStatistics, TaskStatistics
from harness.prepare import Plan
from harness.screen import console, show_listing
from harness.verify import Found, Verification

if TYPE_CHECKING:  # torch
    from harness.bench_data import Speed

_NOTES = 5
_FAULTS = 20


def show_preparation(plan: Plan, todo: int, need: int, free: int) -> None:
    """What will be prepared, by which choices, the room it takes, and remarks on the files as a whole."""
    units = len({(scene.domain, scene.unit) for scene in plan.scenes})
    found = counted(units, "scene")
    if units != len(plan.scenes):
        found = f"{counted(len(plan.scenes), 'image')} of {found}"
    console.print(
        f"[bold]{plan.recipe.task}[/bold]: {found}, {len(plan.scenes) - todo} already prepared, "
        f"{todo} to do; at most {need / 1e9:.2f} GB of {free / 1e9:.1f} GB free",
        soft_wrap=True,
        highlight=False,
    )
    rows = [
        {
            "choice": choice.name,
            "chosen": plan.choices[choice.name],
            "other answers": ", ".join(value for value in choice.values if value != plan.choices[choice.name]),
            "why it is open": choice.why,
        }
        for choice in plan.recipe.choices
    ]
    show_listing("choices (change with --choose name=value; kept in the manifest)", rows)
    for warning in plan.warnings:
        console.print(f"warning: {escape(warning)}", soft_wrap=True, highlight=False)
    for remark in plan.remarks:
        console.print(f"note: {escape(remark)}", soft_wrap=True, highlight=False)


def show_prepared(plan: Plan, manifest: Manifest) -> None:
    """The tiles per domain, beside what the paper and the released schedule imply, and notes."""
    for expected in plan.recipe.expect(plan.choices):
        console.print(_comparison(expected, manifest), soft_wrap=True, highlight=False)
    notes = manifest.header.notes[len(plan.remarks) :]  # which have been told
    for note in notes[:_NOTES]:
        console.print(f"note: {escape(note)}", soft_wrap=True, highlight=False)
    if (more := len(notes) - _NOTES) > 0:
        console.print(f"... and {more} more notes in the manifest")
    console.print(
        f"{counted(len(manifest.tiles), 'tile')} of {manifest.header.tile_px} px in {plan.folder}; next: "
        f"`python run.py data verify {plan.recipe.task} --data {plan.folder.parent}`",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _comparison(expected: Expected, manifest: Manifest) -> str:
    rows = [row for row in manifest.tiles if row.domain in expected.domains]
    scenes = len({row.scene for row in rows})
    found = f"prepared {counted(len(rows), 'tile')} of {counted(scenes, 'scene')}"
    implied = [f"{_span(expected.scenes)} scenes"] if expected.scenes else []
    implied += [f"{_span(expected.tiles)} tiles of 512 px"] if expected.tiles else []
    comparable = manifest.header.tile_px == 512
    agrees = _within(scenes, expected.scenes) and (not comparable or _within(len(rows), expected.tiles))
    mark = "[green]agrees[/green]" if agrees else "[yellow]differs[/yellow]"
    if not comparable and not expected.scenes:
        mark = f"not compared, with tiles of {manifest.header.tile_px} px"
    return f"{', '.join(expected.domains)}: {found}; {escape(expected.says)}: {', '.join(implied)}: {mark}"


def _span(limits: tuple[int, int]) -> str:
    return f"{limits[0]}" if limits[0] == limits[1] else f"{limits[0]} to {limits[1]}"


def _within(count: int, limits: tuple[int, int] | None) -> bool:
    return limits is None or limits[0] <= count <= limits[1]


def show_speeds(found: Sequence[Speed], setup: DataSetup, *, as_json: bool) -> None:
    """How fast data are prepared and fed beside plain reading, as a table with what it means, or as JSON."""
    if as_json:
        console.print_json(data={"task": setup.task, "repeats": setup.repeats, "speeds": [asdict(s) for s in found]})
        return
    rows = [
        {
            "what": speed.what,
            "bands": speed.bands,
            "tiles": speed.tiles,
            "MB": f"{speed.megabytes:.0f}",
            "tiles/s": f"{speed.tiles_per_second:.1f}",
            "plain": f"{speed.plain_tiles_per_second:.0f}",
            "time ×": f"{speed.ratio:.1f}",
            "IQR": f"{speed.ratio_high - speed.ratio_low:.1f}",
            "CPU ×": f"{speed.cpu_ratio:.1f}",
            "MB per CPU s": f"{speed.cpu_megabytes_per_second:.0f}",
        }
        for speed in found
    ]
    show_listing(f"{setup.task}, tiles of 512 px, one core, medians of {setup.repeats} repeats", rows)
    recipes = [
        f"pipeline, {speed.bands} bands, as at scale paper: reader, {speed.recipe}, pack, collate\n"
        for speed in found
        if speed.recipe
    ]
    console.print(
        f"{''.join(recipes)}"
        "prepare: official files to tiles and manifest; reader: tiles to arrays; plain: only reading the same files\n"
        "and, for prepare, writing the same bytes to as many files, both with fsync. Just written files lie in\n"
        "memory: no disk is as fast. time ×: over the plain one, in turn; IQR: of these; CPU ×: of CPU times.\n"
        "MB per CPU s: read and written by CPU time; a slower disk or network is waited for, a faster one waits.\n"
        "Compare ratios, not times: these are of this machine at this hour.",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def show_verification(task: str, found: Verification, bands: Sequence[str]) -> None:
    """Domains, values of each of the bands, classes and faults."""
    show_listing(f"{task}: {found.source.title}", [_domain_row(domain) for domain in found.domains])
    ranges = {domain.domain: texts for domain in found.domains if (texts := _ranges(domain))}
    if ranges:
        show_by_band("least to greatest value of each band", "domain", bands, ranges)
    shares = [
        {"class": name, **{domain.domain: _share(domain, index) for domain in found.domains}}
        for index, name in enumerate(found.source.classes)
    ]
    show_listing("labelled pixels by class, in percent", shares)
    if not found.checksums:
        console.print("no manifest: checksums could not be compared")
    for fault in found.faults[:_FAULTS]:
        console.print(f"[red]fault[/red] {escape(fault)}", soft_wrap=True, highlight=False)
    if (more := len(found.faults) - _FAULTS) > 0:
        console.print(f"... and {more} more")
    console.print(f"[red]{counted(len(found.faults), 'fault')}[/red]" if found.faults else "[green]no faults[/green]")


def _domain_row(found: Found) -> dict[str, object]:
    labelled = found.histogram.sum() / found.pixels if found.pixels else 0
    return {
        "domain": found.domain,
        "tiles": found.tiles,
        "scenes": len(found.scenes),
        "labelled": f"{100 * labelled:.1f} %",
        "tiles without label": found.unlabelled,
        "type": ",".join(sorted(found.dtypes)),
    }


def _ranges(found: Found) -> list[str]:
    """By band; empty if no tile could be read."""
    if found.low is None or found.high is None:
        return []
    return [f"{low:g} to {high:g}" for low, high in zip(found.low, found.high, strict=True)]


def _share(found: Found, index: int) -> str:
    whole = found.histogram.sum()
    return f"{100 * found.histogram[index] / whole:.2f}" if found.histogram[index] else "-"


def show_statistics(task: Task, found: TaskStatistics, path: Path | None) -> None:
    """Means and deviations per domain, shifts per class, and where they were stored."""
    bands = [band.name for band in task.bands]
    rows = {
        name: [f"{domain.all.pixels:,}", *(f"{m:.2f} ({s:.2f})" for m, s in zip(*_moments(domain), strict=True))]
        for name, domain in found.domains.items()
        if domain.all.pixels
    }
    title = f"{task.name}: valid pixels (not zero in every band), digital numbers: mean (standard deviation)"
    show_by_band(title, "domain", bands, rows, facts=("valid pixels",))
    own = found.domains[found.source].classes
    for target, domain in found.domains.items():
        if target != found.source and domain.all.pixels:
            names = [None, *(name for name in domain.classes if name in own)]
            shifts = {name or "all": [f"{value:+.2f}" for value in found.shift(target, name)] for name in names}
            show_by_band(f"{target} less {found.source}, in standard deviations of the source", "class", bands, shifts)
    where = f"stored in {path}" if path else "not stored: only folders made by `data prepare` keep statistics"
    console.print(where, soft_wrap=True, highlight=False)


def show_suspicions(found: Sequence[str], unchecked: Sequence[str]) -> None:
    """What speaks against the stated band orders, and which could not be checked."""
    for text in unchecked:
        console.print(f"band order of {escape(text)}", soft_wrap=True, highlight=False)
    for text in found:
        console.print(
            f"[yellow]warning[/yellow] band order of {escape(text)}; compare docs/datasets.md with your files",
            soft_wrap=True,
            highlight=False,
        )


def _moments(domain: DomainStatistics) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return domain.all.mean, domain.all.std
