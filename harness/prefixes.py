"""Under which prefix of its names a published checkpoint holds a method's tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from methods.base import Method
from methods.loading import ReleasedMismatch

Read = Callable[[Mapping[str, Tensor]], Method]


def group_by_prefix(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors under every prefix of their names, the empty one first; a prefix ends before a dot."""
    groups: dict[str, dict[str, Tensor]] = {"": dict(tensors)}
    for name, tensor in tensors.items():
        parts = name.split(".")
        for i in range(1, len(parts)):
            groups.setdefault(".".join(parts[:i]), {})[".".join(parts[i:])] = tensor
    return groups


def find_prefix(file: Path, groups: Mapping[str, Mapping[str, Tensor]], read: Read) -> str:
    """The prefix under which the method finds its tensors, or most of them.

    Args:
        file: the checkpoint, for the message.
        groups: its tensors as from `group_by_prefix`.
        read: the method's `from_released`, with the encoder spec and the options filled in.

    Raises:
        ValueError: it finds none, or all of them more than once.
    """
    known: dict[frozenset[tuple[str, torch.Size]], _Reading] = {}
    readings = {}
    for prefix, group in groups.items():
        # the blocks of an encoder are alike: the method is asked once
        alike = frozenset((name, tensor.shape) for name, tensor in group.items())
        if alike not in known:
            known[alike] = _ask(read, group)
        readings[prefix] = known[alike]
    fits = [prefix for prefix, reading in readings.items() if reading.refusal is None]
    if len(fits) > 1:
        raise ValueError(f"{file} holds the adapter under {' and '.join(map(repr, fits))}: choose one with --prefix")
    best = max(readings, key=lambda prefix: readings[prefix].rank)
    if any(readings[best].rank):
        return best
    nothing = _ask(read, {}).refusal
    told = [reading.refusal for reading in readings.values() if not isinstance(reading.refusal, ReleasedMismatch)]
    reason = next((refusal for refusal in told if str(refusal) != str(nothing)), nothing)
    held = ", ".join(f"{name} ({count})" for name, (count, _) in count_by_first_part(groups[""]).items())
    raise ValueError(f"{file}: {reason}. Its tensors by name: {held}")


def count_by_first_part(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Tensors and numbers by the first part of the names."""
    counts: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for name, tensor in tensors.items():
        first = name.partition(".")[0]
        counts[first] += 1
        numbers[first] += tensor.numel()
    return {first: (counts[first], numbers[first]) for first in counts}


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """What a method says of some tensors: why they do not fit (None: they do), and how many of its names are there."""

    refusal: ValueError | None
    matched: int = 0

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """All in order is more than all names there, and that more than some."""
        named = isinstance(self.refusal, ReleasedMismatch) and bool(self.refusal.shapes)
        return self.refusal is None, named, self.matched


def _ask(read: Read, tensors: Mapping[str, Tensor]) -> _Reading:
    try:
        with torch.device("meta"):
            read({name: tensor.to("meta") for name, tensor in tensors.items()})
    except ReleasedMismatch as mismatch:
        return _Reading(refusal=mismatch, matched=len(mismatch.matched))
    except ValueError as refusal:
        return _Reading(refusal=refusal)
    return _Reading(refusal=None, matched=len(tensors))
