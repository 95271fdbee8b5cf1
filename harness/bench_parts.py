"""Where the time of a training step goes: a clock that is read wherever one part of the step hands over to another."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.rehearsal import Rehearsal
from harness.segmentor import Losses

DEPTH, BACKBONE, ADAPTER, HEAD = "depth encoder", "backbone", "adapter", "head"
LOSS, BACKWARD, OPTIMISER, OTHER = "loss", "backward", "optimiser", "other"
PARTS = (DEPTH, BACKBONE, ADAPTER, HEAD, LOSS, BACKWARD, OPTIMISER, OTHER)
"""In the order of a step; `other` is what comes before it (the batch goes to the device, seeds) and after."""


@dataclass(frozen=True, kw_only=True)
class Elapsed:
    """Time that passed.

    Args:
        seconds: on the wall, or on a GPU between two points of its queue.
        cpu_seconds: of this process on all its threads; None for a GPU.
    """

    seconds: float
    cpu_seconds: float | None

    @classmethod
    def total(cls, parts: Sequence[Elapsed]) -> Elapsed:
        """One after the other."""
        cpu = [part.cpu_seconds for part in parts if part.cpu_seconds is not None]
        return cls(seconds=sum(part.seconds for part in parts), cpu_seconds=sum(cpu) if cpu else None)


class Stopwatch:
    """Puts every moment of a step down to one part of it: the innermost that runs.

    On a GPU the clock is an event in its queue, so that nothing waits for anything that would not wait otherwise.
    """

    def __init__(self, rehearsal: Rehearsal) -> None:
        """Watch a rehearsal's steps from now on."""
        self.gpu = rehearsal.device.type == "cuda"
        self.open: list[str] = [OTHER]
        self.marks: list[tuple[str, Any]] = []
        model, method = rehearsal.model, rehearsal.model.method
        # what a step does between the losses and the optimiser is the backward pass
        self._watch(model, "losses", HEAD, then=BACKWARD)
        self._watch(model.encoder, "forward", BACKBONE)
        if model.depth_encoder:
            self._watch(model.depth_encoder, "forward", DEPTH)
        for hook in ("refine", "queries", "pyramid"):
            self._watch(method, hook, ADAPTER)
        self._watch(model.head, "loss", LOSS)
        rehearsal.course.optimizer.register_step_pre_hook(lambda *_: self._become(OPTIMISER))
        rehearsal.course.optimizer.register_step_post_hook(lambda *_: self._become(OTHER))

    def step(self, rehearsal: Rehearsal) -> tuple[Losses, dict[str, Elapsed]]:
        """One step: its losses, and the time of every part that took some."""
        self.open, self.marks = [OTHER], []
        if self.gpu:
            torch.cuda.synchronize()
        self._mark()
        losses = rehearsal.step()
        self._mark()
        if self.gpu:
            torch.cuda.synchronize()
        return losses, self._read()

    def _watch(self, owner: Any, name: str, part: str, then: str = "") -> None:
        """Let a call of `owner.name` belong to a part, and what follows it to `then`."""
        inner = getattr(owner, name)

        @functools.wraps(inner)
        def watched(*args: Any, **kwargs: Any) -> Any:
            # activation checkpointing calls parts again in the backward pass, which owns that time
            if not then and len(self.open) == 1:
                return inner(*args, **kwargs)
            self.open.append(part)
            self._mark()
            try:
                return inner(*args, **kwargs)
            finally:
                self.open.pop()
                self._become(then or self.open[-1])

        setattr(owner, name, watched)

    def _become(self, part: str) -> None:
        self.open[-1] = part
        self._mark()

    def _mark(self) -> None:
        if self.gpu:
            clock: Any = torch.cuda.Event(enable_timing=True)
            clock.record()
        else:
            clock = (time.perf_counter(), time.process_time())
        self.marks.append((self.open[-1], clock))

    def _read(self) -> dict[str, Elapsed]:
        found: dict[str, list[Elapsed]] = {}
        for (part, start), (_, end) in zip(self.marks, self.marks[1:], strict=False):
            found.setdefault(part, []).append(self._between(start, end))
        return {part: Elapsed.total(found[part]) for part in PARTS if part in found}

    def _between(self, start: Any, end: Any) -> Elapsed:
        if self.gpu:
            return Elapsed(seconds=start.elapsed_time(end) / 1e3, cpu_seconds=None)
        return Elapsed(seconds=end[0] - start[0], cpu_seconds=end[1] - start[1])


def shares(parts: Mapping[str, Elapsed]) -> dict[str, float]:
    """Each part of the whole, by CPU time where that is known: it leaves out what other programs take."""
    whole = Elapsed.total(list(parts.values()))
    if whole.cpu_seconds:
        return {part: (took.cpu_seconds or 0.0) / whole.cpu_seconds for part, took in parts.items()}
    return {part: took.seconds / whole.seconds for part, took in parts.items()}
