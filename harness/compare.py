"""Two records, or two rows of a table, side by side: paired over the same scenes and seeds. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.evidence import Evidence, evidence_of, rows_of
from harness.jackknife import Statistic
from harness.metrics import iou, mean_accuracy, mean_iou
from harness.records import Record, RecordStore
from harness.rows import current, recipe_of, table_of
from harness.statistics import MIN_CLASS_SCENES, Difference, class_scenes, differences, estimates, holm
from harness.status import Status
from methods.options import nearest

COSTS = {"ms per step": "step_ms_median", "s per trial": "seconds", "peak memory (MB)": "process_peak_memory_mb"}
"""What was measured of a trial, by its name in the record's `run` part."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One score of both sides in percent, and the paired difference `second - first`."""

    name: str
    first: float
    second: float
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """One cost of both sides, medians over seeds; the ratio is None where it would mean nothing."""

    name: str
    first: float
    second: float
    ratio: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides compared.

    Args:
        first: what is compared with, its common seeds alone.
        second: what is compared, likewise.
        pooled: mIoU and mAcc of all target scenes.
        domains: mIoU of each target domain; p-values corrected by Holm's method among them.
        classes: IoU of each class, likewise.
        costs: what each costs.
        notes: what to keep in mind, in sentences.
    """

    first: Evidence
    second: Evidence
    pooled: tuple[Line, ...]
    domains: tuple[Line, ...]
    classes: tuple[Line, ...]
    costs: tuple[CostLine, ...]
    notes: tuple[str, ...]


def find_sides(
    store: RecordStore, first: str, second: str, task: str = "", selection: str = "source_val"
) -> tuple[Evidence, Evidence]:
    """The two sides in the user's words.

    Args:
        store: the records.
        first: a trial key or its beginning, or a row as `method`, `method@backbone`, `method[options]@backbone`.
        second: likewise.
        task: only rows of this task.
        selection: `source_val`, `last` or `oracle`.

    Raises:
        ValueError: unknown or ambiguous, a failed record, or the two are of different tasks, data or recipes.
    """
    records = [record for record in current(store) if record.status is Status.DONE]
    tables: dict[str, list[Record]] = {}
    for record in records:
        tables.setdefault(_comparable(record), []).append(record)
    rows = {table: rows_of(same, selection) for table, same in tables.items()}
    if task and task not in (known := sorted({record.inputs["task"] for record in records})):
        raise ValueError(f"--task {task}: no record is of it{nearest(task, known)}")
    sides = [_candidates(store, text, rows, task, selection) for text in (first, second)]
    shared = [table for table in sides[0] if table in sides[1]]
    if not shared:
        one, other = (next(iter(side.values())) for side in sides)
        raise ValueError(f"{first} and {second} cannot be compared: {_why_not(one, other)}")
    if len(shared) > 1:
        places = ", ".join(sorted(_place(sides[0][table]) for table in shared))
        raise ValueError(f"{first} and {second} meet in {len(shared)} tables: {places}: say --task NAME, or give keys")
    one, other = (side[shared[0]] for side in sides)
    if [record.key for record in one.records] == [record.key for record in other.records]:
        raise ValueError(f"{first} and {second} are the same: name two")
    return one, other


def compare(first: Evidence, second: Evidence) -> Comparison:
    """Compare two sides of one table; where both have the same seeds they are paired, else refused.

    Raises:
        ValueError: they share no seed.
    """
    seeds = sorted(set(first.seeds) & set(second.seeds))
    if not seeds and len(first.seeds) == len(second.seeds) == 1:
        # one record each, of one row even: what a seed changes
        pairing = "Different seeds: the difference holds what the seed alone changes."
        seeds, second = list(first.seeds), _as_seed(second, first.seeds[0])
    elif not seeds:
        raise ValueError(
            f"{first.name} has seeds {_listed(first.seeds)}, {second.name} {_listed(second.seeds)}: none is common; "
            f"run both with --seeds N"
        )
    else:
        pairing = ""
    first, second = first.only(seeds), second.only(seeds)
    costs, machine = _costs(first, second)
    return Comparison(
        first=first,
        second=second,
        pooled=(_line("mIoU", first, second, mean_iou), _line("mAcc", first, second, mean_accuracy)),
        domains=_family([_line(name, first, second, mean_iou, name) for name in first.target_domains]),
        classes=_family(_class_lines(first, second)),
        costs=costs,
        notes=tuple(filter(None, (_one_seed(first), pairing, machine))),
    )


def _comparable(record: Record) -> str:
    return f"{table_of(record.inputs)}/{record.inputs['protocol_version']}"


def _candidates(
    store: RecordStore, text: str, rows: Mapping[str, Sequence[Evidence]], task: str, selection: str
) -> dict[str, Evidence]:
    """By table, what the text may stand for."""
    found: dict[str, list[Evidence]] = {}
    for table, same in rows.items():
        for row in same:
            if text in (row.name, row.name.partition("@")[0]) and task in ("", row.records[0].inputs["task"]):
                found.setdefault(table, []).append(row)
    if not found:
        return {_comparable(record): evidence_of([record], selection) for record in [_keyed(store, text, rows, task)]}
    several = sorted({row.name for same in found.values() for row in same})
    if len(several) > 1:
        raise ValueError(f"{text} may be any of {', '.join(several)}: say which")
    return {table: same[0] for table, same in found.items()}


def _keyed(store: RecordStore, text: str, rows: Mapping[str, Sequence[Evidence]], task: str) -> Record:
    """The one record whose key begins so."""
    keys = [path.stem for path in sorted(store.folder.glob(f"{text}*.json"))] if text.isalnum() else []
    if len(keys) > 1:
        raise ValueError(f"{len(keys)} records begin with {text!r}: give more of the key")
    record = store.load(keys[0]) if keys else None
    if record is None:
        names = sorted({row.name for same in rows.values() for row in same})
        where = f" of task {task}" if task else ""
        raise ValueError(f"no record begins with {text!r}, and no row{where} is called so{nearest(text, names)}")
    if record.status is not Status.DONE:
        raise ValueError(f"{record.key} has no scores, its trial failed: see `show {record.key}`")
    return record


def _why_not(one: Evidence, other: Evidence) -> str:
    """What differs of what must not."""
    left, right = (_fixed(side.records[0].inputs) for side in (one, other))
    apart = [f"{name} is {left.get(name)} and {right.get(name)}" for name in left if left[name] != right.get(name)]
    return f"{'; '.join(apart)}: only rows of one task, data and recipe can be"


def _fixed(inputs: Mapping[str, Any]) -> dict[str, Any]:
    names = ("task", "task_version", "data", "data_fingerprint", "protocol_version")
    head = {f"head.{name}": value for name, value in inputs["head"].items()}
    return {**{name: inputs[name] for name in names}, **recipe_of(inputs), **head}


def _place(row: Evidence) -> str:
    recipe = row.labels["recipe"]
    return f"{row.records[0].inputs['task']}{f' ({recipe})' if recipe else ''}"


def _as_seed(side: Evidence, seed: int) -> Evidence:
    (record,) = side.records
    result = {**record.result, "inputs": {**record.inputs, "seed": seed}}
    return replace(side, records=(replace(record, result=result),))


def _line(name: str, first: Evidence, second: Evidence, statistic: Statistic, domain: str = "") -> Line:
    kept = [i for i, of in enumerate(first.domains) if domain in ("", of)]
    domains = [first.domains[i] for i in kept]
    means = [estimates(side.areas[:, kept], domains, statistic)[0].mean for side in (first, second)]
    (difference,) = differences(second, first, statistic, domain=domain)
    return Line(name=name, first=means[0], second=means[1], difference=difference)


def _class_lines(first: Evidence, second: Evidence) -> list[Line]:
    names = first.records[0].result["classes"]
    sides = [estimates(side.areas, side.domains, iou) for side in (first, second)]
    lines = []
    for k, (difference, scenes) in enumerate(
        zip(differences(second, first, iou), class_scenes(first.areas), strict=True)
    ):
        if scenes < MIN_CLASS_SCENES:
            difference = replace(difference, low=np.nan, high=np.nan, p=np.nan)
        lines.append(
            Line(name=names[k], first=sides[0][k].mean, second=sides[1][k].mean, difference=difference),
        )
    return lines


def _family(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The same with corrected p-values, as one family."""
    p_holm = holm([line.difference.p for line in lines])
    return tuple(
        replace(line, difference=replace(line.difference, p_holm=p)) for line, p in zip(lines, p_holm, strict=True)
    )


def _costs(first: Evidence, second: Evidence) -> tuple[tuple[CostLine, ...], str]:
    """Costs, and a word if they were measured on different machines."""
    sides = (first, second)
    machines = {(record.run.get("host"), record.run.get("device")) for side in sides for record in side.records}
    one, other = (_trained(side.records[0]) for side in sides)
    lines = [_cost_line("trained parameters", one, other, alike=True)]
    for name, part in COSTS.items():
        values = [[record.run.get(part) for record in side.records] for side in sides]
        if not any(value is None for side in values for value in side):
            one, other = (float(np.median(np.array(side, dtype=np.float64))) for side in values)
            lines.append(_cost_line(name, one, other, alike=len(machines) == 1))
    note = "" if len(machines) == 1 else "Times and memory are of different machines, so without a ratio."
    return tuple(lines), note


def _trained(record: Record) -> float:
    """Trainable parameters without the head."""
    parameters = record.result["parameters"]
    return float(sum(parameters.get(group, 0) for group in ("adapter", "backbone")))


def _cost_line(name: str, one: float, other: float, *, alike: bool) -> CostLine:
    return CostLine(name=name, first=one, second=other, ratio=other / one if one and alike else None)


def _one_seed(side: Evidence) -> str:
    if len(side.seeds) > 1:
        return ""
    return "One seed: intervals and p-values are about these two trained models, not about the methods."


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
