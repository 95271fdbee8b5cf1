"""AdaptFormer: a bottleneck beside the MLP of every block (Chen et al., NeurIPS 2022, section 3.2).

With x' the tokens after the attention's residual, out = x' + MLP(LN(x')) + s · up(dropout(ReLU(down(LN_a(x'))))). The
branch is added to the block's output, outside the layer scale of the blocks that have one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from methods.base import EncoderSpec, Method
from methods.options import AdaptFormerOptions


class Bottleneck(nn.Module):
    """One block's branch: norm, down, ReLU, dropout, up, scale. It starts as zero, because `up` does."""

    def __init__(self, width: int, options: AdaptFormerOptions) -> None:
        """`down` is Kaiming-uniform (a = sqrt 5), `up` and both biases zero."""
        super().__init__()
        self.norm = nn.LayerNorm(width) if options.norm == "in" else nn.Identity()
        self.down = nn.Linear(width, options.bottleneck)
        self.dropout = nn.Dropout(options.dropout)
        self.up = nn.Linear(options.bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)
        scale = torch.tensor(options.scale)
        self.scale: Tensor
        if options.learnable_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [.., D] -> what is added to the block's output [.., D]."""
        hidden = self.dropout(torch.relu(self.down(self.norm(x))))
        return self.scale * cast(Tensor, self.up(hidden))


class AdaptFormer(Method):
    """Bottleneck adapters parallel to the MLP of every block."""

    Options = AdaptFormerOptions
    no_weight_decay = ("down.bias", "up.bias", "scale")

    def __init__(self, spec: EncoderSpec, options: AdaptFormerOptions) -> None:
        """One branch per block, nothing shared."""
        super().__init__(spec, options)
        self.branches = nn.ModuleList(Bottleneck(spec.width, options) for _ in range(spec.blocks))

    def install(self, encoder: nn.Module) -> None:
        """Hook every block: x' is what its second norm is given, whatever the class of the block."""
        blocks = cast(Iterable[Any], encoder.blocks)
        for block, branch in zip(blocks, self.branches, strict=True):
            _add_branch(block, branch)

    @classmethod
    def expected_count(cls, spec: EncoderSpec, options: AdaptFormerOptions) -> int:
        """L (2 D b + b + D), and per block 2 D with a norm and 1 with a learnable scale."""
        extra = 2 * spec.width * (options.norm == "in") + options.learnable_scale
        return spec.blocks * (2 * spec.width * options.bottleneck + options.bottleneck + spec.width + extra)


def _add_branch(block: Any, branch: nn.Module) -> None:
    kept: list[Tensor] = []

    def keep(_norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept[:] = inputs[:1]

    def add(_block: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        # SAM flattens its grid before the second norm and restores it after the MLP
        added: Tensor = branch(kept.pop())
        return output + added.reshape(output.shape).to(output.dtype)

    block.norm2.register_forward_pre_hook(keep)
    block.register_forward_hook(add)
