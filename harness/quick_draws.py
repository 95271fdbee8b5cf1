"""Random weights in a fraction of the time: large tensors repeat a block of drawn numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK = 65_521
"""Numbers that are drawn; a prime, so that the rows of a matrix do not repeat one another."""

_DRAWS = (torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default)


class QuickDraws(TorchDispatchMode):
    """Within it, tensors of more than `BLOCK` numbers are filled with copies of their first `BLOCK`, which are drawn.

    Every number keeps the distribution that was asked for, and smaller tensors are drawn as ever. Drawing the 600 to
    900 million weights of a backbone and a depth encoder one by one takes longer than a training step.
    """

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Draw in place, or do what was to be done."""
        if func not in _DRAWS or args[0].numel() <= BLOCK or not args[0].is_contiguous():
            return func(*args, **(kwargs or {}))
        tensor, *others = args
        flat = tensor.view(-1)
        func(flat[:BLOCK], *others, **(kwargs or {}))
        done = BLOCK
        while done < len(flat):
            step = min(done, len(flat) - done)
            flat[done : done + step].copy_(flat[:step])
            done += step
        return tensor
