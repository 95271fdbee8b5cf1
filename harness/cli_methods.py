"""The commands about methods: `check`, `new-method`, `params`, `import-checkpoint`. Parse, call. No logic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import examine, screen, template
from harness.cli_options import BackboneNames, MethodNames, ScaleName, Settings


def check(
    method: Annotated[
        str, typer.Argument(help="A name, path/to/file.py:Class, or `all` built-in ones.", metavar="METHOD")
    ],
    backbone: BackboneNames = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    scale: Annotated[
        str,
        typer.Option(
            "--scale",
            help="`test`: the whole contract, on small encoders. `paper` or `mini`: instead, one training step at that "
            "scale's sizes with random weights on CPU, at most 128 px, batch 1, fp32 (--set protocol.crop=512).",
        ),
    ] = "test",
) -> None:
    """Show by running it that a method keeps to the contract, on every backbone; exit code 1 if it does not."""
    raise typer.Exit(examine.check_method(method, backbone, settings, scale))


def new_method(
    name: Annotated[str, typer.Argument(help="Its name, in snake_case.", metavar="NAME")],
    out: Annotated[Path, typer.Option("--out", help="Folder for NAME.py and test_NAME.py.")] = Path("."),
) -> None:
    """Write a small working method and its test, to be changed into yours."""
    for what, text in template.write_method(name, out).items():
        screen.show_hint(what, text)


def params(
    method: MethodNames = [],  # noqa: B006
    backbone: BackboneNames = [],  # noqa: B006
    scale: ScaleName = "paper",
    form: Annotated[str, typer.Option("--format", help="`table`, `csv` or `json`.")] = "table",
) -> None:
    """Count the trainable parameters of methods on backbones, beside the published numbers; `peft:` tuners by name."""
    examine.count_parameters(method, backbone, scale, form)


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A published .pth or .safetensors file.", metavar="FILE")],
    method: Annotated[str, typer.Option("--method", help="Whose adapter it holds: a name or path/to/file.py:Class.")],
    backbone: Annotated[str, typer.Option("--backbone", help="What it was trained on.")],
    scale: ScaleName = "paper",
    settings: Settings = [],  # noqa: B006
    queries: Annotated[int, typer.Option("--queries", help="The head's queries; 0 for the scale's.")] = 0,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Of the adapter's names; found if not given.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; if not given, one beside FILE.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write every name of the report as JSON.")] = None,
) -> None:
    """Turn a published checkpoint into an adapter file. Nothing in it is run; an adapter with gaps is refused."""
    from harness import released

    where = released.Target(out=out, force=force, report=report)
    released.import_checkpoint(
        released.ImportRequest(
            file=file,
            method=method,
            backbone=backbone,
            scale=scale,
            settings=settings,
            queries=queries,
            prefix=prefix,
        ),
        where,
    )
