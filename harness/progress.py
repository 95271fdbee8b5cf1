"""What moves while trials run: bars, and a line for each that ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from harness.records import Record
from harness.schedule import Outcome
from harness.screen import COLOURS, console, duration, outcome_text
from harness.status import Status
from harness.trial import Trial


class Screen:
    """A watcher: one bar for all trials, one for each running trial, a line for each that ended.

    Args:
        total: number of trials to run.
        on_record: is handed each record.
    """

    def __init__(self, total: int, on_record: Callable[[Record], None] | None = None) -> None:
        """Prepare the bars; use as a context manager."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.total, self.on_record = total, on_record
        self.all = self.progress.add_task("trials", total=total, note="")
        self.bars: dict[str, TaskID] = {}
        self.counts: Counter[Status] = Counter()
        self.note = ""

    def __enter__(self) -> Screen:
        """Start drawing."""
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self.progress.stop()

    def noted(self, text: str) -> None:
        """Show it behind the bar of all trials."""
        self.note = text
        self._redraw()

    def started(self, trial: Trial) -> None:
        """Give the trial a bar."""
        if trial.key not in self.bars:
            self.note = ""
            self.bars[trial.key] = self.progress.add_task(escape(str(trial)), total=None, note="building")
            self._redraw()

    def stepped(self, trial: Trial, step: int, steps: int, loss: float) -> None:
        """Move the trial's bar."""
        self.started(trial)
        self.progress.update(
            self.bars[trial.key], completed=step, total=steps, note=f"step {step}/{steps}  loss {loss:.2f}"
        )
        self._redraw()

    def retried(self, trial: Trial, reason: str) -> None:
        """Print a line; the trial comes again later."""
        self._remove(trial)
        self._line("yellow", "again", trial, reason)

    def ended(self, outcome: Outcome) -> None:
        """Print a line, and pass the record on."""
        self._remove(outcome.trial)
        self.counts[outcome.status] += 1
        said, seconds = "", ""
        if outcome.record:
            said, seconds = outcome_text(outcome.record), duration(outcome.record.run["seconds"])
        self._line(COLOURS[outcome.status], outcome.status, outcome.trial, said, seconds)
        self._redraw()
        if outcome.record and self.on_record:
            self.on_record(outcome.record)

    def _line(self, colour: str, word: str, trial: Trial, text: str, seconds: str = "") -> None:
        count = f"{self.counts.total():>{len(str(self.total))}}/{self.total}"
        self.progress.console.print(
            f"{count} [{colour}]{word:>6}[/]  {trial.key}  {escape(str(trial))}  {escape(text)}  [dim]{seconds}[/dim]",
            soft_wrap=True,
        )

    def _remove(self, trial: Trial) -> None:
        if trial.key in self.bars:
            self.progress.remove_task(self.bars.pop(trial.key))

    def _redraw(self) -> None:
        """All trials: those that ended, and the parts of those that run."""
        ended = self.counts.total()
        running = sum(task.completed / task.total for task in self.progress.tasks if task.id != self.all and task.total)
        text = [f"{ended}/{self.total} ended"]
        if self.bars:
            text.append(f"{len(self.bars)} running")
        if self.counts[Status.FAILED]:
            text.append(f"[red]{self.counts[Status.FAILED]} failed[/red]")
        self.progress.update(self.all, completed=ended + running, note=", ".join([*text, *filter(None, [self.note])]))


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar for many small things; yields the function to call after each."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda: progress.advance(bar)
