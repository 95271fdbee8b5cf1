"""A training step, timed by part, weighed, and its FLOPs counted."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.bench_modules import told
from harness.bench_parts import Elapsed, Stopwatch
from harness.bench_setup import StepSetup
from harness.bench_step import where
from harness.gpus import peak
from harness.measured import StepTime, trained
from harness.optim import count_parameters
from harness.rehearsal import Rehearsal
from harness.thrift import plainly
from harness.train import usage
from harness.trial import Trial

WARM_UPS = 2
"""Steps before the first that is timed: the code is compiled, if it is, and memory is taken."""


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What training steps cost.

    Args:
        time: the medians, as `plan` reads them.
        cpu_seconds: median of a step's CPU time, over all threads; None on a GPU.
        parts: medians of each part.
        steps: the parts of every step.
        losses: total loss of every step.
        built_mb: peak memory (MiB) once the model was built.
        build_seconds: to build it.
        flops: of a step's products, forward and backward, two for each multiplication with addition: linear layers,
            convolutions, attention. What is not counted: elementwise work, norms, softmax, sampling of points, sorting.
        in_backbone: the method acts inside the blocks, so that this part of it is told as backbone.
    """

    time: StepTime
    cpu_seconds: float | None
    parts: Mapping[str, Elapsed]
    steps: Sequence[Mapping[str, Elapsed]]
    losses: Sequence[float]
    built_mb: float
    build_seconds: float
    flops: int
    in_backbone: bool

    @property
    def images_per_second(self) -> float:
        """By the wall's clock, or the GPU's."""
        return self.time.batch / self.time.seconds_per_step

    @property
    def utilisation(self) -> float | None:
        """Of the FLOP/s that the GPU's maker names, the share that came; None on the CPU or an unknown GPU."""
        best = peak(self.time.device, self.time.precision) if self.time.on_gpu else None
        return self.flops / self.time.seconds_per_step / best if best else None


def facts(setup: StepSetup) -> dict[str, object]:
    """What is measured on, and how."""
    chip = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    return {
        "random_weights": setup.random_weights,
        "task": setup.task,
        **setup.thrift.told(),
        "threads": setup.threads,
        "machine": torch.cuda.get_device_name() if where(setup) == "cuda" else chip,
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }


def measure(setup: StepSetup, trial: Trial, on_step: Callable[[], None]) -> StepCost:
    """Measure the steps of a trial; its data need not be here.

    Args:
        setup: how.
        trial: which.
        on_step: called after every step, warm-ups included.

    Raises:
        ValueError: the device is not there, weights do not fit, or the step does not run.
    """
    device, before = torch.device(where(setup)), torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        return _measure(setup, trial, device, on_step)
    except (RuntimeError, FloatingPointError) as error:
        remedy = "leave --compile out, or " if setup.thrift.compiled else ""
        raise ValueError(
            f"the step does not run on {device} ({told(error)}): {remedy}lower --image-size or --batch"
        ) from error
    finally:
        torch.set_num_threads(before)


def _measure(setup: StepSetup, trial: Trial, device: torch.device, on_step: Callable[[], None]) -> StepCost:
    clock = time.perf_counter()
    rehearsal = Rehearsal(trial, random_weights=setup.random_weights, device=str(device))
    rehearsal.model.save(setup.thrift)
    built, build_seconds = usage(device), time.perf_counter() - clock
    losses, stopwatch = [float(rehearsal.step().total)], Stopwatch(rehearsal)
    on_step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = []
    for _ in range(WARM_UPS - 1 + setup.steps):
        found, parts = stopwatch.step(rehearsal)
        losses.append(float(found.total))
        steps.append(parts)
        on_step()
    steps, last = steps[WARM_UPS - 1 :], usage(device)
    wholes = [Elapsed.total(list(step.values())) for step in steps]
    return StepCost(
        time=StepTime(
            scale=trial.scale.name,
            backbone=trial.backbone_name,
            method=trial.method.name,
            image_size=trial.protocol.crop,
            batch=trial.protocol.batch_size,
            precision=trial.protocol.precision,
            device=last["device"],
            seconds_per_step=_median(wholes).seconds,
            peak_memory_mb=last["process_peak_memory_mb"],
            options=asdict(trial.options),
            trainable_parameters=trained(count_parameters(rehearsal.model)),
        ),
        cpu_seconds=_median(wholes).cpu_seconds,
        parts={part: _median([step[part] for step in steps if part in step]) for part in steps[0]},
        steps=steps,
        losses=losses,
        built_mb=built["process_peak_memory_mb"],
        build_seconds=build_seconds,
        flops=trial.protocol.batch_size * _flops_of_one(rehearsal),
        in_backbone=type(rehearsal.model.method).overrides("install"),
    )


def _flops_of_one(rehearsal: Rehearsal) -> int:
    """Of one image; after all that is measured, because the count holds more than a step does."""
    with FlopCounterMode(display=False) as counter, plainly():
        rehearsal.step(images=1)
    return int(counter.get_total_flops())


def _median(times: Sequence[Elapsed]) -> Elapsed:
    cpu = [took.cpu_seconds for took in times if took.cpu_seconds is not None]
    return Elapsed(
        seconds=float(np.median([took.seconds for took in times])), cpu_seconds=float(np.median(cpu)) if cpu else None
    )
