"""From a record back to its trial and its trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.catalogue import TASKS
from benchmarks.tasks import Shift
from harness.lookup import find, find_method, find_scale
from harness.pipeline import Statistics
from harness.records import Record, RecordStore
from harness.scales import Protocol
from harness.segmentor import Segmentor, build_segmentor
from harness.status import Status
from harness.trial import Trial, canonical
from harness.zoo import BACKBONE_NAMES, DEPTH_ENCODER
from methods.options import checked


def restore_trial(record: Record, method: str = "") -> Trial:
    """The trial that left a record; without its data root, which no record tells.

    Args:
        record: of any status.
        method: `path/to/file.py:Class`, where the method is from a file: no record tells paths either.

    Raises:
        ValueError: the record was made by another version of the method, the task or the program, or with other
            weights; what differs is named.
    """
    inputs = record.inputs
    name = str(inputs["method"])
    ref = find_method(method or name)
    if ref.name != name:
        raise ValueError(f"--method {method} is called {ref.name!r}, record {record.key} is of method {name!r}")
    task = find("task", inputs["task"], TASKS)
    data = task.embedded if inputs["data"] == "embedded" else task.files
    assert data is not None, "a trial ran on it"
    scale = find_scale(inputs["scale"]).shifted(Shift(**inputs.get("shift", {})), None)
    options = ref.options_class.make(inputs["options"])
    backbone = find("backbone", inputs["backbone"], BACKBONE_NAMES)
    trial = Trial(
        task=task,
        data=data,
        data_root=None,
        data_fingerprint=inputs["data_fingerprint"],
        backbone=backbone,
        depth_encoder=DEPTH_ENCODER if options.needs_depth else None,
        method=ref,
        options=options,
        protocol=checked(Protocol, "protocol", inputs["protocol"]),
        scale=scale,
        seed=int(inputs["seed"]),
    )
    if trial.key != record.key:
        raise ValueError(
            f"record {record.key} cannot be restored: {_difference(inputs, trial.inputs())}; use the version of the "
            "code, weights and method file that made it, or run its trial again"
        )
    return trial


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
