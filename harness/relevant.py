"""What of a protocol matters to one trial. Free of torch."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from benchmarks.tasks import DataSource, Released, Task
from harness.bands import nearest_bands
from harness.scales import Protocol
from harness.zoo import RGB, BackboneSpec
from methods.options import Options


def relevant(protocol: Protocol, task: Task, source: DataSource, options: Options, backbone: BackboneSpec) -> Protocol:
    """The protocol with the default wherever a field cannot change the trial's numbers: neither key nor label change.

    Raises:
        ValueError: it asks for the released code's numbers, and the task or its tiles have none.
    """
    default = {field.name: field.default for field in fields(Protocol)}
    void = [] if options.needs_depth else ["depth", "depth_noise", "depth_pairing", "depth_rgb", "depth_model"]
    void += [] if options.links_queries else ["queries"]
    void += ["band_expansion"] if backbone.by_wavelength else []
    void += [] if len(task.bands) == len(RGB) else ["channel_order"]
    protocol = protocol.change({name: default[name] for name in void})
    changed: dict[str, Any] = {}
    if protocol.photometric == "released" and not _released(task, "photometric").float_jitter:
        # what it does on 8-bit values is what ours does
        changed["photometric"] = task.augmentation is None or task.augmentation.photometric
    if protocol.depth_rgb == "released":
        same = _released(task, "depth_rgb").depth_rgb == tuple(nearest_bands(RGB, task.bands))
        changed["depth_rgb"] = default["depth_rgb"] if same else "released"
    if protocol.normalisation == "released":
        _released(task, "normalisation")
        if source.kind != "files":
            raise ValueError(
                "protocol.normalisation=released: these constants belong to the published files; give --data-root, or "
                "drop it for synthetic scenes"
            )
    return protocol.change(changed)


def check_released_jitter(dtype: np.dtype[Any], tiles: str = "the tiles") -> None:
    """Refuse the released distortion of colours for tiles of another type than bytes, which alone it has.

    Args:
        dtype: theirs.
        tiles: what to call them.

    Raises:
        ValueError: they are no bytes.
    """
    if dtype != np.uint8:
        raise ValueError(f"protocol.photometric=released: {tiles} are {dtype}, not 8-bit; set it to True or False")


def _released(task: Task, name: str) -> Released:
    if task.released is None:
        raise ValueError(f"protocol.{name}=released: task {task.name} is not in the released code; drop it")
    return task.released
