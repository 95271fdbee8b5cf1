"""Examining methods without training them: conformance to the contract, and parameter counts."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.catalogue import TASKS
from harness import screen
from harness.backbone_names import find_backbone
from harness.check_driver import check_steps, with_preset
from harness.lookup import built_in, find, find_methods, find_scale
from harness.plan import Request, make_plan
from harness.progress import counting
from harness.trial import Trial
from harness.zoo import BACKBONES
from methods import OWN

if TYPE_CHECKING:  # imports torch
    from harness.params import Count


def check_method(method: str, backbones: Sequence[str], settings: Sequence[str], scale: str = "test") -> int:
    """Run the conformance suite on a method, or at another scale one training step, and show what was found.

    Args:
        method: name, `path/to/file.py:Class`, or `all` for every method with a file of its own.
        backbones: names; empty for all.
        settings: `method.option=value` and `protocol.field=value`.
        scale: `test` for the suite; else that whose sizes the step has.

    Returns:
        The exit code: 0 if nothing is wrong, else 1.

    Raises:
        ValueError: an unknown name, option or value.
    """
    methods = OWN if method == "all" else (method,)
    if find_scale(scale).name != "test":
        return check_steps(methods, backbones, settings, scale)
    request = Request(
        suite="fair",
        scale=scale,
        tasks=tuple(TASKS)[:1],  # the contract knows no task: one is enough
        methods=methods,
        backbones=backbones,
        seeds=1,
        settings=settings,
        recorded=False,
    )
    trials: dict[str, dict[str, Trial]] = {}
    for trial in (planned.trial for planned in make_plan(request, None).trials):
        trials.setdefault(trial.method.name, {})[with_preset(trial.backbone_name, trial)] = trial
    from harness.conformance import CHECKS, examine

    wrong = False
    for name, columns in trials.items():
        with counting(f"checking {name}", len(CHECKS) * len(columns)) as advance:
            found = {column: examine(trial, advance) for column, trial in columns.items()}
        screen.show_conformance(name, found)
        wrong |= any(said for checks in found.values() for said in checks.values())
    return int(wrong)


def count_parameters(methods: Sequence[str], backbones: Sequence[str], scale: str, form: str) -> None:
    """Count the trainable parameters of methods on backbones and print them.

    Raises:
        ValueError: an unknown name.
    """
    write = find("format", form, _FORMATS)
    refs = [ref for name in methods for ref in find_methods(name)] or [built_in(name) for name in OWN]
    chosen = find_scale(scale)
    specs = [find_backbone(name, chosen.build) for name in backbones or BACKBONES]
    from harness.params import count

    counts = []
    with counting("counting", len(refs) * len(specs)) as advance:
        for ref in refs:
            for spec in specs:
                counts.append(count(ref, ref.options_class.make({}), spec, chosen))
                advance()
    write(counts)


def _as_json(counts: Sequence[Count]) -> None:
    json.dump([_row(count) for count in counts], sys.stdout, indent=1)
    sys.stdout.write("\n")


def _as_csv(counts: Sequence[Count]) -> None:
    rows = [_row(count) for count in counts]
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _row(count: Count) -> dict[str, object]:
    return {**asdict(count), "difference_m": count.difference_m}


_FORMATS: dict[str, Callable[[Sequence[Count]], None]] = {
    "table": screen.show_counts,
    "csv": _as_csv,
    "json": _as_json,
}
