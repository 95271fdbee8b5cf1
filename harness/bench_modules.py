"""What a method costs in one block: forward and backward time and peak memory, beside a plain transformer block.

Methods act after a block (`refine`), inside it (`install`), or both. What they have in common is the block they make
slower, so each is measured as a frozen block with the method at work, and its `refine` once more alone. Machines differ
and are shared: the plain block is timed in turn with the method's, and only ratios of neighbours are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer

from harness.backbones import Encoder, encoder_spec
from harness.bench_setup import HEAD_WIDTH, Setup
from harness.bench_step import PATCH, REGISTERS, Piece, Step, where
from harness.lookup import load_class
from harness.scales import SCALES
from harness.trial import MethodRef
from methods.base import Method
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of one piece of an encoder, and their ratios to the plain block's.

    Args:
        forward_ms: median time of a training forward pass, by `bench_step.clock`.
        forward_backward_ms: median time of it and the backward pass, to the input and to what trains.
        ratio: median over the repeats of `forward_backward_ms` over that of the plain block just before.
        ratio_low: their lower quartile.
        ratio_high: their upper quartile.
        peak_mb: most memory (10^6 bytes) that the step holds at a time beyond weights and inputs, gradients included.
            On the CPU what torch's allocator gave out by the profiler's account; scratch space inside MKL is not seen.
        peak_ratio: `peak_mb` over that of the plain block.
    """

    forward_ms: float
    forward_backward_ms: float
    ratio: float = 1.0
    ratio_low: float = 1.0
    ratio_high: float = 1.0
    peak_mb: float
    peak_ratio: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one method costs.

    Args:
        method: its name.
        preset: of its options.
        parameters_per_block: trainable parameters that one more block brings.
        parameters_shared: those that do not depend on the number of blocks, the link to the queries among them.
        block: a block with the method at work; None if it did not run.
        refine: `refine` alone; None for a method without.
        error: why it did not run, or empty.
    """

    method: str
    preset: str
    parameters_per_block: int | None = None
    parameters_shared: int | None = None
    block: Figures | None = None
    refine: Figures | None = None
    error: str = ""

    @property
    def label(self) -> str:
        """The method, with its preset where that is one of several ports."""
        return self.method if self.preset == "default" else f"{self.method} ({self.preset})"


@contextmanager
def measuring(setup: Setup) -> Iterator[Figures]:
    """Set torch's threads for as long as it lasts; yields the plain block's figures.

    Raises:
        ValueError: not even the plain block can be measured.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(setup.threads)
    try:
        # by default the code compiled for the plain block is taken for one that differs only in its hooks
        with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
            yield _measure_plain(setup)
    finally:
        torch.set_num_threads(before)


def presets(options_class: type[Options]) -> list[Options]:
    """Options of the default preset, and of every other that somebody else vouches for.

    The others are settings of the same port and differ in sizes alone.
    """
    ports, default = options_class.ports, options_class.preset
    names = [default, *(name for name in ports if ports[name] != ports[default])]
    return [options_class.make({"preset": name}) for name in names]


def measure(ref: MethodRef, options: Options, setup: Setup) -> Cost:
    """Measure one method; if it fails, the result has the error and no figures."""
    try:
        return _measure(ref, options, setup)
    except Exception as error:  # a method may raise anything, memory may run out, and the other methods go on
        return Cost(method=ref.name, preset=options.preset, error=told(error))


def told(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _measure_plain(setup: Setup) -> Figures:
    try:
        step = _plain(setup)
        samples, peak = [step.sample() for _ in range(setup.repeats)], step.peak()
    except RuntimeError as error:
        raise ValueError(
            f"the plain block does not run on {where(setup)} ({told(error)}): lower --tokens, --batch or --width"
            + (", or leave --compile out" if setup.compiled else "")
        ) from error
    return Figures(**_medians(samples), peak_mb=peak / 1e6)


def _measure(ref: MethodRef, options: Options, setup: Setup) -> Cost:
    torch.compiler.reset()  # it would stop compiling the same code for yet another method, and say nothing
    one, two = (_trained(ref, options, setup, blocks) for blocks in (1, 2))
    encoder, method = build(ref, options, setup, blocks=1)
    refining = method if method.overrides("refine") else None
    depth = options.needs_depth
    plain, block = _plain(setup), Step(Piece(encoder.blocks[0], refining), setup, depth)
    refine = Step(Piece(None, refining), setup, depth) if refining else None
    steps = [step for step in (plain, block, refine) if step]
    samples = [[step.sample() for step in steps] for _ in range(setup.repeats)]
    peaks = [step.peak() for step in steps]
    figures = [_figures(samples, peaks, i) for i in range(1, len(steps))]
    return Cost(
        method=ref.name,
        preset=options.preset,
        parameters_per_block=two - one,
        parameters_shared=2 * one - two,
        block=figures[0],
        refine=figures[1] if refine else None,
    )


def _figures(samples: list[list[tuple[float, float]]], peaks: list[int], i: int) -> Figures:
    ratios = [sample[i][1] / sample[0][1] for sample in samples]
    low, middle, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    return Figures(
        **_medians([sample[i] for sample in samples]),
        ratio=middle,
        ratio_low=low,
        ratio_high=high,
        peak_mb=peaks[i] / 1e6,
        peak_ratio=peaks[i] / peaks[0],
    )


def _medians(samples: list[tuple[float, float]]) -> dict[str, float]:
    forward, both = (float(1e3 * value) for value in np.median(samples, axis=0))
    return {"forward_ms": forward, "forward_backward_ms": both}


def _plain(setup: Setup) -> Step:
    return Step(Piece(_encoder(setup, blocks=1).blocks[0], None), setup, depth=False)


def _encoder(setup: Setup, blocks: int) -> Encoder:
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=PATCH * setup.side,
        patch_size=PATCH,
        embed_dim=setup.width,
        depth=blocks,
        num_heads=setup.width // HEAD_WIDTH,
        reg_tokens=REGISTERS,
        num_classes=0,
    )
    return Encoder(model, tuple(range(blocks)))


def build(ref: MethodRef, options: Options, setup: Setup, blocks: int) -> tuple[Encoder, Method]:
    """An encoder with a method installed, in training mode; frozen modules stay in evaluation mode, as in trials."""
    encoder = _encoder(setup, blocks)
    spec = encoder_spec(encoder, PATCH * setup.side, SCALES["paper"].head, True, None)
    if options.needs_depth:
        spec = replace(spec, depth_blocks=blocks, depth_width=setup.width, depth_grid=spec.grid)
    method = cast(Method, load_class(ref.target, ref.source_sha256)(spec, options))
    method.install(encoder.model)
    encoder.train()
    for module in encoder.own_modules:
        module.training = False
    return encoder, method


def _trained(ref: MethodRef, options: Options, setup: Setup, blocks: int) -> int:
    """Trainable parameters in the blocks and in the method, without those that count as head."""
    with torch.device("meta"):
        encoder, method = build(ref, options, setup, blocks)
    head = tuple(f"{part}." for part in method.pyramid_parts)
    named = [*encoder.blocks.named_parameters(prefix="blocks"), *method.named_parameters()]
    trained = {id(p): p.numel() for name, p in named if p.requires_grad and not name.startswith(head)}
    return sum(trained.values())
