"""What the user sees of weights: where they come from, what is here, what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from harness.counts import counted
from harness.screen import console
from harness.zoo import Build


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A weight file as it is listed.

    Args:
        name: of the backbone at the file's size.
        state: `present`, `missing`, or `present, not used` of a file that another one comes before.
        size: for people.
        licence: of the weights.
        origin: the shipped file, or repository and file on the hub.
        digest: what is known of its SHA-256.
    """

    name: str
    state: str
    size: str
    licence: str
    origin: str
    digest: str = ""


_COLOURS = {"present": "green", "missing": "yellow"}


def show_weights(rows: Sequence[Listed], folder: Path) -> None:
    """Two lines for each file, so that no path is broken on a narrow terminal; and the folder for files put by hand."""
    for row in rows:
        state = f"[{_COLOURS.get(row.state, 'white')}]{row.state:<17}[/]"
        told = f"{row.origin}, sha256 {row.digest}" if row.digest else row.origin
        text = f"[bold]{row.name:<16}[/bold] {state} {row.size:>8}  {escape(row.licence)}\n    {escape(told)}"
        console.print(text, soft_wrap=True, highlight=False)
    console.print(f"weights folder: {escape(str(folder))}", soft_wrap=True, highlight=False)


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
