"""Parameter counts at the paper's sizes, on torch's meta device: built and counted, not only computed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import nn

from benchmarks.catalogue import FBP_CS
from harness.backbones import Encoder, build_encoder, encoder_spec
from harness.head import Mask2FormerHead
from harness.lookup import find_method, load_class
from harness.params import meta_segmentor
from harness.scales import SCALES
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


GATINGS = ("softmax", "gaussian", "laplace")


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


VARIANTS = {
    "without_moe": 2_990_081,
    "without_dual_gating": 5_443_073,
    "without_depth": 5_443_073,
    **dict.fromkeys(["without_cross_attention", *(f"gating_{word}" for word in GATINGS)], 5_737_985),
    **dict.fromkeys([f"top_{k}" for k in range(1, 6)], 5_737_985),
    **{"rank_4": 3_795_713, "rank_8": 4_443_137, "rank_16": 5_737_985, "rank_32": 8_327_681, "rank_64": 13_507_073},
    **{"experts_1": 3_088_385, "experts_2": 3_618_305, "experts_4": 4_678_145, "experts_6": 5_737_985},
    **{"experts_8": 6_797_825, "experts_10": 7_857_665, "experts_12": 8_917_505},
    **{"tokens_25": 5_565_185, "tokens_50": 5_622_785, "tokens_100": 5_737_985},
    **{"tokens_150": 5_853_185, "tokens_200": 5_968_385, "tokens_250": 6_083_585},
}
"""The sheet's numbers for every published ablation."""


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_spectralmoe_variants(variant: str, preset: str) -> None:
    method, declared = make("spectralmoe", vit_l(), {"preset": preset, "variant": variant})
    assert trainable(method) == declared == VARIANTS[variant]


def test_every_spectralmoe_variant_has_a_published_count() -> None:
    assert set(find_method("spectralmoe").options_class.variants) == set(VARIANTS)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"experts": 3}, 4_148_225),
        ({"router": "follow"}, 5_443_073),
        ({"depth": False, "fusion": "self"}, 5_443_073),
        ({"depth_projection": "always"}, 5_737_985 + 1025 * 1024),
        ({"depth_projection": "always", "depth": False, "fusion": "none"}, 5_443_073),
    ],
    ids=str,
)
def test_spectralmoe_options(options: dict[str, Any], expected: int) -> None:
    method, declared = make("spectralmoe", vit_l(), options)
    assert trainable(method) == declared == expected


@pytest.mark.parametrize("queries", [25, 250])
def test_spectralmoe_token_length_follows_the_queries(queries: int) -> None:
    method, declared = make("spectralmoe", replace(vit_l(), queries=queries), {})
    assert trainable(method) == declared == VARIANTS[f"tokens_{queries}"]


def test_the_head_follows_the_tokens() -> None:
    for variant, queries in (("tokens_50", 50), ("top_1", 100)):
        options = find_method("spectralmoe").options_class.make({"variant": variant})
        model = meta_segmentor(find_method("spectralmoe"), options, BACKBONES["dinov3"], SCALES["paper"])
        assert model.method.queries().position_QC.shape == (queries, 256)
        assert trainable(model.head) == HEADS["spectralmoe"][24] + (queries - 100) * 256


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
