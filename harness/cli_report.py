"""The command `report`: parse, call, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import screen
from harness.cli_options import Results, ScaleName
from harness.folders import REPORT, scale_folder, whole_records


def report(
    results: Results = Path("results"),
    scale: ScaleName = "mini",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="HTML file to write; if not given, report.html in the scale's results folder."),
    ] = None,
) -> None:
    """Write one self-contained HTML page with every table and figure, from the records alone."""
    store = whole_records(results, scale)
    from harness.report.build import write_report  # pandas and matplotlib

    page = write_report(store, scale, out or scale_folder(results, scale) / REPORT)
    screen.show_hint("report", str(page))
