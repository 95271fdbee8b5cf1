"""The backbones with random weights, tiny or on the meta device, and what is checked on them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.backbones import Encoder, build_encoder, encoder_spec
from harness.lookup import find_method, load_class
from harness.zoo import BACKBONES, RGB
from methods.base import Method
from tests.models import BANDS, HEAD, PAPER_HEAD, PX, images

ENCODERS = tuple(BACKBONES)
"""CLIP: norm before the blocks; SAM: windows, no prefix tokens, blocks that keep the grid; EVA-02: rotary positions,
split query, key and value, SwiGLU; DINOv2: layer scale; DINOv3: rotary positions, fused layer, layer scale, and
registers; DOFA: its own way through the blocks."""


def tiny(name: str) -> Encoder:
    """The frozen mini build for the four bands of `tests.models.images`, with random weights, the same at every call.

    It has 6 blocks, width 96, 4 heads and 8 x 8 patch tokens; the feature blocks are 1, 2, 3 and 5.

    Args:
        name: one of `ENCODERS`.
    """
    torch.manual_seed(0)
    return build_encoder(BACKBONES[name], "mini", BANDS, "nearest", "random")


def large(name: str) -> Encoder:
    """The build at the size of the paper, on the meta device: DINOv3-L and so on, and SAM-H."""
    return copy.deepcopy(_large(name))


@cache
def _large(name: str) -> Encoder:
    with torch.device("meta"):
        return build_encoder(BACKBONES[name], "paper", RGB, "nearest", "random")


def installed(
    name: str, encoder: Encoder, options: Mapping[str, Any] | None = None, mlp_width: int = 0
) -> tuple[Method, dict[str, nn.Parameter]]:
    """A method built for an encoder and installed into it, and its trainable tensors wherever they live."""
    cls = load_class(find_method(name).target)
    meta = next(encoder.parameters()).is_meta
    spec = encoder_spec(encoder, 512 if meta else PX, PAPER_HEAD if meta else HEAD, True, None)
    torch.manual_seed(1)
    with torch.device("meta" if meta else "cpu"):
        method: Method = cls(replace(spec, mlp_width=mlp_width), cls.Options.make(options or {}))
        method.install(encoder.model)
    both = nn.ModuleDict({"method": method, "encoder": encoder}).eval()
    return method, {key: p for key, p in both.named_parameters() if p.requires_grad}


def draw(parameters: Mapping[str, nn.Parameter], std: float = 0.3) -> None:
    """Fill tensors with random numbers, the same at every call."""
    generator = torch.Generator().manual_seed(7)
    for parameter in parameters.values():
        parameter.data.normal_(0, std, generator=generator)


def shake(parameters: Mapping[str, nn.Parameter], std: float = 0.2) -> None:
    """Add noise to tensors, the same at every call: what multiplies must not be near zero."""
    generator = torch.Generator().manual_seed(7)
    for parameter in parameters.values():
        parameter.data += torch.randn(parameter.shape, generator=generator) * std


def draw_biases(encoder: Encoder) -> Encoder:
    """Fill what timm starts at 0, where it could be lost unseen: biases, and SAM's relative positions."""
    draw({name: p for name, p in encoder.named_parameters() if "bias" in name or "rel_pos" in name})
    return encoder


@torch.no_grad()
def maps(encoder: Encoder, x: Tensor | None = None) -> list[Tensor]:
    """The maps after every block."""
    return encoder(images() if x is None else x, every_block=True)


def assert_only_trainable_get_gradients(method: Method, encoder: Encoder) -> None:
    """A backward pass leaves a gradient (`is not None`) in every trainable tensor and in no other."""
    sum(y.square().mean() for y in encoder(images())).backward()  # type: ignore[union-attr]
    both = nn.ModuleDict({"method": method, "encoder": encoder})
    wrong = [name for name, p in both.named_parameters() if (p.grad is not None) != p.requires_grad]
    assert not wrong


def assert_samples_do_not_mix(encoder: Encoder) -> None:
    """The maps of an image are the same alone, in a batch and in another order."""
    x = images(3)
    together, alone, turned = maps(encoder, x), maps(encoder, x[:1]), maps(encoder, x.flip(0))
    for a, b, c in zip(together, alone, turned, strict=True):
        torch.testing.assert_close(a[:1], b, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a, c.flip(0), rtol=1e-4, atol=1e-4)
