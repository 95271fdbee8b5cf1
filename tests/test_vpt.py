"""VPT-deep: extra keys and values against prompts inserted for real, and against SAM's attention written out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from harness.backbones import Encoder
from methods.options import VptOptions
from methods.vpt import initial_bound
from tests.encoders import (
    ENCODERS,
    assert_only_trainable_get_gradients,
    assert_samples_do_not_mix,
    draw,
    draw_biases,
    installed,
    large,
    maps,
    tiny,
)
from tests.models import BANDS, build, features, images, make_trial, randomise, relative, small_vit


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        *((name, {}, 6_144_000 if name == "sam" else 3_686_400) for name in ENCODERS),
        ("dinov3", {"prompts": 1}, 24 * 1024),
    ],
)
def test_counts_at_the_papers_sizes(name: str, options: dict[str, Any], expected: int) -> None:
    encoder = large(name)
    frozen = sum(p.numel() for p in encoder.parameters())
    method, trainable = installed("vpt", encoder, options)
    declared = type(method).expected_count(method.spec, VptOptions.make(options))
    assert sum(p.numel() for p in trainable.values()) == declared == expected
    assert sum(p.numel() for p in encoder.parameters()) == frozen + expected
    assert len(encoder.state_dict()) == len(large(name).state_dict()) + len(encoder.blocks), "each tensor has one name"


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "joint bias": ("vit_small_patch16_dinov3_qkvb", {"init_values": 1.0}),
    "norms of the heads": ("vit_tiny_patch16_224", {"qk_norm": True}),
    "norms of the heads, rotary": ("eva02_base_patch14_224", {"qk_norm": True, "ref_feat_shape": (8, 8)}),
    "inner norm": ("vit_tiny_patch16_224", {"scale_attn_norm": True}),
    "gate": ("vit_tiny_patch16_224", {}),
    "inner norm, gate, rotary": ("eva02_base_patch14_224", {"scale_attn_inner": True, "ref_feat_shape": (8, 8)}),
    "registers": ("vit_large_patch14_reg4_dinov2", {"init_values": 1.0}),
}
"""Further forms of attention: what a head may have beside its three projections."""


def encoder(case: str) -> Encoder:
    if case in OTHERS:
        entry, options = OTHERS[case]
        made = small_vit(entry, in_chans=len(BANDS), **options)
    else:
        made = tiny(case)
    if "gate" in case:  # no entry point asks for timm's gate
        for block in made.blocks:
            block.attn.gate = nn.Linear(96, 96).requires_grad_(False)
    named = dict(made.named_parameters())
    draw({name: p for name, p in named.items() if "attn.norm" in name or "_norm" in name}, 1.0)
    # sharp attention, in which a wrongly placed key shows
    sharp = ("qkv.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight", "gate.weight")
    draw({name: p for name, p in named.items() if name.endswith(sharp)})
    return draw_biases(made)


def insert(plain: Encoder, prompts: list[nn.Parameter]) -> None:
    """VPT-deep as its paper has it: prompts after the prefix tokens at the input of every block, dropped behind it."""
    prefix = plain.prefix_tokens
    for block, prompts_PD in zip(plain.blocks, prompts, strict=True):
        attention: Any = block.attn
        if hasattr(attention, "num_prefix_tokens"):
            attention.num_prefix_tokens += len(prompts_PD)

        def enter(_: nn.Module, inputs: tuple[Tensor, ...], p: Tensor = prompts_PD) -> tuple[Tensor, ...]:
            x = inputs[0]
            return (torch.cat([x[:, :prefix], p.expand(len(x), -1, -1), x[:, prefix:]], dim=1), *inputs[1:])

        def leave(_: nn.Module, __: Any, x: Tensor, p: Tensor = prompts_PD) -> Tensor:
            return torch.cat([x[:, :prefix], x[:, prefix + len(p) :]], dim=1)

        block.register_forward_pre_hook(enter)
        block.register_forward_hook(leave)


@pytest.mark.parametrize("case", [*(name for name in ENCODERS if name != "sam"), *OTHERS])
def test_keys_and_values_equal_inserted_prompts(case: str) -> None:
    plain, inserted, prompted = (encoder(case) for _ in range(3))
    _, trainable = installed("vpt", prompted, {"prompts": 20})
    draw(trainable, 1.0)
    insert(inserted, list(trainable.values()))
    x = images(2, 64, 64)
    for ours, theirs, frozen in zip(maps(prompted, x), maps(inserted, x), maps(plain, x), strict=True):
        assert relative(theirs, ours) < 1e-5
        assert relative(frozen, ours) > 0.05


def test_prompts_keep_their_place_on_another_grid() -> None:
    inserted, prompted = (draw_biases(small_vit("vit_small_patch16_dinov3", in_chans=4)) for _ in range(2))
    _, trainable = installed("vpt", prompted, {"prompts": 3})
    insert(inserted, list(trainable.values()))
    x = images(2, 32, 96)
    for ours, theirs in zip(maps(prompted, x), maps(inserted, x), strict=True):
        assert ours.shape[-2:] == (4, 12)
        assert relative(theirs, ours) < 1e-5


def sam_by_hand(attention: Any, normed_prompts: np.ndarray, window: np.ndarray, heads: int) -> np.ndarray:
    """Attention of one window [H, W, D], one head and one query at a time; prompts have a bias of zero."""
    p = {name: value.detach().double().numpy() for name, value in attention.named_parameters()}
    H, W, D = window.shape
    width = D // heads
    out = np.zeros((H, W, D))
    for head in range(heads):

        def project(x: np.ndarray, part: int, head: int = head) -> np.ndarray:
            rows = slice(part * D + head * width, part * D + (head + 1) * width)
            return x @ p["qkv.weight"][rows].T + p["qkv.bias"][rows]

        key_p, value_p = project(normed_prompts, 1), project(normed_prompts, 2)
        queries, keys, values = (project(window, part) for part in range(3))
        for y, x in np.ndindex(H, W):
            q = queries[y, x]
            scores = q @ keys.reshape(-1, width).T / math.sqrt(width)
            for i, (v, u) in enumerate(np.ndindex(H, W)):
                scores[i] += q @ p["rel_pos_h"][y - v + H - 1] + q @ p["rel_pos_w"][x - u + W - 1]
            scores = np.concatenate([scores, q @ key_p.T / math.sqrt(width)])
            seen = np.concatenate([values.reshape(-1, width), value_p])
            out[y, x, head * width : (head + 1) * width] = softmax(scores) @ seen
    return out @ p["proj.weight"].T + p["proj.bias"]


@pytest.mark.parametrize(("block", "side"), [(0, 4), (1, 8)], ids=["windows", "global"])
def test_sam_written_out(block: int, side: int) -> None:
    prompted = draw_biases(tiny("sam"))
    _, trainable = installed("vpt", prompted, {"prompts": 3})
    draw(trainable, 1.0)
    there: Any = prompted.blocks[block]
    generator = torch.Generator().manual_seed(0)
    windows = torch.randn(2, side, side, 96, generator=generator)
    with torch.no_grad():
        ours = there.attn(windows)
        normed = there.norm1(there.attn.prompts).double().numpy()
    for mine, window in zip(ours, windows.double().numpy(), strict=True):
        expected = sam_by_hand(there.attn.attention, normed, window, heads=4)
        np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_and_samples(name: str) -> None:
    made = tiny(name)
    before = maps(made)[5]
    method, trainable = installed("vpt", made)
    assert {tuple(p.shape) for p in trainable.values()} == {(150, 96)}
    assert relative(before, maps(made)[5]) > 0.005
    assert_only_trainable_get_gradients(method, made)
    assert_samples_do_not_mix(made)


def test_first_values() -> None:
    sixteen, _ = installed("vpt", large("dinov3"))
    assert round(initial_bound(replace(sixteen.spec, patch_size=14), VptOptions()), 5) == 0.06101
    assert round(initial_bound(sixteen.spec, VptOptions()), 5) == 0.05786
    assert round(initial_bound(sixteen.spec, VptOptions(init="xavier")), 5) == 0.00623
    tensor = nn.init.xavier_uniform_(torch.empty(1, 150, 1024))
    assert round(tensor.abs().max().item(), 4) == 0.0062
    for init in ("official", "xavier"):
        made, trainable = installed("vpt", tiny("dinov3"), {"init": init})
        bound = initial_bound(made.spec, VptOptions.make({"init": init}))
        for prompts in trainable.values():
            assert 0.99 * bound < prompts.abs().max().item() <= bound
            assert abs(prompts.mean().item()) < 0.03 * bound
        assert not torch.equal(*list(trainable.values())[:2])


def test_dropout_acts_in_training_and_only_there() -> None:
    model, without = (randomise(build("vpt", {"dropout": p})) for p in (0.5, 0.0))
    assert torch.equal(features(model, images())[3], features(without, images())[3])
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = (model(images())[0][3] for _ in range(2))
    assert not torch.equal(first, second)


def test_unknown_attention_is_refused() -> None:
    made = tiny("clip")
    made.blocks[3].attn = nn.Identity()
    with pytest.raises(ValueError, match="Identity"):
        installed("vpt", made)


@pytest.mark.parametrize("wrong", [{"prompts": 0}, {"dropout": 1.0}, {"init": "zero"}], ids=str)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"vpt.{next(iter(wrong))}"):
        VptOptions.make(wrong)


def test_it_is_planned_by_name() -> None:
    assert make_trial("vpt", "vpt.prompts=8").options.prompts == 8
