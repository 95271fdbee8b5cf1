"""From a record back to its trial and its trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.catalogue import TASKS
from benchmarks.tasks import DataSource, Shift, Task
from harness.backbone_names import find_backbone
from harness.lookup import find_method, find_scale, find_task
from harness.pipeline import Statistics
from harness.records import Record, RecordStore
from harness.scales import Protocol
from harness.segmentor import Segmentor, build_segmentor
from harness.status import Status
from harness.trial import MethodRef, Trial, canonical
from harness.zoo import DEPTH_ENCODERS
from methods.options import checked


def restore_trial(record: Record, method: str = "", task: str = "") -> Trial:
    """The trial that left a record; without its data root, which no record tells.

    Args:
        record: of any status.
        method: `path/to/file.py:Class`, where the method is from a file: no record tells paths either.
        task: `path/to/task.toml`, where the task is a user's own.

    Raises:
        ValueError: the record was made by another version of the method, the task or the program, or with other
            weights; what differs is named.
    """
    inputs = record.inputs
    ref = _method(record, method)
    found, data = _task(record, task)
    options = ref.options_class.make(inputs["options"])
    protocol = checked(Protocol, "protocol", inputs["protocol"])
    trial = Trial(
        task=found,
        data=data,
        data_root=None,
        data_fingerprint=inputs["data_fingerprint"],
        backbone=find_backbone(inputs["backbone"]),
        depth_encoder=DEPTH_ENCODERS[protocol.depth_model] if options.needs_depth else None,
        method=ref,
        options=options,
        protocol=protocol,
        scale=find_scale(inputs["scale"]).shifted(Shift(**inputs.get("shift", {})), None),
        seed=int(inputs["seed"]),
    )
    if trial.key != record.key:
        raise ValueError(
            f"record {record.key} cannot be restored: {_difference(inputs, trial.inputs())}; use the version of the "
            "code, weights and method file that made it, or run its trial again"
        )
    return trial


def _method(record: Record, method: str) -> MethodRef:
    name = str(record.inputs["method"])
    ref = find_method(method or name)
    if ref.name != name:
        raise ValueError(f"--method {method} is called {ref.name!r}, record {record.key} is of method {name!r}")
    return ref


def _task(record: Record, given: str) -> tuple[Task, DataSource]:
    """The record's task, and what of it the trial ran on."""
    name, version = str(record.inputs["task"]), record.inputs["task_version"]
    if not given and name not in TASKS:
        raise ValueError(
            f"record {record.key} is of task {name!r}, which is none of the built-in ones: say which file defines it, "
            "as in --task path/to/task.toml"
        )
    task = find_task(given or name)
    if task.name != name:
        raise ValueError(f"--task {given} defines {task.name!r}, record {record.key} is of task {name!r}")
    if given and task.version != version:
        raise ValueError(f"--task {given} has version {task.version}, record {record.key} was made with {version}")
    data = task.embedded if record.inputs["data"] == "embedded" else task.files
    assert data is not None, "a trial ran on it"
    _refuse_others(record, task, data)
    return task, data


def _refuse_others(record: Record, task: Task, data: DataSource) -> None:
    """The key knows a user's bands and classes only by the fingerprint, which cannot be made without the files."""
    trained = len(record.result.get("statistics", {}).get("mean", ()))
    if trained and trained != len(task.bands):
        raise ValueError(
            f"task {task.name} has {len(task.bands)} bands, record {record.key} was trained on {trained}: give --task "
            "the file as it was then"
        )
    classes = record.result.get("classes", list(data.classes))
    if classes != list(data.classes):
        raise ValueError(
            f"task {task.name} has the classes {', '.join(data.classes)}, record {record.key} was trained on "
            f"{', '.join(classes)}: give --task the file as it was then"
        )


def restore_model(trial: Trial, record: Record, store: RecordStore) -> tuple[Segmentor, Statistics]:
    """The trained model of a record in evaluation mode, and what its images are normalised by.

    Args:
        trial: what `restore_trial` gave.
        record: the record.
        store: where it is.

    Raises:
        ValueError: the trial failed, or its weights are gone or damaged.
    """
    if record.status is not Status.DONE:
        raise ValueError(f"record {record.key} is of a trial that failed: it has no trained weights; run it again")
    weights = store.attachment(record, "weights")
    model = build_segmentor(trial)
    model.load_trained({name: torch.from_numpy(array) for name, array in weights.items()})
    numbers = {name: tuple(values) for name, values in record.result["statistics"].items()}
    return model.eval(), Statistics(**numbers, reverse=trial.protocol.channel_order == "bgr")


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = [name for name in {**theirs, **ours} if canonical(theirs.get(name)) != canonical(ours.get(name))]
    return f"its {', '.join(sorted(names))} differ from what is here" if names else "its key does not match its inputs"
