"""What the user sees of a measured training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.screen import console

if TYPE_CHECKING:  # torch
    from harness.bench_training import StepCost

_RANDOM = "RANDOM WEIGHTS: the encoders were drawn, not loaded; times and memory are those of a trial, losses are not."


def show(cost: StepCost, facts: Mapping[str, object], *, as_json: bool) -> None:
    """A step's times by part, its memory and FLOPs, as a table or as JSON; `facts` say how and on what."""
    if as_json:
        console.print_json(data=_json(cost, facts))
        return
    from harness.bench_parts import Elapsed, shares

    whole = Elapsed(seconds=cost.time.seconds_per_step, cpu_seconds=cost.cpu_seconds)
    share = shares(cost.parts)
    table = Table(title="one training step, by part", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("part")
    columns = ("s", "CPU s", "share") if cost.cpu_seconds is not None else ("s", "share")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for part, took in cost.parts.items():
        table.add_row(part, *_times(took.seconds, took.cpu_seconds), f"{100 * share[part]:.1f} %")
    table.add_row("[bold]step[/bold]", *_times(whole.seconds, whole.cpu_seconds), "")
    console.print(table)
    for line in _lines(cost, facts):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if facts["random_weights"]:
        console.print(f"[yellow]{_RANDOM}[/yellow]", soft_wrap=True, highlight=False)


def _times(seconds: float, cpu_seconds: float | None) -> list[str]:
    return [f"{value:.{3 if value < 10 else 1}f}" for value in (seconds, cpu_seconds) if value is not None]


def _lines(cost: StepCost, facts: Mapping[str, Any]) -> list[str]:
    time, cpu = cost.time, not cost.time.on_gpu
    rate = cost.flops / time.seconds_per_step
    used = f", {100 * cost.utilisation:.1f} % of what the GPU can do" if cost.utilisation is not None else ""
    kind = "of the process, Python and libraries included" if cpu else "allocated on the GPU"
    told = [
        f"{cost.images_per_second:.3g} images/s; medians of {len(cost.steps)} steps",
        f"peak memory {time.peak_memory_mb / 1024:.2f} GiB {kind}; {cost.built_mb / 1024:.2f} GiB once built, "
        f"in {cost.build_seconds:.1f} s",
        f"{cost.flops / 1e12:.3f} TFLOP of products in a step, {rate / 1e12:.3f} TFLOP/s{used}",
        f"{time.method} on {time.backbone}, {facts['task']}, {time.image_size} px, batch {time.batch}, "
        f"{', '.join([time.precision, *_thrift(facts)])}; {facts['machine']}, {facts['threads']} CPU "
        f"thread(s), load {facts['load']} before, torch {facts['torch']}",
    ]
    if cost.in_backbone:
        told.insert(0, "the method acts inside the blocks: most of it stands under backbone")
    if cpu:
        told.append("CPU s leaves out what other programs take: on a shared machine compare that")
    return told


def _thrift(facts: Mapping[str, Any]) -> list[str]:
    """What was asked for, in words."""
    parts = facts["accumulate"]
    said = {"checkpointing": facts["checkpointing"], f"in {parts} parts": parts > 1, "compiled": facts["compiled"]}
    return [words for words, asked in said.items() if asked]


def _json(cost: StepCost, facts: Mapping[str, object]) -> dict[str, object]:
    """The fields of a `StepTime`, which `plan --measured` reads, and more."""
    told = {**asdict(cost), **asdict(cost.time), **facts}
    del told["time"]
    return {
        **told,
        "images_per_second": cost.images_per_second,
        "flops_per_second": cost.flops / cost.time.seconds_per_step,
        "utilisation": cost.utilisation,
    }
