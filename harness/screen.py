"""What the user sees: plans, progress, summaries and tables on the terminal."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, JustifyMethod
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Column, Table

from harness.counts import counted
from harness.plan import Plan
from harness.records import Record
from harness.schedule import Outcome
from harness.status import Status
from harness.trial import Trial

if TYPE_CHECKING:  # what costs time to import, and only some commands need
    from harness.bench import DriverShare, Overhead
    from harness.bench_modules import Cost, Figures
    from harness.params import Count
    from harness.predict import Prediction
    from harness.tables import ResultTable

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

_WIDE = 150
_ESSENTIAL = ("Backbone", "Method", "Source", "Target", "Δ frozen", "n")
COLOURS = {
    Status.PLANNED: "white",
    Status.CACHED: "cyan",
    Status.RUNNING: "blue",
    Status.DONE: "green",
    Status.FAILED: "red",
    Status.SKIPPED: "yellow",
    Status.INTERRUPTED: "magenta",
}


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
    pending = [planned for planned in plan.trials if planned.status is Status.PLANNED]
    cached = sum(planned.status is Status.CACHED for planned in plan.trials)
    first = plan.trials[0].trial
    data = ", ".join(filter(None, ("synthetic scenes" if first.data.kind == "embedded" else "files", first.shift_text)))
    steps = sorted({planned.trial.protocol.steps for planned in plan.trials})
    length = f"of {'/'.join(map(str, steps))} steps each" if all(steps) else "by epochs"
    known = [planned.estimate for planned in pending if planned.estimate is not None]
    cost = ""
    if pending:
        whole = len(known) == len(pending)
        cost = f", about {_work(sum(known), first)}" if whole else ", time unknown before a first run"
    title = f"suite {plan.request.suite}, scale {first.scale.name} ({data})"
    console.print(
        f"[bold]{title}[/bold]: {counted(len(plan.trials), 'trial')} {length}, "
        f"{cached} cached, {len(pending)} to run{cost}",
        soft_wrap=True,
    )
    show_skipped(plan.skipped)


def _work(seconds: float, trial: Trial) -> str:
    cores = os.cpu_count() or 1
    shared = "" if trial.scale.gpus_per_trial or cores == 1 else f", {duration(seconds / cores)} on {cores} cores"
    return f"{duration(seconds)} of work{shared}"


def show_skipped(skipped: Mapping[str, str]) -> None:
    """Tasks that cannot run, and why."""
    for name, reason in skipped.items():
        console.print(f"[yellow]{Status.SKIPPED}[/yellow] {escape(name)}: {escape(reason)}", soft_wrap=True)


def show_trials(plan: Plan) -> None:
    """One row per trial."""
    table = Table(Column("key", no_wrap=True), Column("trial", overflow="fold"), "status", "time", box=None)
    for planned in plan.trials:
        status = f"[{COLOURS[planned.status]}]{planned.status}[/]"
        estimate = duration(planned.estimate) if planned.status is Status.PLANNED else ""
        table.add_row(planned.trial.key, escape(str(planned.trial)), status, estimate)
    console.print(table)


def outcome_text(record: Record) -> str:
    """What a record says in a few words: scores, or the error."""
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
    for column in columns:
        justify: JustifyMethod = "left" if column in ("Backbone", "Method") else "right"
        table.add_column(escape(column), justify=justify, no_wrap=column != "Method", overflow="fold")
    group = result.display.get("Backbone", result.display["n"].map(lambda _: ""))
    for row, last in zip(result.display[columns].itertuples(index=False), group.ne(group.shift(-1)), strict=True):
        table.add_row(*[escape(str(value)) for value in row], end_section=last)
    console.print(table)
    console.print(f"[dim italic]{escape(caption)}[/]", highlight=False)  # as the table's own, it is as narrow as that
    console.print(f"table: {path} (and .tex, .csv)\n", soft_wrap=True, highlight=False)


def show_tables(tables: Sequence[ResultTable], paths: Sequence[Path], keys: Set[str] | None = None) -> None:
    """The tables that hold one of the keys (None: all)."""
    for table, path in zip(tables, paths, strict=True):
        if keys is None or table.keys & keys:
            show_table(table, path)


def show_summary(plan: Plan, outcomes: Sequence[Outcome], seconds: float, where: str) -> None:
    """How many trials ended how, and how fast; those that failed, and how to see why.

    Args:
        plan: what was to run.
        outcomes: of what ran.
        seconds: it took, with the start of its executor.
        where: options that lead to the records.
    """
    ended = {outcome.trial.key: outcome.status for outcome in outcomes}
    counts = Counter(ended.get(planned.trial.key, planned.status) for planned in plan.trials)
    if outcomes:
        text = ", ".join(f"{counts[status]} [{COLOURS[status]}]{status}[/]" for status in Status if counts[status])
        pace = f" in {duration(seconds)}, {60 * len(outcomes) / seconds:.1f} per minute"
        console.print(f"[bold]trials[/bold]: {text}[dim]{pace}[/dim]", soft_wrap=True, highlight=False)
    for outcome in outcomes:
        record = outcome.record
        if record is None or outcome.status is not Status.FAILED:
            continue
        console.print(
            f"[red]{outcome.status}[/red] {escape(str(outcome.trial))}: {escape(outcome_text(record))} "
            f"[dim]({record.result['labels']['recipe'] or 'default recipe'}; traceback: "
            f"python run.py show {record.key} {escape(where)})[/dim]",
            soft_wrap=True,
        )


def show_bench(overheads: Sequence[Overhead], shares: Sequence[DriverShare], *, scale: str, as_json: bool) -> None:
    """What trials cost outside their steps, as tables or as JSON."""
    if as_json:
        console.print_json(data={"overhead": [asdict(row) for row in overheads], "driver": [asdict(r) for r in shares]})
        return
    title = f"seconds per trial outside its steps ({scale}, frozen baseline; share of a trial of full length)"
    show_listing(title, [_rounded(asdict(row)) for row in overheads])
    if shares:
        show_listing("CPU seconds of the driver beside those of stub trials", [_rounded(asdict(row)) for row in shares])


def _rounded(row: Mapping[str, object]) -> dict[str, object]:
    shown = {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in row.items()}
    return shown | {"share": f"{100 * float(str(row['share'])):.2f} %"}


def show_modules(plain: Figures, costs: Sequence[Cost], facts: Mapping[str, object], *, as_json: bool) -> None:
    """What methods cost in a block beside a plain one, as a table or as JSON; `facts` say what was measured on what."""
    if as_json:
        rows = [asdict(cost) for cost in costs]
        console.print_json(data={"setup": dict(facts), "plain": asdict(plain), "modules": rows})
        return
    table = Table(title="one block, plain and with each method", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("\nmethod", overflow="fold")
    columns = ("fwd\nms", "fwd+\nbwd ms", "time\n×", "\nIQR", "refine\ntime ×", "peak\nMB", "peak\n×", "refine\npeak ×")
    for column in (*columns, "trained\nper block"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("plain block", *_figures(plain, None), "")
    for cost in costs:
        if cost.block:
            name = escape(cost.label.replace(" (", "\n("))
            table.add_row(name, *_figures(cost.block, cost.refine), f"{cost.parameters_per_block:,}")
    console.print(table)
    for cost in costs:
        if cost.error:
            console.print(f"[red]{Status.FAILED}[/red] {escape(f'{cost.label}: {cost.error}')}", soft_wrap=True)
    console.print(
        "×: over the plain block, timed in turn; IQR: of those ratios; refine: it alone\n"
        "{repeats} repeats, batch {batch}, {tokens} + {prefix_tokens} tokens of width {width}, {precision}{how}, "
        "{clock} on {machine} ({device}, {threads} CPU thread(s), load {load} before), torch {torch}\n"
        "Compare ratios, not times: these are of this machine at this hour.".format(
            **facts, how=", compiled" if facts["compiled"] else ""
        ),
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _figures(whole: Figures, refine: Figures | None) -> list[str]:
    numbers = (whole.forward_ms, whole.forward_backward_ms, whole.peak_mb)
    forward, both, peak = (f"{number:.{0 if number >= 100 else 1 if number >= 1 else 3}f}" for number in numbers)
    times = [f"{whole.ratio:.2f}", f"{whole.ratio_high - whole.ratio_low:.2f}", f"{refine.ratio:.2f}" if refine else ""]
    return [forward, both, *times, peak, f"{whole.peak_ratio:.2f}", f"{refine.peak_ratio:.2f}" if refine else ""]


def show_counts(counts: Sequence[Count]) -> None:
    """Trainable parameters (`thawed`: of the backbone itself), and the published numbers (`paper`)."""
    columns = ("method", "backbone", "adapter", "reachable", "head", "thawed", "paper", "diff.")
    table = Table(title="trainable parameters; paper: as published, in millions", title_justify="left", box=None)
    table.padding = (0, 1, 0, 0)
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right", no_wrap=True)
    for count in counts:
        table.add_row(
            count.method,
            count.backbone,
            f"{count.adapter:,}",
            f"{count.reachable:,}" if count.reachable != count.adapter else "",
            f"{count.head / 1e6:.2f} M",
            f"{count.backbone_trainable / 1e6:.1f} M" if count.backbone_trainable else "",
            "" if count.published_m is None else f"{count.published_m:.2f}",
            "" if count.difference_m is None else f"{round(count.difference_m, 2) + 0.0:+.2f}",
        )
    console.print(table)


def show_conformance(method: str, found: Mapping[str, Mapping[str, str]]) -> None:
    """One row per check, one column per backbone, and what is wrong below."""
    table = Table("check", *found, title=f"conformance of {escape(method)}", title_justify="left", box=None)
    for check in next(iter(found.values())):
        marks = ["[red]FAILED[/red]" if checks[check] else "[green]ok[/green]" for checks in found.values()]
        table.add_row(check, *marks)
    console.print(table)
    for backbone, checks in found.items():
        for check, wrong in checks.items():
            if wrong:
                console.print(f"[red]{check}[/red] on {backbone}: {escape(wrong)}", soft_wrap=True)


def show_hint(what: str, command: str) -> None:
    """A command for the user's next step."""
    console.print(f"{what}: {command}", soft_wrap=True, highlight=False, markup=False)


def show_prediction(prediction: Prediction) -> None:
    """What an image was mapped to, and where that is."""
    for name, share in sorted(prediction.shares.items(), key=lambda item: -item[1]):
        if share:
            console.print(f"{share:7.1%}  {name}", highlight=False)
    if prediction.empty:
        console.print(f"{prediction.empty:7.1%}  no image", highlight=False)
    show_hint("labels", str(prediction.raster))
    show_hint("preview", str(prediction.preview))


def show_record(record: Record) -> None:
    """One record in full, without its arrays and tile names."""
    parts = {name: part for name, part in record.result.items() if name not in ("tiles", "arrays_sha256")}
    console.print(f"[bold]{record.key}[/bold] [{COLOURS[record.status]}]{record.status}[/]")
    console.print_json(data={**parts, "run": record.run})
    if record.error:
        console.print(record.error["traceback"], markup=False, highlight=False, soft_wrap=True)


def show_listing(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """A plain list of things with their facts."""
    if not rows:
        console.print(f"no {title}")
        return
    console.print(f"[italic]{escape(title)}[/italic]", highlight=False)
    table = Table(box=None)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*[escape(str(value)) for value in row.values()])
    console.print(table)


def fail(message: str) -> None:
    """A user's mistake, in one message."""
    errors.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True, highlight=False)
