"""What the user sees of a published checkpoint: what was found, missing and beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from harness.screen import console

if TYPE_CHECKING:  # imports torch
    from harness.released import Report

_SHOWN = 12


def show_import(report: Report) -> None:
    """What was found in a published checkpoint, name by name where something is wrong."""
    where = [f"under [bold]{escape(report.prefix)}[/bold]" if report.prefix else "at the top"]
    where += [f"of {escape(report.part)}"] if report.part else []
    where += [f"(not read: {escape(', '.join(report.others))})"] if report.others else []
    spec = report.spec
    beside = "; ".join(f"{name}: {count} tensors, {_millions(size)}" for name, (count, size) in report.beside.items())
    rows = {
        "file": f"{escape(report.source)} [dim](sha256 {report.sha256[:16]})[/dim]",
        "names": " ".join(where),
        "matched": f"[green]{len(report.matched)}[/green] tensors, {len(report.matched) + len(report.missing)} needed",
        "missing": _names(report.missing),
        "unexpected": _names(report.unexpected),
        "do not fit": _names(report.shapes),
        "beside it": escape(beside) or "nothing",
        "read for": f"{report.backbone}: {spec.blocks} blocks of width {spec.width}, {spec.queries} queries",
    }
    if report.written:
        rows["options"] = escape(", ".join(f"{name}={value}" for name, value in report.options.items()))
        rows["written"] = f"[bold]{escape(report.written)}[/bold] ({report.numbers:,} numbers)"
    table = Table(title=f"{escape(report.method)} adapter", title_justify="left", box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    console.print(table)


def _names(names: Sequence[str]) -> str:
    """A list of faults, cut where a screen would be full."""
    if not names:
        return "none"
    more = f"\n[dim]and {len(names) - _SHOWN} more (--report FILE lists them all)[/dim]" if len(names) > _SHOWN else ""
    listed = "\n".join(escape(name) for name in names[:_SHOWN])
    return f"[red]{len(names)}[/red]\n{listed}{more}"


def _millions(number: int) -> str:
    """A large number for people, in millions."""
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number:,}"
