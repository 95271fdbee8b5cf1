"""One training step of a method at a scale's sizes, with random weights: `python run.py check METHOD --scale paper`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from harness.conformance import told
from harness.lookup import unpack
from harness.optim import count_parameters, in_head
from harness.quick_draws import QuickDraws
from harness.rehearsal import Rehearsal, Rehearsed
from harness.segmentor import Segmentor
from harness.trial import Trial

Shapes = list[tuple[int, ...]]


def check_packed_step(parcel: Mapping[str, Any]) -> tuple[str, ...]:
    """`check_step` of a trial from another process, as `harness.lookup.pack` gave it."""
    torch.set_num_threads(1)  # as trials train
    return check_step(unpack(parcel))


def check_step(trial: Trial) -> tuple[str, ...]:
    """Build a trial's model with random weights and train one step on a made-up batch: a sentence for each fault."""
    try:
        return tuple(_faults(trial))
    except Exception as error:  # a method may raise anything, and the other trials go on
        return (told(error, trial),)


def _faults(trial: Trial) -> Iterator[str]:
    with QuickDraws():  # type: ignore[no-untyped-call]
        rehearsal = Rehearsal(trial, random_weights=True)
    model, seen = rehearsal.model, dict[str, Shapes]()
    handles = (
        model.encoder.register_forward_hook(lambda _module, _inputs, maps: seen.update(encoder=_shapes(maps))),
        model.head.pixel_decoder.register_forward_pre_hook(
            lambda _module, inputs: seen.update(head=_shapes(inputs[0]))
        ),
    )
    rehearsed = rehearsal.observed_step()
    for handle in handles:
        handle.remove()
    yield from _wrong_counts(model, trial)
    yield from _wrong_gradients(model, rehearsed)
    yield from _wrong_shapes(model, trial, seen)


def _shapes(maps: list[torch.Tensor]) -> Shapes:
    return [tuple(found.shape) for found in maps]


def _wrong_counts(model: Segmentor, trial: Trial) -> Iterator[str]:
    """The adapter has the declared number of parameters; the backbone trains only where that is declared."""
    cls, counts = type(model.method), count_parameters(model)
    if bool(counts["backbone"]) != cls.trains_backbone:
        thawed = f"{counts['backbone']:,} parameters of the backbone train"
        yield f"{thawed}, and trains_backbone is {cls.trains_backbone}"
    if cls.overrides("expected_count"):
        declared = cls.expected_count(model.method.spec, trial.options)
        if counts["adapter"] != declared:
            yield f"{counts['adapter']:,} adapter parameters, {declared:,} by expected_count"


def _wrong_gradients(model: Segmentor, rehearsed: Rehearsed) -> Iterator[str]:
    """All that trains gets a finite gradient, but for what `may_be_unused` names; nothing frozen gets one."""
    if rehearsed.thawed:
        yield f"frozen {rehearsed.thawed[0]} got a gradient"
    declared = tuple(f".{ending}" for ending in model.method.may_be_unused)
    idle = [name for name in rehearsed.idle if in_head(name, model) or not f".{name}".endswith(declared)]
    if idle:
        yield f"{idle[0]} gets no gradient: use it, or declare it in may_be_unused"
    wild = [name for name, norm in rehearsed.gradients.items() if not math.isfinite(norm)]
    if wild:
        yield f"the gradient of {wild[0]} is not finite"
    ours = [norm for name, norm in rehearsed.gradients.items() if not in_head(name, model)]
    if ours and not any(ours):
        yield f"all gradients of {len(ours)} tensors outside the head are 0: the method cannot train"


def _wrong_shapes(model: Segmentor, trial: Trial, seen: Mapping[str, Shapes]) -> Iterator[str]:
    """The encoder gives four maps of one token per patch; the head decodes them at its width and strides."""
    side, batch = trial.protocol.crop // model.encoder.patch_size, trial.protocol.batch_size
    expected = {
        "encoder": [(batch, model.encoder.width, side, side)] * 4,
        "head": [(batch, trial.scale.head.width, *2 * (round(side * factor),)) for factor in model.factors],
    }
    for where, shapes in expected.items():
        if seen[where] != shapes:
            yield f"maps at the {where} have shapes {seen[where]} instead of {shapes}"
