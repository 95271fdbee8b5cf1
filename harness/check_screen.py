"""What the user sees of training steps that were checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from harness.screen import console, duration
from harness.trial import Trial

_MIB_PER_GIB = 2**10


@dataclass(frozen=True, kw_only=True)
class StepFound:
    """What a step showed.

    Args:
        wrong: a sentence for each fault; empty if there is none.
        seconds: building the model and the step; 0 if nobody knows.
        peak_mb: peak memory of its process in MiB; 0 if nobody knows.
    """

    wrong: tuple[str, ...]
    seconds: float = 0.0
    peak_mb: float = 0.0

    @property
    def cost(self) -> str:
        """Time and memory; empty if nobody knows."""
        return f"{duration(self.seconds)}, {self.peak_mb / _MIB_PER_GIB:.1f} GiB" if self.seconds else ""


def show_step(row: str, column: str, found: StepFound) -> None:
    """One step, as soon as it is known."""
    mark = "[red]FAILED[/red]" if found.wrong else "    [green]ok[/green]"
    console.print(f"{mark}  {escape(row)} on {column}  [dim]{found.cost}[/dim]", soft_wrap=True, highlight=False)


def show_steps(found: Mapping[tuple[str, str], StepFound], trial: Trial) -> None:
    """One row per method, one column per backbone, and what is wrong below.

    Args:
        found: what each step showed, by row and column.
        trial: one of those that were checked.
    """
    protocol, columns = trial.protocol, list(dict.fromkeys(column for _, column in found))
    console.print(
        f"[bold]one training step at scale {trial.scale.name} with random weights[/bold]: {protocol.crop} px, "
        f"batch {protocol.batch_size}, {protocol.precision}, CPU",
        soft_wrap=True,
        highlight=False,
    )
    table = Table("method", *columns, box=None)
    for row in dict.fromkeys(row for row, _ in found):
        table.add_row(escape(row.replace(" (", "\n(")), *[_cell(found.get((row, column))) for column in columns])
    console.print(table)
    console.print(
        "seconds: building and the step; GiB: peak memory of its process, with Python and libraries\n"
        "No published weights and no data set were read: everything fits together; nothing is said of accuracy.",
        soft_wrap=True,
        highlight=False,
    )
    for (row, column), step in found.items():
        for said in step.wrong:
            console.print(f"[red]{escape(row)}[/red] on {column}: {escape(said)}", soft_wrap=True, highlight=False)


def _cell(found: StepFound | None) -> str:
    if found is None:
        return ""
    mark = "[red]FAILED[/red]" if found.wrong else "[green]ok[/green]"
    return f"{mark} [dim]{found.cost.replace(', ', chr(10))}[/dim]"
