"""How a worker carries a trial out: device, memory, compilation. Nothing here is part of a trial. Free of torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Thrift:
    """What saves memory or time and changes no number beyond rounding.

    Args:
        checkpointing: what blocks and methods keep for the backward pass is computed again there.
        accumulate: the batch goes through each block in so many parts, whose gradients add up; more than one brings
            `checkpointing` with it, without which the parts would be kept all the same.
        compiled: the blocks of backbone and depth encoder through `torch.compile`.
    """

    checkpointing: bool = False
    accumulate: int = 1
    compiled: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.accumulate < 1:
            raise ValueError(f"--accumulate {self.accumulate}: must be at least 1, the whole batch at once")

    @property
    def recomputes(self) -> bool:
        """Whether the backward pass computes anything again."""
        return self.checkpointing or self.accumulate > 1

    def told(self) -> dict[str, Any]:
        """As it stands in a record."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Means:
    """What a worker is given for a trial.

    Args:
        gpu: it may use the GPU that its process sees.
        thrift: how it saves memory or time.
        halfway: file that is written after every evaluation point, and from which the trial goes on if it is there.
    """

    gpu: bool = False
    thrift: Thrift = field(default_factory=Thrift)
    halfway: Path | None = None
