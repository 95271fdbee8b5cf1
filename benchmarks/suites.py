"""Suites: named lists of cells. A cell is one row of a table before seeds; `*` stands for every known name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Task x backbone x method, the method's options and what its protocol changes, for controls.

    Args:
        task: name of the task.
        backbone: name of the backbone.
        method: name of the method.
        options: the method's options.
        protocol: fields of the protocol.
        seeds: number of seeds; 0 for the suite's.
    """

    task: str = "*"
    backbone: str = "*"
    method: str = "*"
    options: Mapping[str, object] = field(default_factory=dict)
    protocol: Mapping[str, object] = field(default_factory=dict)
    seeds: int = 0


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Cells run under one protocol.

    Args:
        seeds: default number of seeds.
        protocol: what the suite changes of its scale's protocol, for all cells.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    seeds: int
    protocol: Mapping[str, object] = field(default_factory=dict)


SMOKE = Suite(
    name="smoke",
    title="does everything run? 100 steps and one seed: not a comparison",
    cells=tuple(
        Cell(task="fbp_cs", backbone="dinov3", method=name) for name in ("frozen", "lora", "rein", "spectralmoe")
    ),
    seeds=1,
    protocol={"steps": 100, "evaluations": 2},
)

ALL = Suite(
    name="all",
    title="every method: three seeds across sensors on DINOv3, one on each other backbone and on each other task",
    cells=tuple(
        Cell(task=task, backbone=backbone, method=method, options=options, seeds=seeds)
        for task, backbone, seeds in (("fbp_cs", "dinov3", 3), ("fbp_cs", "*", 1), ("*", "dinov3", 1))
        for method, options in (("*", {}), ("spectralmoe", {"preset": "released"}))
    ),
    seeds=3,
)

CONTROLS = Suite(
    name="controls",
    title="does the scale mean anything? pretrained against random encoder, true against shuffled depth",
    cells=tuple(
        Cell(task="fbp_cs", backbone="dinov3", method=method, protocol=protocol)
        for method, control in (
            ("frozen", {"encoder_init": "random"}),
            ("spectralmoe", {"depth": "shuffled"}),
            ("depth_add", {"depth": "shuffled"}),
        )
        for protocol in ({}, control)
    ),
    seeds=3,
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in (SMOKE, ALL, CONTROLS)}
