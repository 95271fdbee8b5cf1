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
from harness.lookup import built_in, find, find_methods, find_scale
from harness.plan import Request, make_plan
from harness.progress import counting
from harness.trial import Trial
from harness.zoo import BACKBONES
from methods import OWN

if TYPE_CHECKING:  # imports torch
    from harness.params import Count


def check_method(method: str, backbones: Sequence[str], settings: Sequence[str]) -> int:
    """Run the conformance suite on a method and show what it found.

    Returns:
        The exit code: 0 if the method keeps to the contract, else 1.

    Raises:
        ValueError: an unknown name, option or value.
    """
    request = Request(
        suite="fair",
        scale="test",
        tasks=tuple(TASKS)[:1],  # the contract knows no task: one is enough
        methods=(method,),
        backbones=backbones,
        seeds=1,
        settings=settings,
        recorded=False,
    )
    trials = {_column(planned.trial): planned.trial for planned in make_plan(request, None).trials}
    from harness.conformance import CHECKS, examine

    with counting("checking", len(CHECKS) * len(trials)) as advance:
        found = {backbone: examine(trial, advance) for backbone, trial in trials.items()}
    screen.show_conformance(method, found)
    return int(any(wrong for checks in found.values() for wrong in checks.values()))


def _column(trial: Trial) -> str:
    preset = trial.options.preset
    return trial.backbone_name + (f" (preset={preset})" if preset != type(trial.options).preset else "")


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
