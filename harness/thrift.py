"""Less memory or time for the same numbers: recomputed blocks, a batch in parts, compiled blocks, frozen bf16."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.backbones import BlockHook, Encoder
from harness.means import Thrift

_PLAINLY = ContextVar("_PLAINLY", default=False)


def save(encoder: Encoder, thrift: Thrift) -> None:
    """Let the blocks of an encoder run as asked for, with all that a method has installed in them and on them."""
    if not (thrift.recomputes or thrift.compiled):
        return
    hook = encoder.unhook_blocks()
    for layer, block in enumerate(encoder.blocks):
        if thrift.compiled:
            block.compile()
        _stand_in(block, layer, thrift, hook)


def _stand_in(block: nn.Module, layer: int, thrift: Thrift, refine: BlockHook | None) -> None:
    """Give a block a class of its own, by whose call the tokens [B, ...] go through it in parts of the batch.

    What a method hooked to the block works on a part, too; `refine` sees the whole batch. Batches cannot be
    accumulated step by step as for a mean of losses: Mask2Former divides by the masks of the whole batch and draws its
    points for all of it, and SpectralMoE's balance loss is of the whole batch. No sample meets another inside a block.
    """
    kind = type(block)

    def call(self: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        plain = partial(kind.__call__, self)
        if thrift.recomputes and torch.is_grad_enabled() and not _PLAINLY.get():
            x = torch.cat([recomputed(plain, part, *args, **kwargs) for part in x.chunk(thrift.accumulate)])
        else:
            x = plain(x, *args, **kwargs)
        return refine(x, layer) if refine else x

    block.__class__ = type(kind.__name__, (kind,), {"__call__": call})


@contextmanager
def plainly() -> Iterator[None]:
    """Within it nothing is recomputed, in parts or compiled: to see what the model itself does."""
    before = _PLAINLY.set(True)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        _PLAINLY.reset(before)


def recomputed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a function gives; whatever it keeps for the backward pass is computed again there, from the same noise."""
    if _PLAINLY.get():
        return function(*args, **kwargs)
    return checkpoint(function, *args, use_reentrant=False, **kwargs)


def hold_in_bf16(encoder: Encoder) -> None:
    """Hold the frozen matrices of an encoder's blocks in bf16, to which autocast would turn them at every step.

    Norms, positions, special tokens and layer scales stay in fp32: autocast computes with them as they are, and the
    residual stream keeps its precision. So does what stands before the blocks: DOFA makes its kernel in fp32.
    """
    own = {id(module) for module in encoder.own_modules}
    for module in encoder.blocks.modules():
        if isinstance(module, nn.Linear) and id(module) in own:
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.bfloat16()
