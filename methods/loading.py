"""Published state dicts read to the last tensor: names translated, shapes compared, misfits told.

What a method's `from_released` needs; see `methods.base.Method.from_released`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import cast

import torch
from torch import Tensor, nn

from methods.options import Options


class ReleasedMismatch(ValueError):
    """A state dict that is not, in full and alone, what a method's public release holds.

    Attributes:
        matched: released names that are there.
        missing: released names that are not.
        unknown: names that the release does not know.
        shapes: where all names are there, the tensors that do not fit, one text each.
    """

    def __init__(
        self,
        message: str,
        *,
        matched: Collection[str] = (),
        missing: Collection[str] = (),
        unknown: Collection[str] = (),
        shapes: Collection[str] = (),
    ) -> None:
        """Sort the names, for messages and reports."""
        super().__init__(message)
        self.matched, self.missing, self.unknown = sorted(matched), sorted(missing), sorted(unknown)
        self.shapes = list(shapes)


def take(state_dict: Mapping[str, Tensor], names: Mapping[str, str], method: str) -> dict[str, Tensor]:
    """Rename a released state dict to our names; every given and every expected name must be accounted for.

    Args:
        state_dict: released name -> tensor.
        names: released name -> our name; an empty name drops the tensor.
        method: the method's name, for the message.

    Raises:
        ReleasedMismatch: names missing or unknown; where they only carry a prefix, the message says which.
    """
    missing, unknown = set(names) - set(state_dict), set(state_dict) - set(names)
    if missing or unknown:
        prefix = _prefix(unknown, missing)
        remedy = f"strip {prefix!r} from its names and " if prefix else ""
        raise ReleasedMismatch(
            f"this is not a released {method} state dict: missing {_some(missing)}, unknown {_some(unknown)}; "
            f"{remedy}pass the adapter's tensors alone, under their released names",
            matched=set(names) & set(state_dict),
            missing=missing,
            unknown=unknown,
        )
    return {ours: state_dict[theirs] for theirs, ours in names.items() if ours}


def _prefix(unknown: Collection[str], missing: Collection[str]) -> str:
    """What stands before missing names among the unknown ones, with its dot; empty if nothing does."""
    found: Counter[str] = Counter()
    for name in unknown:
        parts = name.split(".")
        found.update(".".join(parts[:i]) + "." for i in range(1, len(parts)) if ".".join(parts[i:]) in missing)
    best = found.most_common(1)
    # one name alone may end alike by chance
    return best[0][0] if best and best[0][1] > 1 else ""


def _some(names: Collection[str]) -> str:
    """The first few names and how many there are."""
    shown = ", ".join(sorted(names)[:5]) or "nothing"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], method: str) -> None:
    """Load a state dict in full: in float64 if it is in float64, else in the module's own precision.

    Args:
        module: the method, fresh from its spec and options.
        state: our name -> tensor.
        method: the method's name, for the message.

    Raises:
        ReleasedMismatch: a tensor is missing or its shape does not fit; the message names it and, where the sizes
            tell, the option or the field of the spec that would have to change.
    """
    shapes = []
    for name, tensor in cast(Mapping[str, Tensor], module.state_dict()).items():
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            text = f"{name} is {found} in the released state, {tuple(tensor.shape)} by the encoder spec and options"
            shapes.append(text + (_hint(module, tensor, state[name]) if name in state else ""))
    if shapes:
        more = f" (and {len(shapes) - 1} more)" if len(shapes) > 1 else ""
        remedy = "give the options and the spec it was trained with"
        raise ReleasedMismatch(f"{method}: {shapes[0]}{more}: {remedy}", shapes=shapes)
    if any(tensor.dtype == torch.float64 for tensor in state.values()):
        module.double()
    module.load_state_dict(dict(state), strict=True)


_SIZES = ("blocks", "width", "queries", "query_width", "depth_blocks", "depth_width")


def _hint(module: nn.Module, expected: Tensor, found: Tensor) -> str:
    """Which sizes of the spec and of the options stand where two shapes differ, and what is found there."""
    spec, options = getattr(module, "spec", None), getattr(module, "options", None)
    sizes = {f"spec.{name}": getattr(spec, name, None) for name in _SIZES}
    if isinstance(options, Options):
        sizes |= {f"{options.name}.{field.name}": getattr(options, field.name) for field in fields(options)}
    hints: dict[str, None] = {}
    for ours, theirs in zip(expected.shape, found.shape, strict=False):
        names = [name for name, size in sizes.items() if type(size) is int and size == ours != theirs]
        hints |= {f"{' or '.join(names)} would have to be {theirs}": None} if names else {}
    return f" ({', '.join(hints)})" if hints else ""
