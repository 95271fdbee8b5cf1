"""Commands on real data sets, as `data COMMAND`: parse, call, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tasks import Shift
from harness import screen
from harness.audit_limits import RADIUS
from harness.cli_options import Boundaries, Ingredients, Severity

data = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make real data sets ready and check them (see docs/datasets.md).",
)

TaskName = Annotated[
    str, typer.Argument(help="Name of the task (see `list tasks`), or path/to/task.toml.", metavar="TASK")
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data root: the folder that `data prepare` was given as --out, or that a task file's folders lie below.",
        show_default="a task file's own folder",
    ),
]
Workers = Annotated[int, typer.Option("--workers", help="Processes; 0 for one per core.")]


@data.command()
def prepare(
    task: TaskName,
    raw: Annotated[Path, typer.Option("--raw", help="Folder of the official archives or unpacked files.")],
    out: Annotated[Path, typer.Option("--out", help="Data root; the tiles go to OUT/TASK.")],
    workers: Workers = 0,
    tile: Annotated[int, typer.Option("--tile", help="Side of a tile in pixels.")] = 512,
    choose: Annotated[
        list[str],
        typer.Option("--choose", help="Where the protocol is open: name=value (repeatable).", show_default=False),
    ] = [],  # noqa: B006
    boundaries: Boundaries = None,
) -> None:
    """Cut official files into tiles with a manifest; a killed run goes on where it stopped."""
    from harness import data_driver

    extras = {} if boundaries is None else {"boundaries": boundaries}
    try:
        data_driver.prepare(task, raw=raw, out=out, workers=workers, tile_px=tile, choose=choose, extras=extras)
    except KeyboardInterrupt:
        screen.fail("interrupted: prepared scenes are kept; the same command goes on from here")
        raise typer.Exit(130) from None


@data.command()
def verify(task: TaskName, root: Root = None, workers: Workers = 0) -> None:
    """Check every tile: checksums, pairs, types, bands, values, labels; exit code 1 if there are faults."""
    from harness import data_driver

    raise typer.Exit(data_driver.verify(task, data=root, workers=workers))


@data.command()
def audit(
    task: TaskName,
    root: Root = None,
    workers: Workers = 0,
    radius: Annotated[int, typer.Option("--radius", help="Bits of 256 by which near duplicates may differ.")] = RADIUS,
) -> None:
    """Look for common ground of source and targets: exit code 1 if a target leaks; kept, so that tables cite it."""
    from harness import data_driver

    raise typer.Exit(data_driver.audit(task, data=root, workers=workers, radius=radius))


@data.command()
def stats(task: TaskName, root: Root = None, workers: Workers = 0) -> None:
    """Measure band means and deviations, and the spectral shift per class; kept beside the manifest for training."""
    from harness import data_driver

    data_driver.stats(task, data=root, workers=workers)


@data.command()
def show(
    task: TaskName,
    root: Root = None,
    out: Annotated[Path | None, typer.Option("--out", help="The PNG to write.", show_default="TASK.png, here")] = None,
    tiles: Annotated[int, typer.Option("--tiles", help="Tiles per domain.")] = 6,
    seed: Annotated[int, typer.Option("--seed", help="Another one shows other tiles.")] = 0,
    severity: Severity = 1.0,
    ingredients: Ingredients = "",
) -> None:
    """Draw a contact sheet: tiles of each domain, labels, legend; without --data of the synthetic mirror."""
    from harness import data_driver

    shift = Shift.of(severity, ingredients)
    data_driver.show(task, data=root, shift=shift, out=out, tiles=tiles, seed=seed)


@data.command()
def info(task: TaskName) -> None:
    """Tell all about a task: classes, bands, sensors, choices, licence, where to get it, how to prepare it."""
    from harness import data_driver

    data_driver.info(task)
