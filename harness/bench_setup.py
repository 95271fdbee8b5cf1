"""What `bench modules` measures a block with. Free of torch: whether the device is there, `bench_step.where` says."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.lookup import find

HEAD_WIDTH = 64
PRECISIONS = ("fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")


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
        find("precision", self.precision, dict.fromkeys(PRECISIONS))
        find("device", self.device, dict.fromkeys(DEVICES))

    @property
    def side(self) -> int:
        """Rows and columns of the token grid."""
        return math.isqrt(self.tokens)
