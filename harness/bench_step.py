"""One forward and backward pass through a piece of an encoder, timed and weighed."""

from __future__ import annotations

import gc
import json
import math
import os
import platform
import tempfile
import time
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from harness.bench_setup import HEAD_WIDTH, Setup, StepSetup
from methods.base import Method

PATCH = 16
REGISTERS = 4
WARM_UPS = 2
SAMPLE_SECONDS = 0.02
"""A sample repeats its step until it has lasted about so long: the clock is too coarse for less."""


def where(setup: Setup | StepSetup) -> str:
    """The device to measure on, `auto` resolved.

    Raises:
        ValueError: it is not there.
    """
    there = torch.cuda.is_available()
    if setup.device == "cuda" and not there:
        raise ValueError("--device cuda: torch finds no CUDA device here; give --device cpu")
    return ("cuda" if there else "cpu") if setup.device == "auto" else setup.device


def clock(setup: Setup) -> str:
    """What passes: on one thread the CPU's time, which leaves out what other programs take."""
    return "CPU time" if where(setup) == "cpu" and setup.threads == 1 else "wall time"


def facts(setup: Setup) -> dict[str, object]:
    """What is measured, and on what.

    Raises:
        ValueError: the device is not there.
    """
    chip = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"
    return {
        **asdict(setup),
        "heads": setup.width // HEAD_WIDTH,
        "prefix_tokens": 1 + REGISTERS,
        "device": where(setup),
        "clock": clock(setup),
        "machine": torch.cuda.get_device_name() if where(setup) == "cuda" else chip,
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }


class Piece(nn.Module):
    """A block, a method's `refine`, or one after the other."""

    def __init__(self, block: nn.Module | None, method: Method | None) -> None:
        """Either may be missing; what a method installed is in the block already."""
        super().__init__()
        self.block, self.method = block, method

    def forward(self, x: Tensor, depth_BMD: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, prefix + N, D], depth tokens [B, M, D] -> tokens, auxiliary loss or None."""
        if self.block is not None:
            x = self.block(x)
        return (x, None) if self.method is None else self.method.adapt(x, 0, depth_BMD)


class Step:
    """A forward and a backward pass through a piece, as in the middle of an encoder: gradients come in and go on."""

    def __init__(self, piece: Piece, setup: Setup, depth: bool) -> None:
        """Draw the input and run until everything is warm."""
        self.where, self.clock = where(setup), clock(setup)
        self.piece, self.half = piece.to(self.where), setup.precision == "bf16"
        if setup.compiled:
            self.piece.compile()
        draw = torch.Generator().manual_seed(0)
        shape = (setup.batch, 1 + REGISTERS + setup.tokens, setup.width)
        self.x, self.gradient = (torch.randn(shape, generator=draw).to(self.where) for _ in range(2))
        self.x.requires_grad_()
        shape = (setup.batch, setup.tokens, setup.width)
        self.depth_BMD = torch.randn(shape, generator=draw).to(self.where) if depth else None
        seconds = [self()[1] for _ in range(WARM_UPS)]
        self.number = max(1, math.ceil(SAMPLE_SECONDS / seconds[-1]))

    def __call__(self) -> tuple[float, float]:
        """Seconds until the end of the forward pass, and of the backward pass."""
        self.clear()
        began = self._clock()
        with torch.autocast(self.where, torch.bfloat16, enabled=self.half):
            out, auxiliary = self.piece(self.x, self.depth_BMD)
        middle = self._clock()
        losses = [out] if auxiliary is None or not auxiliary.requires_grad else [out, auxiliary]
        torch.autograd.backward(losses, [self.gradient.to(out.dtype), None][: len(losses)])
        return middle - began, self._clock() - began

    def _clock(self) -> float:
        if self.where == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.clock == "CPU time" else time.perf_counter()

    def sample(self) -> tuple[float, float]:
        """Mean seconds of the forward pass, and of both, over as many steps as a sample needs."""
        forward, both = zip(*(self() for _ in range(self.number)), strict=True)
        return sum(forward) / self.number, sum(both) / self.number

    def clear(self) -> None:
        """Drop all gradients, so that the next step makes them anew."""
        self.x.grad = None
        self.piece.zero_grad(set_to_none=True)

    def peak(self) -> int:
        """Most bytes that the step holds at a time beyond what was there before it."""
        self.clear()
        gc.collect()  # what it would free on the way is no part of the step
        if self.where == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            self()
            return torch.cuda.max_memory_allocated() - before
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it writes to standard error that it starts and finds no GPU
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profiler.export_chrome_trace(str(path))
            events = json.loads(path.read_bytes())["traceEvents"]
        changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
        return max(accumulate(int(size) for _, size in changes))
