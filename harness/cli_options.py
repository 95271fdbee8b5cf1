"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.tasks import INGREDIENTS, Shift
from harness.lookup import find
from harness.plan import Request
from harness.scales import PRECISIONS

Suite = Annotated[
    str,
    typer.Option(
        "--suite", help="Suite to run: a name (see `list suites`), or path/to/suite.yaml or .py.", show_default=False
    ),
]
ScaleName = Annotated[str, typer.Option("--scale", help="`mini`: seconds per trial; `paper`: published sizes.")]
TaskNames = Annotated[
    list[str],
    typer.Option(
        "--task",
        help="Only this task, by name or path/to/task.toml (repeatable); `all` for every built-in one.",
        show_default=False,
    ),
]
BackboneNames = Annotated[
    list[str],
    typer.Option(
        "--backbone",
        help="Only this backbone (repeatable); at scale paper also any ViT of timm, as timm:NAME or timm:NAME.TAG.",
        show_default=False,
    ),
]
MethodNames = Annotated[
    list[str],
    typer.Option(
        "--method",
        help="Only this method, by name or path/to/file.py:Class (repeatable); `all` for every built-in one.",
        show_default=False,
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", help="Number of seeds; 0 for the suite's own.")]
Settings = Annotated[
    list[str],
    typer.Option("--set", help="method.option=value or protocol.field=value (may be repeated).", show_default=False),
]
DataRoot = Annotated[
    Path | None, typer.Option("--data-root", help="Folder of real data sets; without it, synthetic scenes.")
]
Boundaries = Annotated[
    Path | None,
    typer.Option(
        "--boundaries",
        help="For a task that needs it: polygons of administrative regions (GeoJSON, GeoPackage, shapefile).",
        show_default=False,
    ),
]
Severity = Annotated[
    float, typer.Option("--severity", help="Synthetic scenes: 0 for targets like the source, 1 for the whole shift.")
]
Ingredients = Annotated[
    str,
    typer.Option(
        "--ingredients",
        help=f"Synthetic scenes: only these parts of the shift, by comma: {', '.join(INGREDIENTS)}.",
        show_default="all",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="`fp32` or `bf16` (autocast, frozen weights held in it): as --set protocol.precision=.",
        show_default="the scale's: mini fp32, paper bf16, without a GPU fp32",
    ),
]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Save memory: compute again in the backward pass what blocks keep.")
]
Accumulate = Annotated[
    int,
    typer.Option("--accumulate", help="Save more: the batch goes through each block in so many parts, recomputed."),
]
Compiled = Annotated[bool, typer.Option("--compile", help="The encoders' blocks through torch.compile.")]
Results = Annotated[Path, typer.Option("--results", help="Where records and tables go.")]


def with_precision(settings: list[str], precision: str) -> list[str]:
    """The settings with what `--precision` stands for. `ValueError` if they say otherwise."""
    if not precision:
        return settings
    find("precision", precision, PRECISIONS)
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "protocol.precision" and value != precision:
            raise ValueError(f"--precision {precision} and --set {setting}: give one of them")
    return [*settings, f"protocol.precision={precision}"]


def request_of(
    suite: str,
    scale: str,
    tasks: list[str],
    backbones: list[str],
    methods: list[str],
    seeds: int,
    settings: list[str],
    data_root: Path | None,
    severity: float,
    ingredients: str,
    precision: str,
    *,
    gpu: bool = True,
) -> Request:
    """What the user asked for, from the options that `--suite` and `plan` share. `ValueError` for what is no shift."""
    settings = with_precision(settings, precision)
    return Request(
        suite=suite,
        scale=scale,
        tasks=tasks,
        backbones=backbones,
        methods=methods,
        seeds=seeds,
        settings=settings,
        data_root=data_root,
        shift=Shift.of(severity, ingredients),
        gpu=gpu,
    )
