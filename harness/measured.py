"""Measured times of training steps: their file, and which of them tells what a trial costs. Free of torch.

The file is JSON: one measurement, or a list of them, each an object with the fields of `StepTime`; further fields are
left alone. `bench step --json` writes it, `plan --measured FILE` reads it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from harness.records import Record
from harness.status import Status
from harness.trial import Trial, canonical

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
RECORDS, FILE = "records", "measured"
"""Where a time comes from: trials that ran, or `bench step`."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """One measurement of a training step.

    Args:
        scale: name of the scale.
        backbone: its name, as `dinov3` or at the scale, as `dinov3_l`.
        method: its name.
        image_size: side of a crop in pixels.
        batch: crops per step.
        precision: `fp32` or `bf16`.
        device: the GPU's name, or `cpu`.
        seconds_per_step: forward, backward and optimiser.
        peak_memory_mb: most memory of the device that was held at a time, in MiB.
        options: the method's options, those at their default may be left out; None if not told.
        seconds_per_evaluated_tile: prediction and score of one tile; None if not measured.
        trainable_parameters: of adapter, head and whatever else trains; None if not told.
        origin: `records` or `measured`.
    """

    scale: str
    backbone: str
    method: str
    image_size: Count
    batch: Count
    precision: str
    device: str
    seconds_per_step: Positive
    peak_memory_mb: Positive
    options: Mapping[str, Any] | None = None
    seconds_per_evaluated_tile: Positive | None = None
    trainable_parameters: Count | None = None
    origin: str = FILE

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU was measured."""
        return self.device != "cpu"

    def fits(self, trial: Trial) -> bool:
        """Whether it tells anything of a trial: scale, backbone, method and crop agree."""
        mine = (self.scale, self.method, self.image_size)
        named = self.backbone in (trial.backbone.name, trial.backbone_name)
        return named and mine == (trial.scale.name, trial.method.name, trial.protocol.crop)

    def seconds_at(self, batch: int) -> float:
        """Seconds of a step of so many crops, as if each took as long as the measured ones."""
        return self.seconds_per_step * batch / self.batch


_STEP_TIMES = TypeAdapter(list[StepTime])


def load_step_times(path: Path) -> list[StepTime]:
    """The measurements of a file.

    Raises:
        ValueError: it cannot be read or understood. Names file, place and remedy.
    """
    remedy = "write it with `python run.py bench step --scale paper --backbone NAME --method NAME --json`"
    try:
        body = json.loads(path.read_bytes(), parse_constant=_refuse)
        found = _STEP_TIMES.validate_python(body if isinstance(body, list) else [body])
    except OSError as error:
        raise ValueError(f"--measured {path} cannot be read ({error.strerror}): {remedy}") from error
    except ValidationError as error:
        first = error.errors()[0]
        number, *field = first["loc"]
        place = f"measurement {int(number) + 1}" + "".join(f", {name}" for name in field)
        raise ValueError(f"--measured {path}: {place}: {first['msg']}; {remedy}") from None
    except ValueError as error:
        raise ValueError(f"--measured {path} is no JSON ({error}): {remedy}") from None
    return [replace(step, origin=FILE) for step in found]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def trained(counts: Mapping[str, int]) -> int:
    """Of parameters by group, as `optim.count_parameters` gives them, those that train."""
    return sum(counts.get(group, 0) for group in ("head", "adapter", "backbone"))


def recorded_step_times(records: Iterable[Record]) -> list[StepTime]:
    """What done trials tell: the median over those of one backbone, method, options, crop and batch."""
    alike: dict[str, list[StepTime]] = {}
    for record in records:
        if record.status is Status.DONE and (step := _of_record(record)):
            alike.setdefault(canonical({**asdict(step), **_NUMBERS}), []).append(step)
    return [_median(steps) for steps in alike.values()]


_NUMBERS = dict.fromkeys(("seconds_per_step", "peak_memory_mb", "seconds_per_evaluated_tile", "trainable_parameters"))


def _of_record(record: Record) -> StepTime | None:
    inputs, run, points = record.inputs, record.run, record.result["points"]
    seconds = run.get("train_seconds", 0) + run.get("data_seconds", 0)
    if not points or not seconds:
        return None
    evaluated = len(points) * len(record.result["tiles"]["name"])
    return StepTime(
        scale=inputs["scale"],
        backbone=inputs["backbone"],
        method=inputs["method"],
        image_size=inputs["protocol"]["crop"],
        batch=inputs["protocol"]["batch_size"],
        precision=inputs["protocol"].get("precision", "fp32"),
        device=run["device"],
        seconds_per_step=seconds / points[-1]["step"],
        peak_memory_mb=run["process_peak_memory_mb"],
        options=inputs["options"],
        seconds_per_evaluated_tile=run.get("evaluate_seconds", 0) / evaluated or None,
        trainable_parameters=trained(record.result["parameters"]) or None,
        origin=RECORDS,
    )


def _median(steps: Sequence[StepTime]) -> StepTime:
    evaluating = [step.seconds_per_evaluated_tile for step in steps if step.seconds_per_evaluated_tile]
    return replace(
        steps[0],
        seconds_per_step=statistics.median(step.seconds_per_step for step in steps),
        peak_memory_mb=max(step.peak_memory_mb for step in steps),
        seconds_per_evaluated_tile=statistics.median(evaluating) if evaluating else None,
        trainable_parameters=max(step.trainable_parameters or 0 for step in steps) or None,
    )


def closest(trial: Trial, steps: Sequence[StepTime]) -> StepTime | None:
    """The measurement that tells most of a trial, or None if none fits.

    The same options first, then a GPU, the same precision, trials that ran before `bench step`, the batch, the later.
    """

    def rank(numbered: tuple[int, StepTime]) -> tuple[bool | int, ...]:
        number, step = numbered
        return (
            _same_options(trial, step),
            step.on_gpu,
            step.precision == trial.protocol.precision,
            step.origin == RECORDS,
            step.batch == trial.protocol.batch_size,
            number,
        )

    fitting = [(number, step) for number, step in enumerate(steps) if step.fits(trial)]
    return max(fitting, key=rank)[1] if fitting else None


def _same_options(trial: Trial, step: StepTime) -> bool:
    if step.options is None:
        return False
    try:
        return type(trial.options).make(step.options) == trial.options
    except ValueError:
        return False  # of another version of the method
