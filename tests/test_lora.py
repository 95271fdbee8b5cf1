"""LoRA by `peft`: where the factors act, against weights merged by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.backbones import Encoder, encoder_spec
from methods.lora import Lora
from methods.parts import SplitQKV
from tests.models import HEAD, PX, adapter_parameters, build, features, images, randomise, small_vit

ENTRIES: dict[str, dict[str, Any]] = {
    "vit_small_patch16_dinov3": {},
    "vit_small_patch16_dinov3_qkvb": {},
    "eva02_tiny_patch14_224": {},
    "eva02_base_patch14_224": {},
    "vit_tiny_patch16_224": {},
    "samvit_base_patch16": {"window_size": 4, "global_attn_indexes": (2, 5)},
}
"""Attention with a fused layer without bias, with a joint bias (twice), with split layers, with bias inside, SAM's."""

SMALL = {"embed_dim": 48, "num_heads": 2}
TARGETS = {"qv": ("q", "v"), "qkv_fused": ("qkv",), "qkvo": ("q", "k", "v", "proj")}


def encoder(entry: str) -> Encoder:
    made = small_vit(entry, **SMALL, **ENTRIES[entry])
    generator = torch.Generator().manual_seed(3)
    for name, parameter in made.named_parameters():
        if "bias" in name:  # timm starts them at 0, where they could be lost unseen
            parameter.data.normal_(0, 0.5, generator=generator)
    return made


def outputs(model: Encoder) -> list[Tensor]:
    with torch.no_grad():
        return model(images()[:, :3], every_block=True)


def install(model: Encoder, **options: Any) -> dict[str, nn.Parameter]:
    """Install LoRA and return its factors by name."""
    method = Lora(encoder_spec(model, PX, HEAD, True, None), Lora.Options.make(options))
    torch.manual_seed(1)
    method.install(model.model)
    assert not list(method.parameters())
    return {name: p for name, p in model.model.named_parameters() if p.requires_grad}


def draw(factors: dict[str, nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(5)
    for factor in factors.values():
        factor.data.normal_(0, 0.2, generator=generator)


def merge(model: Encoder, factors: dict[str, nn.Parameter], scale: float) -> None:
    """W + scale B A, by hand: in a fused layer query, key and value are the first, second and third rows."""
    for name, down in factors.items():
        if "lora_A" not in name:
            continue
        update = scale * factors[name.replace("lora_A", "lora_B")].data @ down.data
        _, block, _, *layer = name.removesuffix(".lora_A.default.weight").split(".")
        attention: Any = model.blocks[int(block)].attn
        fused, kind = attention.qkv, layer[-1].removesuffix("_proj")
        if kind in ("proj", "qkv"):
            getattr(attention, kind).weight.data += update
        elif isinstance(fused, nn.Linear):
            width = fused.out_features // 3
            fused.weight.data[width * "qkv".index(kind) :][:width] += update
        else:
            getattr(attention, f"{kind}_proj").weight.data += update


PAIRS = [(entry, target) for entry in ENTRIES for target in TARGETS]
PAIRS.remove(("eva02_base_patch14_224", "qkv_fused"))  # it has no fused layer


@pytest.mark.parametrize(("entry", "target"), PAIRS)
def test_equals_merged_weights_and_starts_as_identity(entry: str, target: str) -> None:
    plain, adapted = encoder(entry), encoder(entry)
    factors = install(adapted, target=target, rank=4, alpha=12)
    assert len(factors) == 2 * 6 * len(TARGETS[target])
    for ours, frozen in zip(outputs(adapted), outputs(plain), strict=True):
        assert torch.equal(ours, frozen), "B is zero: the frozen model, bit for bit"
    draw(factors)
    before = outputs(plain)
    merge(plain, factors, scale=12 / 4)
    for i, (ours, merged) in enumerate(zip(outputs(adapted), outputs(plain), strict=True)):
        assert (merged - before[i]).norm() > 0.05 * before[i].norm(), "the update is large enough to be missed"
        torch.testing.assert_close(ours, merged, rtol=1e-4, atol=1e-4, msg=lambda m, i=i: f"block {i}: {m}")


def test_a_backbone_without_a_fused_layer_is_refused_for_fused_factors() -> None:
    with pytest.raises(ValueError, match="qkv"):
        install(encoder("eva02_base_patch14_224"), target="qkv_fused")


@pytest.mark.parametrize(("alpha", "scale"), [(0, 1.0), (8, 1.0), (4, 0.5), (24, 3.0)])
def test_scale_is_alpha_over_rank_and_0_means_rank(alpha: int, scale: float) -> None:
    plain, adapted = (encoder("vit_small_patch16_dinov3") for _ in range(2))
    factors = install(adapted, alpha=alpha)
    assert {tuple(p.shape) for name, p in factors.items() if "lora_A" in name} == {(8, 48)}
    draw(factors)
    merge(plain, factors, scale)
    torch.testing.assert_close(outputs(adapted)[5], outputs(plain)[5], rtol=1e-4, atol=1e-4)


def test_factors_start_kaiming_uniform_and_zero() -> None:
    for name, factor in install(encoder("vit_small_patch16_dinov3")).items():
        if "lora_B" in name:
            assert not factor.any()
        else:
            assert 0.9 / 48**0.5 < factor.abs().max().item() <= 1 / 48**0.5


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_split_layer_equals_the_fused_one(bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    fused = nn.Linear(40, 120, bias=bias, dtype=dtype)
    split = SplitQKV(fused)
    x = torch.randn(2, 7, 40, dtype=dtype)
    torch.testing.assert_close(split(x), fused(x), rtol=0, atol=1e-6)
    assert split(x).dtype == dtype
    assert sum(p.numel() for p in split.parameters()) == sum(p.numel() for p in fused.parameters())
    assert not any(p.requires_grad for p in split.parameters())


def test_dropout_acts_in_training_and_only_there() -> None:
    model = randomise(build("lora", {"dropout": 0.5}))
    without = randomise(build("lora"))
    assert torch.equal(features(model, images())[3], features(without, images())[3])
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = (model(images())[0][3] for _ in range(2))
    assert not torch.equal(first, second)


def test_only_the_factors_train() -> None:
    model = build("lora", {"target": "qkvo"})
    assert all(".lora_A.default." in name or ".lora_B.default." in name for name in adapter_parameters(model))
    assert len(adapter_parameters(model)) == 2 * 6 * 4
