"""Trainable parameters of every method on every backbone, built on the meta device and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.catalogue import FBP_CS
from harness.backbones import build_encoder, encoder_spec
from harness.head import Mask2FormerHead
from harness.lookup import load_class
from harness.optim import count_parameters, in_head
from harness.scales import Scale
from harness.segmentor import DepthInput, Segmentor
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
        declared: the adapter by the closed formula of the method, or None where it gives none.
        reachable: those of the adapter that an output can depend on.
        published_m: as printed in papers, or None.
    """

    method: str
    backbone: str
    adapter: int
    head: int
    backbone_trainable: int
    declared: int | None
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
    declares = cls.overrides("expected_count")
    return Count(
        method=method.name,
        backbone=backbone.builds[scale.build].name,
        adapter=groups["adapter"],
        head=groups["head"],
        backbone_trainable=groups["backbone"],
        declared=cls.expected_count(spec, options) if declares else None,
        reachable=cls.reachable_count(spec, options) if declares else groups["adapter"],
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
        sizes = scale.head.serving(options)
        spec = encoder_spec(encoder, scale.protocol.crop, sizes, True, depth.encoder if depth else None)
        made: Method = load_class(method.target, method.source_sha256)(spec, options)
        made.install(encoder.model)
        head = Mask2FormerHead(encoder.width, len(FBP_CS.files.classes), sizes, made.queries())
        return Segmentor(encoder, depth, made, head, FBP_CS.bands)


def adapter_parameters(model: Segmentor) -> Iterator[tuple[str, nn.Parameter]]:
    """Trainable tensors outside the head, by name."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not in_head(name, model):
            yield name, parameter


def frozen_parameters(model: Segmentor) -> Iterator[tuple[str, nn.Parameter]]:
    """Tensors that do not train, by name."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter


def unregistered(model: nn.Module, loss: Tensor) -> list[tuple[int, ...]]:
    """Shapes of the tensors that a loss sends gradients to and that are no parameters of the model."""
    known = {id(p) for p in model.parameters()}
    nodes, seen, found = [loss.grad_fn], set[object](), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in known:
            found.append(tuple(leaf.shape))
    return found
