"""What the user sees of a suite's cost: hours by task, the step times behind them, disk and memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from rich.markup import escape

from harness.cost import FORWARD_SHARE, Bill
from harness.counts import counted
from harness.foresight import Prospect
from harness.measured import StepTime
from harness.plan import Request
from harness.screen import console, duration, show_hint, show_listing
from harness.trial import Trial

_COMMANDS = 4
_GB = 1e9


def show_absent(request: Request, foreseen: Sequence[Prospect]) -> None:
    """In place of a plan, where no trial has data: how many there would be, and what lacks."""
    trials = counted(sum(prospect.count for prospect in foreseen), "trial")
    _say(f"[bold]suite {escape(request.suite)}, scale {request.scale}[/bold]: {trials}, none of which can run: no data")
    for name, lack in {prospect.trial.task.name: prospect.lack for prospect in foreseen}.items():
        _say(f"[yellow]lacks data[/yellow] {escape(name)}: {escape(lack)}")


def show_costs(bills: Sequence[Bill], unused: Sequence[StepTime]) -> None:
    """What trials without a record cost.

    Args:
        bills: one for each trial, or for several that differ in their seed.
        unused: measurements that fit none of them.
    """
    if not bills:
        return
    console.print()
    show_listing("cost by task", [_task_row(group) for group in _grouped(bills, lambda b: b.prospect.trial.task.name)])
    shown = [_step_row(group) for group in _grouped([b for b in bills if b.step], _by_step)]
    if shown:
        show_listing("measured steps behind it", shown)
    _say_hours(bills)
    _say_disk(bills)
    _say_memory(bills)
    _say_unknown([bill for bill in bills if bill.seconds is None])
    if unused:
        names = ", ".join(dict.fromkeys(f"{s.backbone} {s.method} ({s.image_size} px, {s.scale})" for s in unused))
        _say(f"--measured: {counted(len(unused), 'measurement')} fit no trial here: {escape(names)}")


def _grouped(bills: Iterable[Bill], key: Callable[[Bill], Hashable]) -> list[list[Bill]]:
    groups: dict[Hashable, list[Bill]] = {}
    for bill in bills:
        groups.setdefault(key(bill), []).append(bill)
    return list(groups.values())


def _by_step(bill: Bill) -> Hashable:
    return id(bill.step), bill.prospect.trial.method.name


def _number(bills: Iterable[Bill]) -> int:
    return sum(bill.prospect.count for bill in bills)


def _seconds(bills: Iterable[Bill]) -> float:
    return sum(bill.prospect.count * (bill.seconds or 0) for bill in bills)


def _task_row(bills: Sequence[Bill]) -> Mapping[str, object]:
    first, known = bills[0], [bill for bill in bills if bill.seconds is not None]
    tiles = first.tiles
    evaluations = _span(bill.prospect.trial.protocol.evaluations for bill in bills)
    evaluated = f"{evaluations} x {tiles.evaluated:,}" if tiles else "not known"
    hours = duration(_seconds(known)) if known else "unknown"
    return {
        "task": first.prospect.trial.task.name,
        "trials": _number(bills),
        "train tiles": f"{tiles.train:,}" if tiles else "not known",
        "steps each": _span(bill.steps for bill in bills if bill.steps) or "not known",
        "evaluated tiles": evaluated + ("" if tiles is None or tiles.targets is not None else " and the targets'"),
        "time": hours if len(known) in (0, len(bills)) else f"{hours} for {_number(known)} of them",
        "tiles by": tiles.says if tiles else "",
    }


def _span(numbers: Iterable[int]) -> str:
    ordered = sorted(set(numbers))
    return "" if not ordered else f"{ordered[0]:,}" if len(ordered) == 1 else f"{ordered[0]:,} to {ordered[-1]:,}"


def _step_row(bills: Sequence[Bill]) -> Mapping[str, object]:
    trial, step = bills[0].prospect.trial, bills[0].step
    assert step is not None, "shown where there is one"
    batch = trial.protocol.batch_size
    scaled = "" if step.batch == batch else f", from batch {step.batch}"
    return {
        "backbone": trial.backbone_name,
        "method": trial.method.name,
        "trials": _number(bills),
        "s per step": f"{step.seconds_at(batch):.3g} (batch {batch}{scaled})",
        "precision": step.precision,
        "device": step.device,
        "peak GB": f"{step.peak_memory_mb * 2**20 / _GB:.1f}",
        "from": step.origin,
    }


def _say_hours(bills: Sequence[Bill]) -> None:
    """Hours by device: those of a CPU and of a GPU never add up."""
    known = [bill for bill in bills if bill.seconds is not None]
    for group in _grouped(known, lambda bill: bill.step.device if bill.step else ""):
        step, trials = group[0].step, counted(_number(group), "trial")
        where = "GPU hours" if step and step.on_gpu else "hours of that CPU" if step else "hours"
        on = f" on {escape(step.device)}" if step else ""
        _say(f"time: about {_seconds(group) / 3600:,.1f} {where}{on} for {trials}")
    if any(bill.step and bill.step.seconds_per_evaluated_tile is None for bill in known):
        _say(f"  evaluation was not measured: a tile counts as {FORWARD_SHARE:.0%} of its share of a training step")


def _say_disk(bills: Sequence[Bill]) -> None:
    records = sum(bill.prospect.count * bill.record_bytes for bill in bills)
    weights = sum(bill.prospect.count * bill.weight_bytes for bill in bills)
    most = max(bill.checkpoint_bytes for bill in bills)
    _say(
        f"disk: about {records / _GB:,.2f} GB of records with areas and panels, {weights / _GB:,.2f} GB of trained "
        f"weights; a checkpoint of a trial that runs takes up to {most / _GB:,.2f} GB"
    )
    if blank := sorted({bill.prospect.trial.method.name for bill in bills if bill.parameters is None}):
        _say(f"  without the weights of {escape(', '.join(blank))}, whose number is not known before a measurement")


def _say_memory(bills: Sequence[Bill]) -> None:
    measured = [bill for bill in bills if bill.step]
    for group in _grouped(measured, lambda bill: bill.step.device if bill.step else ""):
        steps = [bill.step for bill in group if bill.step]
        most = max(steps, key=lambda step: step.peak_memory_mb)
        more = any(bill.step and bill.step.batch < bill.prospect.trial.protocol.batch_size for bill in group)
        note = "; more at the batch of the trials" if more else ""
        _say(
            f"memory: up to {most.peak_memory_mb * 2**20 / _GB:.1f} GB per trial on {escape(most.device)} "
            f"({most.backbone}, {most.method}, batch {most.batch}{note})"
        )


def _say_unknown(bills: Sequence[Bill]) -> None:
    """What to measure, and how."""
    if tasks := sorted({bill.prospect.trial.task.name for bill in bills if bill.step and not bill.tiles}):
        _say(f"time of {escape(', '.join(tasks))} unknown: nobody says how many tiles there are; give --data-root")
    groups = _grouped([bill for bill in bills if not bill.step], lambda bill: _pair(bill.prospect))
    if not groups:
        return
    _say(f"time unknown of {counted(_number(bill for group in groups for bill in group), 'trial')}: measure first")
    for group in groups[:_COMMANDS]:
        show_hint("  measure", _command(group[0].prospect.trial))
    if (more := len(groups) - _COMMANDS) > 0:
        _say(f"  ... and {counted(more, 'more pair')} of backbone and method")
    show_hint("  then", "this command again with --measured FILE (repeatable)")


def _command(trial: Trial) -> str:
    method = trial.method.target if trial.method.source_sha256 else trial.method.name
    file = f"{trial.backbone_name}_{trial.method.name}.json".replace(":", "_")
    where = " ".join([f"--scale {trial.scale.name} --backbone {trial.backbone_name}", *_changed(trial)])
    return f"python run.py bench step {where} --method {method} --json > {file}"


def _changed(trial: Trial) -> list[str]:
    """What the trial has otherwise than its scale and its method by default, as options."""
    usual, given = trial.scale.protocol_of(trial.task), trial.protocol
    words = {"crop": "--image-size", "batch_size": "--batch", "precision": "--precision"}
    sizes = [
        f"{word} {getattr(given, name)}" for name, word in words.items() if getattr(given, name) != getattr(usual, name)
    ]
    preset = type(trial.options).make({"preset": trial.options.preset})
    options = {name: value for name, value in vars(trial.options).items() if value != getattr(preset, name)}
    if trial.options.preset != type(trial.options).preset:
        options["preset"] = trial.options.preset
    return [*sizes, *(f"--set {trial.method.name}.{name}={value}" for name, value in options.items())]


def _pair(prospect: Prospect) -> tuple[str, str]:
    return prospect.trial.backbone_name, prospect.trial.method.name


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False)
