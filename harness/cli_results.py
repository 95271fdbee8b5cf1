"""The commands `compare` and `leaderboard`: parse, call, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli_options import BackboneNames, Results, ScaleName, TaskNames

Selection = Annotated[
    str, typer.Option("--selection", help="Checkpoint: `source_val`, `last`, or `oracle` (chosen on the target).")
]
Side = Annotated[
    str, typer.Argument(help="A trial key or its beginning, or a row: METHOD, METHOD@BACKBONE.", metavar="KEY")
]


def compare(
    first: Side,
    second: Side,
    task: Annotated[
        str, typer.Option("--task", help="For rows: of this task, where they are of several.", show_default=False)
    ] = "",
    selection: Selection = "source_val",
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Compare two records, or two rows over the seeds both have: scores, paired differences, costs."""
    from harness import results_driver  # SciPy

    results_driver.compare_records(results, scale, (first, second), task=task, selection=selection)


def leaderboard(
    task: TaskNames = [],  # noqa: B006 (typer reads the default, nobody writes it)
    backbone: BackboneNames = [],  # noqa: B006
    selection: Selection = "source_val",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Write the critical-difference diagram: a .pdf, .svg or .png.", show_default=False),
    ] = None,
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Rank methods over tasks: average rank with critical difference, interquartile mean, wins."""
    from harness import results_driver

    results_driver.rank_methods(results, scale, tasks=task, backbones=backbone, selection=selection, plot=plot)
