"""What the user sees: plans, progress, summaries and tables on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from harness.plan import Plan
from harness.records import Record
from harness.trial import Trial

if TYPE_CHECKING:  # pandas costs half a second, and only tables need it
    from harness.tables import ResultTable

console = Console()
errors = Console(stderr=True)

_WIDE = 150
_ESSENTIAL = ("Method", "Source", "Target", "Δ frozen", "n")
_COLOURS = {"done": "green", "cached": "cyan", "failed": "red", "planned": "white", "skipped": "yellow"}


def set_up_logging() -> None:
    """Warnings of the harness through rich, on standard error."""
    handler = RichHandler(console=errors, show_time=False, show_path=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)


def duration(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show_plan(plan: Plan) -> None:
    """The plan in a line, and what cannot run."""
    pending = [planned for planned in plan.trials if planned.status == "planned"]
    cached = len(plan.trials) - len(pending)
    scale = plan.trials[0].trial.scale.name
    kind = plan.trials[0].trial.data.kind
    steps = sorted({planned.trial.protocol.steps for planned in plan.trials})
    length = f"{'/'.join(map(str, steps))} steps each" if all(steps) else "by epochs"
    known = [planned.estimate for planned in pending if planned.estimate is not None]
    cost = ""
    if pending:
        cost = f", about {duration(sum(known))}" if len(known) == len(pending) else ", time unknown before a first run"
    title = f"suite {plan.request.suite}, scale {scale} ({'synthetic scenes' if kind == 'embedded' else 'files'})"
    console.print(
        f"[bold]{title}[/bold]: {len(plan.trials)} trials of {length}, {cached} cached, {len(pending)} to run{cost}",
        soft_wrap=True,
    )
    for name, reason in plan.skipped.items():
        console.print(f"[yellow]skipped[/yellow] {escape(name)}: {escape(reason)}", soft_wrap=True)


def show_trials(plan: Plan) -> None:
    """One row per trial."""
    table = Table(Column("key", no_wrap=True), Column("trial", overflow="fold"), "status", "time", box=None)
    for planned in plan.trials:
        status = f"[{_COLOURS[planned.status]}]{planned.status}[/]"
        estimate = duration(planned.estimate) if planned.status == "planned" else ""
        table.add_row(planned.trial.key, escape(str(planned.trial)), status, estimate)
    console.print(table)


class Screen:
    """A watcher: one progress bar for the trials, one for the steps of the running one, a line per finished trial."""

    def __init__(self, total: int) -> None:
        """Prepare the bars; use as a context manager."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.progress = Progress(*columns, console=console, transient=True)
        self.all = self.progress.add_task("trials", total=total, note="")
        self.one = self.progress.add_task("steps", total=None, note="", visible=False)

    def __enter__(self) -> Screen:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self.progress.stop()

    def started(self, trial: Trial) -> None:
        """Show the trial's bar."""
        self.progress.reset(self.one, total=None, visible=True, description=escape(str(trial)), note="building")

    def stepped(self, trial: Trial, step: int, steps: int, loss: float) -> None:
        """Move the trial's bar."""
        self.progress.update(self.one, completed=step, total=steps, note=f"loss {loss:.2f}")

    def ended(self, trial: Trial, record: Record) -> None:
        """Print a line and move on."""
        self.progress.update(self.one, visible=False)
        self.progress.advance(self.all)
        colour = _COLOURS[record.status]
        self.progress.console.print(
            f"[{colour}]{record.status:>6}[/]  {trial.key}  {escape(str(trial))}  {escape(_outcome(record))}  "
            f"[dim]{duration(record.run['seconds'])}[/dim]",
            soft_wrap=True,
        )


@contextmanager
def checking(total: int) -> Iterator[Any]:
    """A bar for the check of data files; yields the function to call after each tile."""
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("checking data files", total=total)
        yield lambda: progress.advance(bar)


def _outcome(record: Record) -> str:
    if record.error:
        return f"{record.error['type']}: {record.error['message'].splitlines()[0] if record.error['message'] else ''}"
    scores = record.result["selections"]["source_val"]["scores"]
    source, target = (scores[name]["miou"] for name in ("source_val", "target"))
    return f"source {source:.1f}, target {target:.1f} mIoU"


def show_table(result: ResultTable, path: Path) -> None:
    """A result table as text, and where it was written; a narrow terminal gets fewer columns than the files."""
    wide = console.width >= _WIDE
    columns = [column for column in result.display.columns if wide or column in _ESSENTIAL]
    caption = result.caption if wide else f"Narrow terminal: more columns in the files. {result.caption}"
    table = Table(title=escape(result.heading), title_justify="left", box=box.SIMPLE)
    table.caption, table.caption_justify = escape(caption), "left"
    for column in columns:
        text = column == "Method"
        table.add_column(escape(column), justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for row in result.display[columns].itertuples(index=False):
        table.add_row(*[escape(str(value)) for value in row])
    console.print(table)
    console.print(f"table: {path} (and .tex, .csv)\n", soft_wrap=True, highlight=False)


def show_failures(failed: Sequence[Record], where: str) -> None:
    """Name the trials that failed, and how to see why (`where`: the options that lead to these records)."""
    for record in failed:
        labels = record.result["labels"]
        console.print(
            f"[red]failed[/red] {record.inputs['task']} · {record.inputs['backbone']} · {record.inputs['method']} · "
            f"seed {record.inputs['seed']}: {escape(_outcome(record))} [dim]({labels['recipe'] or 'default recipe'}; "
            f"traceback: python run.py show {record.key} {escape(where)})[/dim]",
            soft_wrap=True,
        )


def show_record(record: Record) -> None:
    """One record in full, without its arrays and tile names."""
    parts = {name: part for name, part in record.result.items() if name not in ("tiles", "arrays_sha256")}
    console.print(f"[bold]{record.key}[/bold] [{_COLOURS[record.status]}]{record.status}[/]")
    console.print_json(data={**parts, "run": record.run})
    if record.error:
        console.print(record.error["traceback"], markup=False, highlight=False, soft_wrap=True)


def show_listing(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """A plain list of things with their facts."""
    table = Table(title=title, title_justify="left", box=None)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[escape(str(value)) for value in row.values()])
    console.print(table)


def fail(message: str) -> None:
    """A user's mistake, in one message."""
    errors.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True, highlight=False)
