"""Sections with curves: accuracy against cost, against severity of the shift, against steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.records import Record
from harness.report.drawings import SCORE, Axis, Dot, Line, curves, frontier
from harness.report.findings import Comparison, Findings, Row
from harness.report.parts import (
    GAP,
    NOTHING,
    Choice,
    Choices,
    Note,
    Part,
    Plot,
    Section,
    frame_table,
)
from harness.scales import Protocol
from harness.split import SOURCE_VAL
from harness.trial import digest


def cost(found: Findings) -> Section:
    """Accuracy against what it costs."""
    options = [Choice(title=c.title, parts=[_frontier(c, found)]) for c in found.comparisons]
    return Section(
        slug="cost",
        title="Accuracy and cost",
        lead=(
            "Target mIoU against trainable parameters without the head, seconds of training steps and peak memory "
            "(medians over seeds; bars: the tables' 95 % intervals). The stepped line joins what nothing "
            "cheaper beats; up and left is better. Times compare only within one kind of machine under equal load, "
            "and on a CPU memory is the whole process's, libraries included: small differences there mean nothing."
        ),
        parts=[Choices(label="Task and backbone", options=options)] if options else [Note(text=NOTHING)],
    )


COSTS: Sequence[tuple[Axis, Callable[[Record], float]]] = (
    (
        Axis(label="trainable parameters without head", log=True),
        lambda record: float(sum(record.result["parameters"].get(group, 0) for group in ("adapter", "backbone"))),
    ),
    (Axis(label="training time (s)"), lambda record: float(record.run["train_seconds"])),
    (Axis(label="peak memory (MB)"), lambda record: float(record.run["process_peak_memory_mb"])),
)


def _frontier(comparison: Comparison, found: Findings) -> Plot:
    def dot(row: Row, of: Callable[[Record], float]) -> Dot:
        median = float(np.median([of(record) for record in row.records]))
        return Dot(name=row.title, x=median, y=row.target, low=row.low, high=row.high)

    panels = [(axis, [dot(row, of) for row in comparison.rows]) for axis, of in COSTS]
    told = "; ".join(
        f"{row.title}: {row.target:.1f} %, {panels[0][1][i].x:.0f} parameters, {panels[1][1][i].x:.0f} s, "
        f"{panels[2][1][i].x:.0f} MB"
        for i, row in enumerate(comparison.rows)
    )
    slug = f"cost-{comparison.slug}"
    svg = frontier(panels, SCORE, found.looks, f"Target mIoU against three kinds of cost. {told}", slug)
    return Plot(caption=f"{comparison.title}: accuracy against cost.", svg=svg, name=slug)


def severity(found: Findings) -> Section:
    """Dose and response: target mIoU over the severity of the shift."""
    groups: dict[str, dict[float, Comparison]] = {}
    for comparison in found.comparisons:
        inputs = comparison.first.inputs
        if inputs["data"] == "embedded":
            groups.setdefault(_but_severity(inputs), {})[_severity(inputs)] = comparison
    several = [by for by in groups.values() if len(by) > 1]
    options = [_dose(f"dose{i}", dict(sorted(by.items())), found) for i, by in enumerate(several)]
    nothing = Note(text="No task has records of several severities: no curves. `--severity 0..1` makes them.")
    return Section(
        slug="severity",
        title="Severity of the shift",
        lead=(
            "Target mIoU over how far the synthetic targets lie from the source: 0 like the source, 1 the whole shift "
            "(bands: 95 % intervals). A method that adapts well loses less on the way to the right; a line that "
            "starts higher is a better model, not a more robust one. Nothing follows for shifts of real sensors."
        ),
        parts=[Choices(label="Task and backbone", options=options)] if options else [nothing],
        numbers=bool(options),
    )


def _severity(inputs: Mapping[str, Any]) -> float:
    return float(inputs.get("shift", {}).get("severity", 1.0))


def _but_severity(inputs: Mapping[str, Any]) -> str:
    recipe = {name: value for name, value in inputs["protocol"].items() if name not in Protocol.CONTROLS}
    shift = {name: value for name, value in inputs.get("shift", {}).items() if name != "severity"}
    names = ("task", "task_version", "protocol_version", "backbone", "head")
    return digest([*(inputs[name] for name in names), recipe, shift])


def _dose(slug: str, by_severity: Mapping[float, Comparison], found: Findings) -> Choice:
    rows: dict[str, dict[float, Row]] = {}
    for dose, comparison in by_severity.items():
        for row in comparison.rows:
            rows.setdefault(row.title, {})[dose] = row
    lines = [_response(name, by) for name, by in rows.items() if len(by) > 1]
    last = by_severity[max(by_severity)]
    recipe = [part for part in last.labels["recipe"].split(", ") if not part.startswith("severity=")]
    title = " · ".join(filter(None, (last.task, last.labels["backbone"], ", ".join(recipe))))
    shown = frame_table(_losses(rows, sorted(by_severity)), f"{title}: target mIoU in % by severity.")
    if not lines:
        return Choice(title=title, parts=[Note(text="No method has several severities: no curve."), shown])
    told = "; ".join(
        f"{line.name}: " + ", ".join(f"{y:.1f} at {x:g}" for x, y in zip(line.x, line.y, strict=True)) for line in lines
    )
    alt = f"Target mIoU in percent over severity. {told}"
    svg = curves([(Axis(label=SCORE), lines)], "severity of the shift (0 to 1)", found.looks, alt, slug)
    parts: list[Part] = [Plot(caption=f"{title}: target mIoU over severity.", svg=svg, name=slug), shown]
    single = [name for name, by in rows.items() if len(by) == 1]
    if single:
        parts.append(Note(text=f"Not drawn, with one severity alone: {', '.join(single)}."))
    return Choice(title=title, parts=parts)


def _response(name: str, by_severity: Mapping[float, Row]) -> Line:
    rows = list(by_severity.values())
    return Line(
        name=name,
        x=list(by_severity),
        y=[row.target for row in rows],
        low=[row.low for row in rows],
        high=[row.high for row in rows],
    )


def _losses(rows: Mapping[str, Mapping[float, Row]], doses: Sequence[float]) -> pd.DataFrame:
    first, last = doses[0], doses[-1]
    loss = f"Loss {first:g} to {last:g}"
    return pd.DataFrame(
        [
            {
                "Method": name,
                **{f"{dose:g}": f"{by[dose].target:.1f}" if dose in by else GAP for dose in doses},
                loss: f"{by[first].target - by[last].target:.1f}" if {first, last} <= by.keys() else GAP,
            }
            for name, by in rows.items()
        ]
    )


def training(found: Findings) -> Section:
    """Losses and mIoU at every evaluation point."""
    options = [Choice(title=c.title, parts=[_curves(c, found)]) for c in found.comparisons]
    return Section(
        slug="training",
        title="Training curves",
        lead=(
            "Loss of the head and of the method's own (auxiliary, as it enters the sum; only where there is one), and "
            "mIoU on held-out source scenes and on the target, at every evaluation point: means over seeds, bands from "
            "the lowest to the highest seed. Losses are averages since the point before. Auxiliary losses of two "
            "methods measure different things. The best point on the target was never chosen from this curve."
        ),
        parts=[Choices(label="Task and backbone", options=options)] if options else [Note(text=NOTHING)],
    )


def _curves(comparison: Comparison, found: Findings) -> Plot:
    measures: list[tuple[Axis, Callable[[Mapping[str, Any]], float | None]]] = [
        (Axis(label="loss of the head"), lambda point: point["task_loss"]),
        (Axis(label="mIoU on the source (%)"), lambda point: point["miou"][SOURCE_VAL]),
        (Axis(label=SCORE), lambda point: point["miou"]["target"]),
    ]
    panels = [(axis, [_line(row, of) for row in comparison.rows]) for axis, of in measures]
    auxiliary = [_line(row, lambda point: point["auxiliary_loss"]) for row in comparison.rows]
    if helped := [line for line in auxiliary if any(value > 0 for value in line.y)]:
        lowest, highest = min(min(line.low) for line in helped), max(max(line.high) for line in helped)
        log = lowest > 0 and highest > 10 * lowest  # within one power of ten a logarithm has no ticks
        panels.insert(1, (Axis(label="auxiliary loss", log=log), helped))
    told = "; ".join(f"{line.name}: {line.y[-1]:.1f}" for line in panels[-1][1])
    slug = f"training-{comparison.slug}"
    alt = f"Losses and mIoU by optimiser step. Target mIoU in percent at the end: {told}"
    svg = curves(panels, "optimiser step", found.looks, alt, slug)
    return Plot(caption=f"{comparison.title}: training.", svg=svg, name=slug)


def _line(row: Row, of: Callable[[Mapping[str, Any]], float | None]) -> Line:
    points = [record.result["points"] for record in row.records]
    values_SP = np.array([[np.nan if of(p) is None else of(p) for p in seed] for seed in points], dtype=np.float64)
    return Line(
        name=row.title,
        x=[float(point["step"]) for point in points[0]],
        y=values_SP.mean(0).tolist(),
        low=values_SP.min(0).tolist(),
        high=values_SP.max(0).tolist(),
    )
