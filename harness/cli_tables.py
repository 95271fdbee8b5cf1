"""The command that builds tables from records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness import driver, suite_driver
from harness.cli_options import Ingredients, Precision, Results, ScaleName, Settings, Severity, Suite, request_of


def _added(option: str, what: str) -> Any:
    return typer.Option(option, help=f"With --suite: a place for this {what}, too (repeatable).", show_default=False)


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
    task: Annotated[list[str], _added("--task", "task, by name or path/to/task.toml")] = [],  # noqa: B006 (typer reads it)
    backbone: Annotated[list[str], _added("--backbone", "backbone")] = [],  # noqa: B006
    method: Annotated[list[str], _added("--method", "method, by name or path/to/file.py:Class")] = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    severity: Severity = 1.0,
    ingredients: Ingredients = "",
    precision: Precision = "",
    results: Results = Path("results"),
    scale: ScaleName = "mini",
) -> None:
    """Build tables again, from the records alone: of every task, or with --suite a suite's, in its own layout.

    A suite's are those of a run with the same --task, --backbone, --method, --set, --precision, --severity and
    --ingredients; of a run with --gpus-per-trial 0 at scale paper, give --precision fp32.
    """
    given = {
        "--published": published is not None,
        "--selection": selection != "source_val",
        "--task": task,
        "--backbone": backbone,
        "--method": method,
        "--set": settings,
        "--precision": precision,
        "--severity": severity != 1.0,
        "--ingredients": ingredients,
    }
    if not suite:
        alone = [name for name, is_given in given.items() if is_given]
        if alone:
            raise ValueError(f"{', '.join(alone)}: for a suite's tables alone; give --suite NAME as well")
        driver.rebuild_tables(results, scale)
        return
    request = request_of(suite, scale, task, backbone, method, 0, settings, None, severity, ingredients, precision)
    suite_driver.rebuild_suite_tables(request, selection, published, results)
