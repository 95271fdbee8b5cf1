"""One trial, readable top to bottom: seed, build, fit, evaluate, write the record."""

from __future__ import annotations

import math
import platform
import resource
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import threadpoolctl
import torch
from torch import nn

from benchmarks.tasks import Reader
from harness.evaluate import Point, Selector, confusion_per_tile
from harness.metrics import Areas
from harness.optim import build_optimizer, build_schedule, count_parameters
from harness.pipeline import Batch, Statistics, source_statistics, train_batches
from harness.records import Record, RecordStore
from harness.segmentor import Losses, Segmentor, build_segmentor
from harness.split import Split, split_tiles
from harness.trial import Trial, stream_seed

Report = Callable[[int, int, float], None]
"""Called after every step with the step, the number of steps and the loss."""


def run_trial(trial: Trial, store: RecordStore, report: Report = lambda *_: None) -> Record:
    """Run a trial, write its record and return it. A trial that raises leaves a failed record with its traceback."""
    started, clock = datetime.now(UTC), time.perf_counter()
    result: dict[str, Any] = {"inputs": trial.inputs(), "labels": trial.labels()}
    run: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    error = None
    try:
        with _single_thread():
            outcome, arrays = _run(trial, report, run)
        result |= outcome
    except Exception as caught:  # the one broad handler: whatever a trial does, the others go on
        error = {"type": type(caught).__name__, "message": str(caught), "traceback": traceback.format_exc()}
    run |= {"seconds": time.perf_counter() - clock, "started": started.isoformat(), **_surroundings()}
    status = "failed" if error else "done"
    record = Record(key=trial.key, status=status, result=result, run=run, error=error, arrays=arrays)
    store.write(record)
    return record


def _run(trial: Trial, report: Report, run: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    clock = time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    reader = trial.open_reader()
    split = split_tiles(reader, trial.data.source, trial.data.targets, trial.protocol.max_tiles)
    statistics = source_statistics(reader, split.train)
    model = build_segmentor(trial).to(_device())
    run["build_seconds"] = time.perf_counter() - clock

    selector = Selector(split)
    for point in fit(trial, model, reader, split, statistics, report, run):
        selector.add(point)

    result = {
        "classes": list(trial.data.classes),
        "statistics": {name: list(values) for name, values in asdict(statistics).items()},
        "parameters": count_parameters(model),
        "tiles": selector.tiles(),
        "points": selector.trace,
        "selections": selector.scores(),
    }
    return result, selector.arrays()


def fit(
    trial: Trial,
    model: Segmentor,
    reader: Reader,
    split: Split,
    statistics: Statistics,
    report: Report,
    run: dict[str, Any],
) -> Iterator[Point]:
    """Train and yield the evaluation points; `run` collects the times."""
    protocol, classes, seed = trial.protocol, trial.data.classes, trial.seed
    steps = protocol.steps or math.ceil(protocol.epochs * len(split.train) / protocol.batch_size)
    points = {round(steps * (i + 1) / protocol.evaluations) for i in range(protocol.evaluations)}
    workers = trial.scale.loader_workers
    batches = train_batches(
        reader, trial.task, classes, split.train, statistics, protocol, steps=steps, seed=seed, workers=workers
    )
    optimizer = build_optimizer(model, trial)
    schedule = build_schedule(optimizer, steps, protocol)
    seconds: list[float] = []
    recent: list[Losses] = []
    run["evaluate_seconds"] = 0.0
    for step, batch in enumerate(batches, start=1):
        clock = time.perf_counter()
        # dropout, routing noise and the loss's sampled points: one stream, restarted at every step
        torch.manual_seed(stream_seed(seed, f"noise/{step}"))
        losses = _backward(model, batch, step, steps)
        if protocol.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), protocol.clip_norm)
        optimizer.step()
        model.method.after_step(step)
        optimizer.zero_grad()
        schedule.step()
        recent.append(losses.detached())
        seconds.append(time.perf_counter() - clock)
        report(step, steps, float(recent[-1].total))
        if step in points:
            clock = time.perf_counter()
            torch.manual_seed(stream_seed(seed, "evaluation"))
            confusion_TKK = confusion_per_tile(model, reader, split, statistics, classes, _device())
            run["evaluate_seconds"] += time.perf_counter() - clock
            yield _point(step, recent, confusion_TKK)
            recent = []
    run |= {"train_seconds": sum(seconds), "step_ms_median": 1000 * float(np.median(seconds))}


def _point(step: int, recent: list[Losses], confusion_TKK: Areas) -> Point:
    task = float(np.mean([float(losses.task) for losses in recent]))
    auxiliary = float(np.mean([float(losses.auxiliary) for losses in recent]))
    return Point(step=step, task_loss=task, auxiliary_loss=auxiliary, confusion_TKK=confusion_TKK)


def _backward(model: Segmentor, batch: Batch, step: int, steps: int) -> Losses:
    model.train()
    losses = model.losses(batch.image.to(_device()), batch.label.to(_device()))
    if not torch.isfinite(losses.total):
        values = losses.detached()
        raise FloatingPointError(
            f"the loss is {float(values.total)} at step {step} of {steps} (head {float(values.task):.4g}, auxiliary "
            f"{float(values.auxiliary):.4g}): lower the learning rate, or mend the method"
        )
    losses.total.backward()
    return losses


class _single_thread(threadpoolctl.threadpool_limits):  # type: ignore[misc]
    """Torch, BLAS and OpenCV on one thread: two threads add up in another order and give other bits."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        super().__init__(1)


def _surroundings() -> dict[str, Any]:
    return {
        "finished": datetime.now(UTC).isoformat(),
        "process_peak_memory_mb": _peak_memory_mb(),
        "host": platform.node(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _peak_memory_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if platform.system() == "Darwin" else 2**10)


@cache
def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
