"""What the user sees of weights: where they come from, what is here, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape

from harness.counts import counted
from harness.screen import console, show_listing
from harness.zoo import Build


def show_weights(rows: Sequence[Mapping[str, object]], folder: str) -> None:
    """A listing of weights, and the folder files may be put into."""
    show_listing("weights", rows)
    console.print(f"weights folder: {escape(folder)}", soft_wrap=True, highlight=False)


def show_missing(missing: Mapping[str, Build]) -> None:
    """Below a plan: weights that are not here, and what that means for the keys of their trials."""
    if missing:
        command = " ".join(f"--backbone {name}" for name in missing)
        console.print(
            f"[yellow]weights missing[/yellow] of {counted(len(missing), 'encoder')}: {', '.join(missing)}. The keys "
            f"of their trials are preliminary: digests are part of a key. python run.py weights fetch {command}",
            soft_wrap=True,
            highlight=False,
        )


def show_state(name: str, state: str, text: str, *, good: bool) -> None:
    """How one backbone's weights fare, in a line."""
    console.print(
        f"[{'green' if good else 'red'}]{state}[/] {escape(name)}: {escape(text)}", soft_wrap=True, highlight=False
    )
