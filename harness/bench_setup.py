"""What `bench modules`, `step` and `data` measure with. No torch: `bench_step.where` says if the device is there."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.prepared.manifest import DType
from benchmarks.recipes import RECIPES
from harness.lookup import find
from harness.means import Thrift
from harness.scales import PRECISIONS

HEAD_WIDTH = 64
DEVICES = ("auto", "cpu", "cuda")
MADE = "fbp_cs"
"""The task whose official files `bench data` makes itself."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How large the block is and how it is measured.

    Args:
        width: token width D; heads are 64 wide.
        tokens: patch tokens N of an image, a square number; a class token and four registers come on top.
        batch: images B.
        precision: `fp32`, or `bf16` by autocast, as trials train.
        device: `cpu`, `cuda`, or `auto` for CUDA where there is any.
        compiled: through `torch.compile`.
        repeats: samples of each time.
        threads: threads of torch on the CPU.
    """

    width: int = 1024
    tokens: int = 1024
    batch: int = 1
    precision: str = "fp32"
    device: str = "auto"
    compiled: bool = False
    repeats: int = 10
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be built or measured."""
        for name, least in (("width", 1), ("tokens", 1), ("batch", 1), ("repeats", 2), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} {getattr(self, name)}: must be at least {least}")
        if self.width % HEAD_WIDTH:
            raise ValueError(f"--width {self.width}: must be a multiple of {HEAD_WIDTH}, the width of a head")
        if self.side**2 != self.tokens:
            raise ValueError(
                f"--tokens {self.tokens}: must fill a square grid, as {self.side**2} or {(self.side + 1) ** 2} do"
            )
        find("precision", self.precision, PRECISIONS)
        find("device", self.device, dict.fromkeys(DEVICES))

    @property
    def side(self) -> int:
        """Rows and columns of the token grid."""
        return math.isqrt(self.tokens)


@dataclass(frozen=True, kw_only=True)
class StepSetup:
    """Which training step is measured, and how.

    Args:
        scale: name of the scale.
        backbone: name.
        method: name, or `path/to/file.py:Class`.
        task: name, or path of a task file: its bands and classes; its data need not be here.
        image_size: side of a crop; 0 for the protocol's.
        batch: crops of a step; 0 for the protocol's.
        precision: `fp32` or `bf16`; empty for bf16 on a GPU and fp32 on the CPU.
        device: `cpu`, `cuda`, or `auto` for CUDA where there is any.
        steps: how many are timed.
        threads: threads of torch on the CPU.
        thrift: how it saves memory or time.
        random_weights: encoders with random weights in place of published ones.
        settings: `method.option=value` and `protocol.field=value`.
    """

    scale: str
    backbone: str
    method: str
    task: str = MADE
    image_size: int = 0
    batch: int = 0
    precision: str = ""
    device: str = "auto"
    steps: int = 3
    threads: int = 1
    thrift: Thrift = field(default_factory=Thrift)
    random_weights: bool = False
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name, least in (("image_size", 0), ("batch", 0), ("steps", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least {least}")
        if self.precision:
            find("precision", self.precision, PRECISIONS)
        find("device", self.device, dict.fromkeys(DEVICES))

    def all_settings(self, device: str) -> tuple[str, ...]:
        """The user's, and those that options of their own stand for, on a device."""
        default = f"protocol.precision={'bf16' if device == 'cuda' else 'fp32'}"
        given = {
            "protocol.crop": self.image_size,
            "protocol.batch_size": self.batch,
            "protocol.precision": self.precision,
        }
        return (default, *self.settings, *(f"{name}={value}" for name, value in given.items() if value))


BANDS: dict[str, tuple[str, DType]] = {
    "3": ("loveda_r2u", "uint8"),
    "4": ("fbp_cs", "uint8"),
    "32": ("whu_ohs_cr", "uint16"),
}
"""Numbers of bands that tiles are made with: a task that has as many, and their type there."""


@dataclass(frozen=True, kw_only=True)
class DataSetup:
    """Which files `bench data` prepares and feeds.

    Args:
        task: whose recipe.
        raw: its official files; None for made ones.
        choose: what `data prepare` is told.
        boundaries: the file that some tasks need beside the official ones; None for none.
        scenes: so many of each domain at most.
        bands: besides the task's own tiles, made ones of so many bands.
        repeats: samples of each time.
    """

    task: str = MADE
    raw: Path | None = None
    choose: tuple[str, ...] = ()
    boundaries: Path | None = None
    scenes: int = 2
    bands: tuple[int, ...] = ()
    repeats: int = 7

    @property
    def extras(self) -> dict[str, Path]:
        """Files that the user brings beside the official ones, by option."""
        return {} if self.boundaries is None else {"boundaries": self.boundaries}

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        find("task with a recipe", self.task, RECIPES)
        for name, least in (("scenes", 1), ("repeats", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} {getattr(self, name)}: must be at least {least}")
        for number in self.bands:
            find("number of bands", str(number), BANDS)
        if self.raw is None and self.task != MADE:
            raise ValueError(f"files of {self.task} are not made here: give --raw DIR with official ones, or {MADE}")
