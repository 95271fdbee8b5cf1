"""A control, not a contender: does the depth cue carry anything the head can use?

After every block a linear map of the paired depth tokens is added to the patch tokens. Its score with true against
shuffled depth says what the cue is worth, whatever a method makes of it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from methods.base import EncoderSpec, Method
from methods.options import DepthAddOptions


class DepthAdd(Method):
    """x' = x + W d + b, one map per block, zero at the start."""

    Options = DepthAddOptions

    def __init__(self, spec: EncoderSpec, options: DepthAddOptions) -> None:
        """One linear layer per block, from the depth encoder's width to the backbone's."""
        super().__init__(spec, options)
        self.maps = nn.ModuleList(nn.Linear(spec.depth_width, spec.width) for _ in range(spec.blocks))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        """Add the mapped depth tokens."""
        added: Tensor = x_BND + self.maps[layer](depth_BMD)
        return added

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: Any) -> int:
        """L (depth width + 1) D."""
        return spec.blocks * (spec.depth_width + 1) * spec.width
