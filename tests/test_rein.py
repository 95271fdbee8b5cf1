"""REIN against its equations, one token at a time, and the reading of its released states."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

from methods.base import EncoderSpec
from methods.parts import Standardise, low_rank_update, token_update
from methods.rein import Rein
from tests.models import SPEC


def drawn(spec: EncoderSpec = SPEC, **options: Any) -> Rein:
    """A method with every parameter drawn anew, in float64."""
    torch.manual_seed(0)
    method = Rein(spec, Rein.Options.make({"rank": 2} | options)).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.7)
    return method


def by_hand(state: dict[str, Tensor], layer: int, x_BND: Tensor) -> np.ndarray:
    """The sheet's section 3 from released tensors."""
    p = {name: tensor.detach().double().numpy() for name, tensor in state.items()}
    full = "learnable_tokens" in p
    T = p["learnable_tokens"][layer] if full else p["learnable_tokens_a"][layer] @ p["learnable_tokens_b"][layer]
    out = x_BND.numpy().copy()
    for index in np.ndindex(out.shape[:2]):
        f = out[index].copy()
        weights = softmax(T @ f / math.sqrt(len(f)))
        u = np.zeros_like(f)
        for t in range(1, len(T)):  # token 0 takes its share and gives nothing
            u += weights[t] * (p["mlp_token2feat.weight"] @ T[t] + p["mlp_token2feat.bias"])
        out[index] += p.get("scale", 1.0) * (p["mlp_delta_f.weight"] @ (u + f) + p["mlp_delta_f.bias"])
    return out


def released(full_rank: bool, zero: bool) -> dict[str, Tensor]:
    """A state under the released names, with random values."""
    generator = torch.Generator().manual_seed(3)
    m, r, d, q, L = SPEC.queries, 2, SPEC.width, SPEC.query_width, SPEC.blocks
    shapes = {"learnable_tokens": (L, m, d)} if full_rank else {}
    shapes |= {} if full_rank else {"learnable_tokens_a": (L, m, r), "learnable_tokens_b": (L, r, d)}
    shapes |= {} if zero else {"scale": ()}
    for name, out, into in (("mlp_token2feat", d, d), ("mlp_delta_f", d, d), ("transform", q, d), ("merge", q, 3 * q)):
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize("full_rank", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_a_released_state_computes_the_equations(full_rank: bool, zero: bool, linked: bool) -> None:
    state, spec = released(full_rank, zero), replace(SPEC, linked=linked)
    method = Rein.from_released(state, spec)
    assert (method.options.rank, method.options.zero_init) == (0 if full_rank else 2, zero)
    x = torch.randn(2, 5, SPEC.width, dtype=torch.float64)
    for layer in range(SPEC.blocks):
        np.testing.assert_allclose(method.refine(x, layer).detach(), by_hand(state, layer, x), rtol=0, atol=1e-10)
    if not linked:
        assert method.queries() is None
        bare = {name: tensor for name, tensor in state.items() if not name.startswith(("transform", "merge"))}
        again = Rein.from_released(bare, spec)
        assert torch.equal(again.refine(x, 1), method.refine(x, 1)), "the link's tensors may be there or not"
        return
    T = state["learnable_tokens"] if full_rank else state["learnable_tokens_a"] @ state["learnable_tokens_b"]
    E = T @ state["transform.weight"].T + state["transform.bias"]
    statistics = torch.stack([E.amax(0), E.mean(0), E[-1]], dim=-1).flatten(1)
    expected = statistics @ state["merge.weight"].T + state["merge.bias"]
    torch.testing.assert_close(method.queries().position_QC, expected, rtol=0, atol=1e-10)
    assert method.queries().replace_content


@pytest.mark.parametrize(("rank", "fan"), [(2, math.sqrt(SPEC.width * 2)), (0, SPEC.width)])
def test_tokens_start_within_the_published_bound(rank: int, fan: float) -> None:
    method = Rein(replace(SPEC, queries=400), Rein.Options.make({"rank": rank}))
    bound = math.sqrt(6 / (3 * SPEC.patch_size**2 + fan))
    for tokens in [method.tokens_a, method.tokens_b] if rank else [method.tokens]:
        assert tokens.abs().max() <= bound
        assert tokens.abs().mean().item() == pytest.approx(bound / 2, rel=0.3)


def test_compiled_agrees_with_eager() -> None:
    torch._dynamo.reset()
    method, results = drawn(), []
    for refine in (method.refine, torch.compile(method.refine, backend="aot_eager")):
        method.zero_grad()
        x = torch.randn(2, 5, SPEC.width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        x.requires_grad_()
        out = refine(x, 1)
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(p.grad for p in method.parameters() if p.grad is not None)])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


RELEASED = {
    "learnable_tokens_a": torch.zeros(3, 4, 2),
    "learnable_tokens_b": torch.zeros(3, 2, 8),
    "scale": torch.tensor(0.1),
    **{f"{n}.weight": torch.zeros(8, 8) for n in ("mlp_token2feat", "mlp_delta_f")},
    **{f"{n}.bias": torch.zeros(8) for n in ("mlp_token2feat", "mlp_delta_f")},
    **{"transform.weight": torch.zeros(6, 8), "transform.bias": torch.zeros(6)},
    **{"merge.weight": torch.zeros(6, 18), "merge.bias": torch.zeros(6)},
}


def test_what_is_no_released_state_is_a_clear_error() -> None:
    assert Rein.from_released(RELEASED, SPEC).options.rank == 2
    without = {name: tensor for name, tensor in RELEASED.items() if name != "merge.bias"}
    for state, options, words in (
        (without, {}, "missing.*merge.bias"),
        ({}, {}, "missing.*learnable_tokens"),
        (RELEASED | {"cls": torch.zeros(1)}, {}, "unknown.*cls"),
        (RELEASED | {"merge.bias": torch.zeros(5)}, {}, r"merge.bias is \(5,\)"),
        (RELEASED, {"rnk": 2}, "unknown option rein.rnk"),
    ):
        with pytest.raises(ValueError, match=words):
            Rein.from_released(state, SPEC, **options)


@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("standardise", ["nothing", "logits", "weights"])
def test_products_through_the_ranks_are_those_of_the_tokens(standardise: Standardise, sink: bool) -> None:
    torch.manual_seed(1)
    x_BND, a_TR, b_RD = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 7, 24), (9, 3), (3, 24)))
    value = torch.nn.Linear(24, 24).double()
    found, gradients = [], []
    for low_rank in (True, False):
        factors = [part.clone().requires_grad_() for part in (x_BND, a_TR, b_RD)]
        query, a, b = factors
        if low_rank:
            update = low_rank_update(query, a, b, value, standardise, sink)
        else:
            update = token_update(query, a @ b, value, standardise, sink)
        found.append(update)
        gradients.append(torch.autograd.grad(update.square().sum(), [*factors, *value.parameters()]))
    assert torch.allclose(*found, rtol=1e-10, atol=1e-12)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-9)
