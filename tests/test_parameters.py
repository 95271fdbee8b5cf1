"""Parameter counts at the paper's sizes, on torch's meta device: built and counted, not only computed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import nn

from benchmarks.tasks import FBP_CS
from harness.backbones import Encoder, build_encoder
from harness.head import Mask2FormerHead
from harness.lookup import find_method, load_class
from harness.segmentor import encoder_spec
from harness.zoo import BACKBONES, DEPTH_ENCODER, RGB
from methods.base import EncoderSpec, Method, Queries
from tests.models import PAPER_HEAD

SAM_H = EncoderSpec(
    blocks=32,
    width=1280,
    heads=16,
    patch_size=16,
    grid=(32, 32),
    prefix_tokens=0,
    feature_blocks=(7, 15, 23, 31),
    queries=100,
    query_width=256,
    depth_blocks=24,
    depth_width=1024,
    depth_grid=(32, 32),
    mlp_width=5120,
)


def trainable(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def paper_encoder() -> Encoder:
    with torch.device("meta"):
        return build_encoder(BACKBONES["dinov3"], "paper", FBP_CS.bands, "nearest", "random")


@cache
def vit_l() -> EncoderSpec:
    """What a method is told at the paper's sizes, read off the real builds."""
    with torch.device("meta"):
        depth = build_encoder(DEPTH_ENCODER, "paper", RGB, "nearest", "random")
    return encoder_spec(paper_encoder(), 512, PAPER_HEAD, True, depth)


def make(name: str, spec: EncoderSpec, options: dict[str, Any]) -> tuple[Method, int]:
    """The method on the meta device and its declared count."""
    cls = load_class(find_method(name).target)
    chosen = cls.Options.make(options)
    with torch.device("meta"):
        return cls(spec, chosen), cls.expected_count(spec, chosen)


def test_the_paper_build_is_vit_l() -> None:
    spec = vit_l()
    assert (spec.blocks, spec.width, spec.heads, spec.patch_size, spec.grid) == (24, 1024, 16, 16, (32, 32))
    assert (spec.prefix_tokens, spec.feature_blocks) == (5, (7, 11, 15, 23))
    assert (spec.queries, spec.query_width) == (100, 256)
    assert (spec.depth_blocks, spec.depth_width, spec.depth_grid) == (24, 1024, (32, 32))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("frozen", {}, 0),
        ("rein", {}, 2_990_081),
        ("spectralmoe", {"preset": "paper"}, 5_737_985),
        ("spectralmoe", {"preset": "released"}, 5_737_985),
        ("depth_add", {}, 24 * 1025 * 1024),
        ("lora", {}, 786_432),
        ("lora", {"target": "qkv_fused"}, 786_432),
        ("lora", {"target": "qkvo", "rank": 4}, 786_432),
    ],
)
def test_counted_after_install_at_vit_l(name: str, options: dict[str, Any], expected: int) -> None:
    encoder = paper_encoder()
    frozen = sum(p.numel() for p in encoder.parameters())
    method, declared = make(name, vit_l(), options)
    method.install(encoder.model)
    inside = trainable(encoder)
    assert trainable(method) + inside == declared == expected
    assert sum(p.numel() for p in encoder.parameters()) == frozen + inside, "the backbone itself keeps its size"


RANKS = {4: 3_795_713, 8: 4_443_137, 16: 5_737_985, 32: 8_327_681, 64: 13_507_073}
EXPERTS = {1: 3_088_385, 2: 3_618_305, 3: 4_148_225, 4: 4_678_145, 6: 5_737_985, 8: 6_797_825, 10: 7_857_665}
EXPERTS |= {12: 8_917_505}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        *(({"rank": rank}, count) for rank, count in RANKS.items()),
        *(({"experts": experts}, count) for experts, count in EXPERTS.items()),
        ({"shared_router": True}, 5_443_073),
        ({"depth": False, "fusion": "none"}, 5_443_073),
        ({"fusion": "add"}, 5_737_985),
        ({"gating": "dot", "top_k": 5}, 5_737_985),
    ],
    ids=str,
)
def test_spectralmoe_variants(options: dict[str, Any], expected: int) -> None:
    method, declared = make("spectralmoe", vit_l(), options)
    assert trainable(method) == declared == expected


@pytest.mark.parametrize(
    ("queries", "expected"),
    [(25, 5_565_185), (50, 5_622_785), (150, 5_853_185), (200, 5_968_385), (250, 6_083_585)],
)
def test_spectralmoe_token_length_follows_the_queries(queries: int, expected: int) -> None:
    method, declared = make("spectralmoe", replace(vit_l(), queries=queries), {})
    assert trainable(method) == declared == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rein", 2_990_081 - 262_400 - 196_864), ("spectralmoe", 5_737_985 - 262_400 - 196_864), ("lora", 786_432)],
)
def test_plain_queries_leave_out_the_link(name: str, expected: int) -> None:
    encoder = paper_encoder()
    method, declared = make(name, replace(vit_l(), linked=False), {})
    method.install(encoder.model)
    assert trainable(method) + trainable(encoder) == declared == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"rank": 0}, 5_016_065), ({"zero_init": True}, 2_990_080), ({"rank": 0, "zero_init": True}, 5_016_064)],
)
def test_rein_variants(options: dict[str, Any], expected: int) -> None:
    method, declared = make("rein", vit_l(), options)
    assert trainable(method) == declared == expected


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("rein", SAM_H, 4_510_721),
        ("spectralmoe", SAM_H, 10_338_561),
        ("spectralmoe", replace(SAM_H, depth_width=1280), 9_026_561),
    ],
    ids=["rein", "spectralmoe", "spectralmoe with depth of the same width"],
)
def test_sam_h(name: str, spec: EncoderSpec, expected: int) -> None:
    method, declared = make(name, spec, {})
    assert trainable(method) == declared == expected


def test_lora_at_sam_h() -> None:
    with torch.device("meta"):
        encoder = Encoder(timm.create_model("samvit_huge_patch16", num_classes=0), SAM_H.feature_blocks)
    spec = encoder_spec(encoder, 512, PAPER_HEAD, True, None)
    assert spec == replace(SAM_H, depth_blocks=0, depth_width=0, depth_grid=(0, 0))
    method, declared = make("lora", spec, {})
    method.install(encoder.model)
    assert trainable(method) + trainable(encoder) == declared == 1_310_720


HEADS = {
    "standard": {24: 20_566_489, 12: 20_563_405, 8: 20_562_377, 7: 20_562_120, 6: 20_561_863},
    "spectralmoe": {24: 20_540_889, 12: 20_537_805, 8: 20_536_777, 7: 20_536_520, 6: 20_536_263},
    "rein": {24: 20_581_081, 12: 20_577_997, 8: 20_576_969, 7: 20_576_712, 6: 20_576_455},
}


@pytest.mark.parametrize("variant", HEADS)
@pytest.mark.parametrize("classes", [24, 12, 8, 7, 6])
def test_head(variant: str, classes: int) -> None:
    with torch.device("meta"):
        queries = None
        if variant != "standard":
            queries = Queries(position_QC=torch.empty(100, 256), replace_content=variant == "rein")
        head = Mask2FormerHead(1024, classes, PAPER_HEAD, queries)
    assert trainable(head) == sum(p.numel() for p in head.parameters()) == HEADS[variant][classes]


def test_head_of_wider_features() -> None:
    with torch.device("meta"):
        head = Mask2FormerHead(1280, 24, PAPER_HEAD, None)
    assert trainable(head) == HEADS["standard"][24] + 262_144
