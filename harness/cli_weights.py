"""Commands on the weights of backbones, as `weights COMMAND`: parse, call, print. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.weight_store import FOLDER_VARIABLE

weights = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pretrained weights: where they come from, whether they are here and what they were (see docs/weights.md).",
)

Names = Annotated[
    list[str],
    typer.Option("--backbone", help="Only this backbone, timm:NAME, or `depth` (repeatable).", show_default=False),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        envvar=FOLDER_VARIABLE,
        help="Weights folder; trials read it from the variable.",
        show_default="dgss-bench in the hub library's HF_HOME",
    ),
]


@weights.command("list")
def list_(backbone: Names = [], folder: Folder = None) -> None:  # noqa: B006 (typer reads the default, nobody writes it)
    """Show the weights of every backbone at both sizes: source, licence, size, present or missing, digest."""
    from harness import weights_driver

    weights_driver.list_weights(backbone, folder)


@weights.command()
def fetch(
    backbone: Names = [],  # noqa: B006
    folder: Folder = None,
    force: Annotated[bool, typer.Option("--force", help="Download again what is here.")] = False,
) -> None:
    """Download published weights into the weights folder if one is given, else into the hub's own cache."""
    from harness import weights_driver

    weights_driver.fetch_weights(backbone, folder, force=force)


@weights.command()
def verify(
    backbone: Names = [],  # noqa: B006
    folder: Folder = None,
    load: Annotated[
        bool, typer.Option("--load", help="Load them too, and show what became of every tensor; needs their memory.")
    ] = False,
) -> None:
    """Compare files with their digests of first use; exit code 1 if one differs, is incomplete or does not load."""
    from harness import weights_driver

    raise typer.Exit(weights_driver.verify_weights(backbone, folder, load=load))
