"""What the user sees of data sets: choices, counts, faults and statistics."""

from __future__ import annotations

from rich.markup import escape

from benchmarks.prepared.manifest import Manifest
from benchmarks.prepared.recipe import Expected
from harness.prepare import Plan
from harness.screen import console, show_listing

_NOTES = 5


def show_preparation(plan: Plan, todo: int, need: int, free: int) -> None:
    """What will be prepared, by which choices, and the room it takes."""
    console.print(
        f"[bold]{plan.recipe.task}[/bold]: {len(plan.scenes)} scenes, {len(plan.scenes) - todo} already prepared, "
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


def show_prepared(plan: Plan, manifest: Manifest) -> None:
    """The tiles per domain, beside what the paper and the released schedule imply, and notes."""
    for expected in plan.recipe.expect(plan.choices):
        console.print(_comparison(expected, manifest), soft_wrap=True, highlight=False)
    for note in manifest.header.notes[:_NOTES]:
        console.print(f"note: {escape(note)}", soft_wrap=True, highlight=False)
    if (more := len(manifest.header.notes) - _NOTES) > 0:
        console.print(f"... and {more} more notes in the manifest")
    console.print(
        f"{len(manifest.tiles)} tiles of {manifest.header.tile_px} px in {plan.folder}; next: "
        f"`python run.py data verify {plan.recipe.task} --data {plan.folder.parent}`",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _comparison(expected: Expected, manifest: Manifest) -> str:
    rows = [row for row in manifest.tiles if row.domain in expected.domains]
    scenes = len({row.scene for row in rows})
    found = f"prepared {len(rows)} tiles of {scenes} scenes"
    implied = [f"{_span(expected.scenes)} scenes"] if expected.scenes else []
    implied += [f"{_span(expected.tiles)} tiles of 512 px"] if expected.tiles else []
    agrees = _within(scenes, expected.scenes)
    if manifest.header.tile_px == 512:
        agrees = agrees and _within(len(rows), expected.tiles)
    mark = "[green]agrees[/green]" if agrees else "[yellow]differs[/yellow]"
    return f"{', '.join(expected.domains)}: {found}; {escape(expected.says)} implies {', '.join(implied)}: {mark}"


def _span(limits: tuple[int, int]) -> str:
    return f"{limits[0]}" if limits[0] == limits[1] else f"{limits[0]} to {limits[1]}"


def _within(count: int, limits: tuple[int, int] | None) -> bool:
    return limits is None or limits[0] <= count <= limits[1]
