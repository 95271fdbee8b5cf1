"""One trial, readable top to bottom: seed, build, fit, evaluate, write the record."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import threadpoolctl
import torch
from torch import Tensor, nn

from benchmarks.tasks import Reader
from harness.apart import process_peak_mb
from harness.audit_status import audit_of
from harness.evaluate import Point, Selector, confusion_per_tile
from harness.halfway import Halfway
from harness.means import Means
from harness.metrics import Areas
from harness.optim import build_optimizer, build_schedule, count_parameters
from harness.panels import make_panels
from harness.pipeline import Batch, Statistics, input_statistics, train_batches
from harness.records import Arrays, Record, failed_record, surroundings
from harness.schedule import Report
from harness.segmentor import Losses, Segmentor, build_segmentor
from harness.split import SOURCE_VAL, Split, split_tiles
from harness.status import Status
from harness.trial import Trial, canonical, stream_seed

TIMES = ("data_seconds", "evaluate_seconds")
"""What adds up over the parts of a trial that stopped halfway."""
EARLIER = "earlier_seconds"
"""In a record: what the parts before the last took, up to the evaluation point from which the next went on."""


def run_trial(trial: Trial, report: Report = lambda *_: None, means: Means = Means()) -> Record:  # noqa: B008 (frozen)
    """Run a trial and return its record; one that raises, or whose result holds a NaN, comes back as failed.

    Args:
        trial: the trial.
        report: called after every step.
        means: what it may use; without the GPU that it may use it trains on CPU, which the record says.
    """
    started = datetime.now(UTC)
    device = _device(means.gpu)
    run: dict[str, Any] = means.thrift.told()
    try:
        with _single_thread():
            result, arrays, attachments = _run(trial, report, run, device, means)
        canonical(result)  # a NaN is the trial's failure, not the writer's
    except Exception as error:  # broad: whatever a trial does, the others go on
        record = failed_record(trial, error, started)
        return replace(record, run={**run, **record.run, **usage(device)})
    return Record(
        key=trial.key,
        status=Status.DONE,
        result={"inputs": trial.inputs(), "labels": trial.labels(), **result},
        run=_told(run, started, device),
        arrays=arrays,
        attachments=attachments,
    )


def _told(run: Mapping[str, Any], started: datetime, device: torch.device) -> dict[str, Any]:
    told = {**run, **surroundings(started), **usage(device)}
    return {**told, "seconds": told["seconds"] + run.get(EARLIER, 0.0)}


def _run(
    trial: Trial, report: Report, run: dict[str, Any], device: torch.device, means: Means
) -> tuple[dict[str, Any], Arrays, dict[str, Arrays]]:
    clock = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trial.confirm_weights()
    reader = trial.open_reader()
    run |= audit_of(trial, reader)
    split = split_tiles(reader, trial.data.source, trial.data.targets, trial.protocol.max_tiles)
    statistics = input_statistics(trial.protocol, trial.task, reader, split.train)
    model = build_segmentor(trial).to(device)
    model.save(means.thrift)
    run["build_seconds"] = time.perf_counter() - clock

    course, selector = Course(trial, model, split), Selector(split)
    weights: dict[str, Tensor] = {}
    kept = Halfway(means.halfway, trial, device)
    if found := kept.load():
        weights = found["weights"]
        course.load_state(found["course"])
        selector.load_state(found["selector"])
        run |= {**found["run"], "resumed_at": course.step}
    before = run.get(EARLIER, 0.0)
    for point in fit(course, reader, split, statistics, report, run):
        selector.add(point)
        if selector.chosen[SOURCE_VAL] is point:
            weights = {name: tensor.cpu().clone() for name, tensor in model.trained_state().items()}
        if course.step < course.steps:
            times = {**{name: run[name] for name in TIMES}, EARLIER: before + time.perf_counter() - clock}
            kept.save(weights=weights, course=course.state(), selector=selector.state(), run=times)
    model.load_trained(weights)
    torch.manual_seed(stream_seed(trial.seed, "panels"))
    panels = make_panels(model, reader, split, statistics, trial.task, trial.data.classes)
    result = {**_found(trial, statistics, model, selector), "panels": panels.tiles}
    attachments = {"weights": {name: tensor.numpy() for name, tensor in weights.items()}, "panels": panels.arrays}
    return result, selector.arrays(), attachments


def _found(trial: Trial, statistics: Statistics, model: Segmentor, selector: Selector) -> dict[str, Any]:
    return {
        "classes": list(trial.data.classes),
        "statistics": {"mean": list(statistics.mean), "std": list(statistics.std)},
        "parameters": count_parameters(model),
        "tiles": selector.tiles(),
        "points": selector.trace,
        "selections": selector.scores(),
    }


class Course:
    """What training changes: the trained tensors, the optimiser, its schedule, the steps done.

    Attributes:
        step: how many are done.
        steps: how many there are.
        seconds: what each took.
    """

    def __init__(self, trial: Trial, model: Segmentor, split: Split) -> None:
        """Before the first step."""
        protocol = trial.protocol
        self.trial, self.model = trial, model
        self.step = 0
        self.steps = protocol.steps or math.ceil(protocol.epochs * len(split.train) / protocol.batch_size)
        self.seconds: list[float] = []
        self.optimizer = build_optimizer(model, trial)
        self.schedule = build_schedule(self.optimizer, self.steps, protocol)

    @property
    def points(self) -> set[int]:
        """The steps after which the model is evaluated."""
        evaluations = self.trial.protocol.evaluations
        return {round(self.steps * (i + 1) / evaluations) for i in range(evaluations)}

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on to the same numbers; every step has a random stream of its own."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "trained": self.model.trained_state(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.model.method.memory(),
            "last_step": self.schedule.last_epoch,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.model.load_trained(state["trained"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.model.method.remember(state["method"])
        self.schedule.load_state_dict({**self.schedule.state_dict(), "last_epoch": state["last_step"]})
        self.step, self.seconds = state["step"], list(state["seconds"])

    def advance(self, batch: Batch, device: torch.device) -> Losses:
        """One step on a batch."""
        clock = time.perf_counter()
        step, protocol = self.step + 1, self.trial.protocol
        # dropout, routing noise and the loss's sampled points: one stream, restarted at every step
        torch.manual_seed(stream_seed(self.trial.seed, f"noise/{step}"))
        losses = _backward(self.model, batch, device, step, self.steps)
        if protocol.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), protocol.clip_norm)
        self.optimizer.step()
        self.model.method.after_step(step)
        self.optimizer.zero_grad()
        self.schedule.step()
        self.step = step
        self.seconds.append(time.perf_counter() - clock)
        return losses.detached()


def fit(
    course: Course, reader: Reader, split: Split, statistics: Statistics, report: Report, run: dict[str, Any]
) -> Iterator[Point]:
    """Train and yield the evaluation points; `run` collects the times."""
    trial, classes = course.trial, course.trial.data.classes
    device = next(course.model.parameters()).device
    batches = train_batches(
        reader,
        trial.task,
        classes,
        split.train,
        statistics,
        trial.protocol,
        steps=course.steps,
        seed=trial.seed,
        workers=trial.scale.loader_workers,
        source=statistics if trial.protocol.normalisation == "source_stats" else None,
        done=course.step,
    )
    recent: list[Losses] = []
    for name in TIMES:
        run.setdefault(name, 0.0)
    waited = time.perf_counter()
    for batch in batches:
        run["data_seconds"] += time.perf_counter() - waited
        recent.append(course.advance(batch, device))
        report(course.step, course.steps, float(recent[-1].total))
        if course.step in course.points:
            clock = time.perf_counter()
            torch.manual_seed(stream_seed(trial.seed, "evaluation"))
            confusion_TKK = confusion_per_tile(course.model, reader, split, statistics, classes, device)
            run["evaluate_seconds"] += time.perf_counter() - clock
            yield _point(course.step, recent, confusion_TKK)
            recent = []
        waited = time.perf_counter()
    run |= {"train_seconds": sum(course.seconds), "step_ms_median": 1000 * float(np.median(course.seconds))}


def _point(step: int, recent: list[Losses], confusion_TKK: Areas) -> Point:
    task = float(np.mean([float(losses.task) for losses in recent]))
    auxiliary = float(np.mean([float(losses.auxiliary) for losses in recent]))
    return Point(step=step, task_loss=task, auxiliary_loss=auxiliary, confusion_TKK=confusion_TKK)


def _backward(model: Segmentor, batch: Batch, device: torch.device, step: int, steps: int) -> Losses:
    model.train()
    losses = model.losses(batch.image.to(device), batch.label.to(device))
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


def usage(device: torch.device) -> dict[str, Any]:
    """The device's name and the most memory held on it so far, in MiB; on the CPU that of the whole process."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
        return {"process_peak_memory_mb": peak, "device": torch.cuda.get_device_name()}
    return {"process_peak_memory_mb": process_peak_mb(), "device": "cpu"}


def _device(gpu: bool) -> torch.device:
    return torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
