"""Suites: named lists of cells. A cell is one row of a table before seeds; `*` stands for every known name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Task x backbone x method, the method's options and what its protocol changes, for controls."""

    task: str = "*"
    backbone: str = "*"
    method: str = "*"
    options: Mapping[str, object] = field(default_factory=dict)
    protocol: Mapping[str, object] = field(default_factory=dict)


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
    title="every method on every task and backbone, three seeds",
    cells=(Cell(), Cell(method="spectralmoe", options={"preset": "released"})),
    seeds=3,
)

CONTROLS = Suite(
    name="controls",
    title="does the scale mean anything? pretrained against random encoder, true against shuffled depth",
    cells=(
        Cell(method="frozen"),
        Cell(method="frozen", protocol={"encoder_init": "random"}),
        Cell(method="spectralmoe"),
        Cell(method="spectralmoe", protocol={"depth": "shuffled"}),
        Cell(method="depth_add"),
        Cell(method="depth_add", protocol={"depth": "shuffled"}),
    ),
    seeds=3,
)

SUITES: dict[str, Suite] = {suite.name: suite for suite in (SMOKE, ALL, CONTROLS)}
