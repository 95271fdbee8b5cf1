"""The command that builds tables from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import driver, suite_driver
from harness.cli_options import MethodNames, Results, ScaleName, Settings, Suite
from harness.plan import Request


def tables(
    suite: Suite = "",
    published: Annotated[
        bool | None,
        typer.Option(
            "--published/--no-published",
            help="With --suite: the paper's numbers beside ours.",
            show_default="at scale paper",
        ),
    ] = None,
    selection: Annotated[
        str,
        typer.Option(
            "--selection",
            help="With --suite: checkpoints chosen by `source_val`, `last` or `oracle`; `all` for a row of each.",
        ),
    ] = "source_val",
    method: MethodNames = [],  # noqa: B006 (typer reads the default, nobody writes it)
    settings: Settings = [],  # noqa: B006
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Build tables again, from the records alone: of every task, or with --suite a suite's, in its own layout."""
    if not suite:
        if published is not None or selection != "source_val" or method or settings:
            raise ValueError(
                "--published, --selection, --method and --set are about a suite's tables: give --suite NAME"
            )
        driver.rebuild_tables(results, scale)
        return
    request = Request(suite=suite, scale=scale, methods=method, settings=settings)
    suite_driver.rebuild_suite_tables(request, selection, published, results)
