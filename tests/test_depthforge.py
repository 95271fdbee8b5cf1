"""DepthForge against its equations and against REIN, the rule for other widths, and its module on the feature maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from methods.depthforge import DepthForge, MapRefinement, alignment_matrix
from methods.rein import Rein
from tests.adapters import (
    LINK,
    SAM_H,
    SPEC,
    VIT_L,
    Array,
    arrays,
    assert_samples_stay_apart,
    assert_works_in_bf16,
    bank,
    counted,
    drawn,
    fresh,
    linked,
    refined,
    token_delta,
    tokens,
    without_gradient,
)

NARROW, WIDE = replace(SPEC, depth_width=10), replace(SPEC, depth_width=24)


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        (VIT_L, {}, 2_990_081),
        (SAM_H, {}, 4_510_721),
        (VIT_L, {"refine_maps": True}, 2_990_081),
        (VIT_L, {"rank": 0}, 5_016_065),
        (VIT_L, {"zero_init": True}, 2_990_080),
        (replace(VIT_L, linked=False), {}, 2_990_081 - LINK["vit_l"]),
    ],
)
def test_counts(spec: Any, options: dict[str, Any], expected: int) -> None:
    assert counted(DepthForge, spec, **options) == (expected, expected)


@pytest.mark.parametrize(("width", "expected"), [(1024, 4_336_705), (1280, 6_772_561)])
def test_the_module_on_the_maps_counts_apart(width: int, expected: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in MapRefinement(width).parameters()) == expected
    assert DepthForge.pyramid_parts == ("refinement",)


# --- The equations


@pytest.mark.parametrize("spec", [SPEC, NARROW, WIDE], ids=["same width", "narrow depth", "wide depth"])
def test_equations(spec: Any) -> None:
    method = drawn(DepthForge, spec)
    p, x, g = arrays(method), tokens(1), tokens(2, width=spec.depth_width)
    aligned = g if spec is SPEC else g @ alignment_matrix(spec.depth_width, spec.width)
    for layer in (0, 2):
        out = method.refine(x, layer, g).detach().numpy()
        for image in range(2):
            f, query = x[image].numpy(), (x + aligned)[image].numpy()
            expected = f + p["scale"] * token_delta(p, "", layer, f, query_ND=query)
            np.testing.assert_allclose(out[image], expected, rtol=0, atol=1e-9)


def test_depth_adds_a_second_map_of_logits_and_never_reaches_the_values() -> None:
    method = drawn(DepthForge)
    x, g, T = tokens(1), tokens(2), method.bank()[1]
    attention = ((x @ T.T + g @ T.T) / SPEC.width**0.5).softmax(-1)[..., 1:]
    expected = x + method.scale * method.output(attention @ method.token_to_feature(T[1:]) + x)
    torch.testing.assert_close(method.refine(x, 1, g), expected, rtol=0, atol=1e-12)
    nn.init.zeros_(method.tokens_a)  # equal logits, whatever the depth
    assert torch.equal(method.refine(x, 1, g), method.refine(x, 1, -5 * g))


@pytest.mark.parametrize("options", [{}, {"rank": 0}, {"zero_init": True}], ids=str)
def test_without_depth_it_is_rein(options: dict[str, Any]) -> None:
    rein, method = drawn(Rein, **options), fresh(DepthForge, **options)
    method.load_state_dict(rein.state_dict())
    x = tokens(1)
    for layer in range(SPEC.blocks):
        assert torch.equal(method.refine(x, layer, torch.zeros_like(x)), rein.refine(x, layer))
        assert not torch.equal(method.refine(x, layer, tokens(2)), rein.refine(x, layer))
    assert torch.equal(method.queries().position_QC, rein.queries().position_QC)


def test_queries_are_rein_s() -> None:
    method = drawn(DepthForge)
    p = arrays(method)
    banks = np.stack([bank(p, "", layer) for layer in range(SPEC.blocks)])
    np.testing.assert_allclose(method.queries().position_QC.detach().numpy(), linked(p, banks), rtol=0, atol=1e-10)
    assert method.queries().replace_content
    assert fresh(DepthForge, replace(SPEC, linked=False)).queries() is None


# --- Other widths


@pytest.mark.parametrize(("depth_width", "width"), [(10, 16), (24, 16), (3, 40), (96, 95)])
def test_alignment_is_orthonormal_and_always_the_same(depth_width: int, width: int) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    P = alignment_matrix(depth_width, width)
    assert torch.equal(torch.get_rng_state(), before), "no draw from the adapter's stream"
    assert P.shape == (depth_width, width)
    gram = P @ P.T if depth_width < width else P.T @ P
    torch.testing.assert_close(gram, torch.eye(min(depth_width, width), dtype=torch.float64), rtol=0, atol=1e-12)
    torch.manual_seed(6)
    assert torch.equal(alignment_matrix(depth_width, width), P)
    long, short = max(depth_width, width), min(depth_width, width)
    drawn_from = torch.randn(long, short, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = (P if depth_width > width else P.T).T @ drawn_from
    torch.testing.assert_close(r, r.triu(), rtol=0, atol=1e-12)
    assert (r.diagonal() > 0).all()


def test_alignment_is_a_buffer_that_is_neither_trained_nor_saved() -> None:
    method = DepthForge(NARROW, DepthForge.Options.make({}))
    assert dict(method.named_buffers())["alignment"].shape == (10, 16)
    assert "alignment" not in method.state_dict()
    assert torch.equal(method.double().alignment, alignment_matrix(10, 16)), "kept in float64"
    assert not list(fresh(DepthForge).buffers()), "equal widths need none"
    with torch.device("meta"):
        assert DepthForge(NARROW, DepthForge.Options.make({})).alignment.is_meta


# --- The module on the feature maps


def conv(x_DHW: Array, weight: Array, bias: Array) -> Array:
    """A convolution with zero padding, as a sum over the kernel's places."""
    _, _, k, _ = weight.shape
    height, width = x_DHW.shape[1:]
    padded = np.pad(x_DHW, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((len(weight), height, width)) + bias[:, None, None]
    for i in range(k):
        for j in range(k):
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + height, j : j + width])
    return out


def sigmoid(x: Array) -> Array:
    out: Array = 1 / (1 + np.exp(-x))
    return out


def test_map_refinement() -> None:
    method = drawn(DepthForge, replace(SPEC, width=32, depth_width=32), refine_maps=True)
    p = {name: value * 0.3 for name, value in arrays(method).items()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.mul_(0.3)
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 32, 16 // f, 24 // f, generator=generator, dtype=torch.float64) for f in (1, 2, 4, 8)]
    out = method.pyramid(maps)
    assert all(ours is given for ours, given in zip(out[1:], maps[1:], strict=True))
    for image in range(2):
        gated = []
        for x_BDHW in maps:
            x = nn.functional.interpolate(x_BDHW, size=(16, 24), mode="bilinear", align_corners=False)[image].numpy()
            hidden = np.maximum(conv(x, *layer(p, "channels.0")), 0)
            x = x * sigmoid(conv(hidden, *layer(p, "channels.2")))
            gated.append(x * sigmoid(conv(x, *layer(p, "pixels"))))
        expected = maps[0][image].numpy() + conv(np.concatenate(gated), *layer(p, "merge"))
        np.testing.assert_allclose(out[0][image].detach().numpy(), expected, rtol=0, atol=1e-9)


def layer(p: dict[str, Array], name: str) -> tuple[Array, Array]:
    return p[f"refinement.{name}.weight"], p[f"refinement.{name}.bias"]


def test_maps_pass_untouched_by_default_and_all_of_the_module_trains() -> None:
    maps = [torch.randn(1, 32, side, side, dtype=torch.float64) for side in (16, 8, 4, 2)]
    assert fresh(DepthForge).pyramid(maps) is maps
    method = drawn(DepthForge, replace(SPEC, width=32, depth_width=32), refine_maps=True)
    sum(x.square().mean() for x in method.pyramid(maps)).backward()
    got = {name for name, p in method.named_parameters() if p.grad is not None}
    assert got == {name for name, _ in method.named_parameters() if name.startswith("refinement.")}


# --- Traits


def test_samples_gradients_and_bf16() -> None:
    for spec in (SPEC, NARROW, WIDE):
        assert_samples_stay_apart(drawn(DepthForge, spec), depth=True)
        assert without_gradient(drawn(DepthForge, spec), depth=True) == set()
        assert_works_in_bf16(partial(fresh, DepthForge, spec), depth=True)
    assert without_gradient(drawn(DepthForge, replace(SPEC, linked=False)), depth=True) == set()
    assert DepthForge.Options.make({}).needs_depth


# --- Reading a released state dict


def released(rank: int = 2, scale: bool = True) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    d, q, m, blocks = SPEC.width, SPEC.query_width, SPEC.queries, SPEC.blocks
    shapes = {"learnable_tokens_a": (blocks, m, rank), "learnable_tokens_b": (blocks, rank, d)}
    shapes = shapes if rank else {"learnable_tokens": (blocks, m, d)}
    shapes |= {"scale": ()} if scale else {}
    for name, out, into in (("mlp_token2feat", d, d), ("mlp_delta_f", d, d), ("transform", q, d), ("merge", q, 3 * q)):
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    return {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}


@pytest.mark.parametrize(("rank", "scale"), [(2, True), (0, True), (2, False), (0, False)])
def test_from_released(rank: int, scale: bool) -> None:
    state = released(rank, scale)
    method = DepthForge.from_released(state, SPEC).double()
    assert isinstance(method, DepthForge)
    assert (method.options.name, method.options.rank, method.options.zero_init) == ("depthforge", rank, not scale)
    f, g = tokens(1), tokens(2)
    T = state["learnable_tokens_a"] @ state["learnable_tokens_b"] if rank else state["learnable_tokens"]
    for i in range(SPEC.blocks):
        S = ((f + g) @ T[i].T / SPEC.width**0.5).softmax(-1)[..., 1:]
        V = T[i, 1:] @ state["mlp_token2feat.weight"].T + state["mlp_token2feat.bias"]
        delta = (S @ V + f) @ state["mlp_delta_f.weight"].T + state["mlp_delta_f.bias"]
        expected = f + (state["scale"] if scale else 1) * delta
        torch.testing.assert_close(method.refine(f, i, g), expected, rtol=0, atol=1e-9)
    assert method.queries() is not None
    assert DepthForge.from_released(state, replace(SPEC, linked=False)).queries() is None


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "merge.bias"}, {}, "DepthForge.*missing.*merge.bias"),
        (lambda s: s | {"cls_token": torch.zeros(1)}, {}, "unknown.*cls_token"),
        (lambda s: {}, {}, "missing.*learnable_tokens"),
        (lambda s: {f"backbone.depthforge.{k}": v for k, v in s.items()}, {}, "strip 'backbone.depthforge.' from its"),
        (lambda s: s | {"transform.bias": torch.zeros(5)}, {}, r"transform.bias is \(5,\)"),
        (lambda s: {k: v[:2] if "learnable" in k else v for k, v in s.items()}, {}, r"tokens_a is \(2, 5, 2\)"),
        (lambda s: s, {"refine_maps": True}, "refinement.*nothing in the released state"),
        (lambda s: s, {"rnk": 2}, "unknown option depthforge.rnk"),
        (lambda s: s, {"rank": -1}, "depthforge.rank=-1"),
        (lambda s: s, {"rank": 3}, "depthforge.rank would have to be 2"),
    ],
)
def test_a_defective_released_state_is_a_clear_error(change: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DepthForge.from_released(change(released()), replace(SPEC, width=16), **options)


def test_all_blocks_together() -> None:
    method = drawn(DepthForge, scale_init=0.1)
    assert not torch.equal(refined(method, tokens(1), tokens(2)), refined(method, tokens(1), tokens(3)))
