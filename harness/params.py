"""Trainable parameters of every method on every backbone, built on the meta device and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.tasks import FBP_CS
from harness.backbones import build_encoder
from harness.head import Mask2FormerHead
from harness.lookup import load_class
from harness.optim import count_parameters
from harness.scales import Scale
from harness.segmentor import DepthInput, Segmentor, encoder_spec
from harness.trial import MethodRef
from harness.zoo import DEPTH_ENCODER, RGB, BackboneSpec
from methods.base import Method
from methods.options import Options


@dataclass(frozen=True, kw_only=True)
class Count:
    """Trainable parameters of a method on a backbone, by group, and the published number in millions.

    Args:
        method: its name.
        backbone: name of the backbone.
        adapter: what the method adds.
        head: decoder, with the method's part of it.
        backbone_trainable: the backbone's own tensors that train.
        declared: the adapter by the closed formula of the method.
        reachable: those of the adapter that an output can depend on.
        published_m: as printed in papers, or None.
    """

    method: str
    backbone: str
    adapter: int
    head: int
    backbone_trainable: int
    declared: int
    reachable: int
    published_m: float | None

    @property
    def difference_m(self) -> float | None:
        """Ours minus the published number, in millions."""
        return None if self.published_m is None else self.adapter / 1e6 - self.published_m


def count(method: MethodRef, options: Options, backbone: BackboneSpec, scale: Scale) -> Count:
    """Count one method on one backbone at a scale's sizes, for the four-band task with 24 classes."""
    model = meta_segmentor(method, options, backbone, scale)
    groups = count_parameters(model)
    cls, spec = type(model.method), model.method.spec
    return Count(
        method=method.name,
        backbone=backbone.name,
        adapter=groups["adapter"],
        head=groups["head"],
        backbone_trainable=groups["backbone"],
        declared=cls.expected_count(spec, options),
        reachable=cls.reachable_count(spec, options),
        published_m=options.published_m.get(backbone.name) if scale.build == "paper" else None,
    )


def meta_segmentor(method: MethodRef, options: Options, backbone: BackboneSpec, scale: Scale) -> Segmentor:
    """A trial's model without values: only names and shapes."""
    assert FBP_CS.files is not None, "the task has files"
    with torch.device("meta"):
        encoder = build_encoder(backbone, scale.build, FBP_CS.bands, "nearest", "random")
        depth = None
        if options.needs_depth:
            depth = DepthInput(encoder=build_encoder(DEPTH_ENCODER, scale.build, RGB, "nearest", "random"))
        spec = encoder_spec(encoder, scale.protocol.crop, scale.head, True, depth.encoder if depth else None)
        made: Method = load_class(method.target, method.source_sha256)(spec, options)
        made.install(encoder.model)
        head = Mask2FormerHead(encoder.width, len(FBP_CS.files.classes), scale.head, made.queries())
        return Segmentor(encoder, depth, made, head, FBP_CS.bands)


def count_all(methods: Sequence[MethodRef], backbones: Sequence[BackboneSpec], scale: Scale) -> list[Count]:
    """Every method, in each of its presets' default form, on every backbone."""
    return [
        count(method, method.options_class.make({}), backbone, scale) for method in methods for backbone in backbones
    ]
