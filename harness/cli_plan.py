"""The commands `plan` and `doctor`: parse, call. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli_options import (
    BackboneNames,
    DataRoot,
    Ingredients,
    MethodNames,
    Precision,
    Results,
    ScaleName,
    Seeds,
    Settings,
    Severity,
    Suite,
    TaskNames,
    request_of,
)


def plan(
    suite: Suite,
    task: TaskNames = [],  # noqa: B006 (typer reads the default, nobody writes it)
    backbone: BackboneNames = [],  # noqa: B006
    method: MethodNames = [],  # noqa: B006
    seeds: Seeds = 0,
    settings: Settings = [],  # noqa: B006
    scale: ScaleName = "mini",
    data_root: DataRoot = None,
    severity: Severity = 1.0,
    ingredients: Ingredients = "",
    precision: Precision = "",
    results: Results = Path("results"),
    measured: Annotated[
        list[Path],
        typer.Option(
            "--measured",
            help="Step times by `bench step --json`, to tell the cost of what never ran (repeatable).",
            show_default=False,
        ),
    ] = [],  # noqa: B006
) -> None:
    """Show the trials of a suite, which are cached, and what the rest may cost; at scale paper GPU hours and disk."""
    from harness import plan_driver

    request = request_of(
        suite, scale, task, backbone, method, seeds, settings, data_root, severity, ingredients, precision
    )
    plan_driver.show(request, results, measured)


def doctor(
    data_root: DataRoot = None,
    results: Results = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Look at this machine, weights and data: what each suite could run now, and how to mend what lacks."""
    from harness import doctor_driver

    raise typer.Exit(doctor_driver.examine(data_root, results, as_json=as_json))
