"""The command `predict`: parse, call, print. No logic."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from harness import driver, screen
from harness.cli_options import Results, ScaleName
from harness.folders import whole_records


def predict(
    image: Annotated[Path, typer.Argument(help="A GeoTIFF of any size.", metavar="IMAGE")],
    key: Annotated[str, typer.Option("--record", help="Key of the finished trial, or its beginning.", metavar="KEY")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Label raster to write; if not given, one beside IMAGE.")
    ] = None,
    bands: Annotated[
        str, typer.Option("--bands", help="The image's bands, from 1, in the order of the task's: 4,1,2,3.")
    ] = "",
    overlap: Annotated[float, typer.Option("--overlap", help="Share of a window that its neighbours see too.")] = 0.25,
    method: Annotated[
        str, typer.Option("--method", help="For a method from a file: path/to/file.py:Class, as it was trained.")
    ] = "",
    task: Annotated[
        str, typer.Option("--task", help="For a trial on a task of your own: path/to/task.toml, as it was trained.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files.")] = False,
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Apply a finished trial to an image: a georeferenced raster of class indices and a coloured preview."""
    record = driver.find_record(results, scale, key)
    if bands and not bands.replace(",", "").isdigit():
        raise ValueError(f"--bands {bands}: write the numbers of bands with commas, as in 4,1,2,3")
    from harness.predict import Wanted, predict_image  # torch

    wanted = Wanted(
        image=image,
        out=out,
        bands=[int(band) for band in bands.split(",") if band],
        overlap=overlap,
        method=method,
        task=task,
        force=force,
    )
    done = predict_image(wanted, record, whole_records(results, scale))
    for warning in done.warnings:
        logging.getLogger(__name__).warning("%s: %s", image, warning)
    screen.show_prediction(done)
