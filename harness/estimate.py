"""What a trial may cost, judged by earlier ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.records import Record
from harness.status import Status
from harness.trial import Trial


class Times:
    """Seconds per trial from earlier records: of the same kind where there are any, else with its steps scaled."""

    def __init__(self, records: Sequence[Record]) -> None:
        """Take the times of the done ones among the records."""
        self.seconds: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
        for record in records:
            if record.status is Status.DONE:
                steps = float(record.run.get("train_seconds", 0) + record.run.get("data_seconds", 0))
                for kind, length in _kinds(record.inputs):
                    self.seconds.setdefault(kind, []).append((record.run["seconds"] - steps, steps / length))

    def estimate(self, trial: Trial) -> float | None:
        """Seconds the trial may take, or None if nothing like it ever ran, here or where `guess` was measured."""
        known = self.known(trial)
        return guess(trial) if known is None else known

    def known(self, trial: Trial) -> float | None:
        """Seconds the trial may take by records of its task and backbone alone; None if there are none."""
        for kind, length in _kinds(trial.inputs()):
            if kind in self.seconds:
                return statistics.median(fixed + length * step for fixed, step in self.seconds[kind])
        return None


def guess(trial: Trial) -> float | None:
    """Seconds of a mini trial, as measured on two cores at work (docs/mini_scale.md); None at other scales."""
    if trial.scale.name != "mini" or not trial.protocol.steps:
        return None
    build, evaluation = 2.0, 2.0
    step = 0.02 + (0.019 if trial.options.needs_depth else 0.014) * trial.protocol.batch_size
    return build + evaluation * trial.protocol.evaluations + step * trial.protocol.steps


def _kinds(inputs: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], int]]:
    """What a trial has in common with others, closest first; and by which length its time is to be divided."""
    protocol = inputs["protocol"]
    place = (inputs["data"], inputs["task"], inputs["backbone"])
    unit = "steps" if protocol["steps"] else "epochs"
    whole = (*place, unit, protocol[unit])
    yield (*whole, inputs["method"]), 1
    yield whole, 1
    yield (*place, unit, inputs["method"]), protocol[unit]
    yield (*place, unit), protocol[unit]
