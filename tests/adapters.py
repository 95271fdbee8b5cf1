"""What the tests of token and frequency methods share: specs, drawn methods, and checks that hold for each of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from torch import Tensor

from methods.base import EncoderSpec, Method

Array = npt.NDArray[np.float64]
M = TypeVar("M", bound=Method)

VIT_L = EncoderSpec(
    blocks=24,
    width=1024,
    heads=16,
    patch_size=16,
    grid=(32, 32),
    prefix_tokens=5,
    feature_blocks=(7, 11, 15, 23),
    queries=100,
    query_width=256,
    depth_blocks=24,
    depth_width=1024,
    depth_grid=(32, 32),
)
SAM_H = replace(VIT_L, blocks=32, width=1280, prefix_tokens=0, feature_blocks=(7, 15, 23, 31))
LINK = {"vit_l": 262_400 + 196_864, "sam_h": 327_936 + 196_864}

SPEC = EncoderSpec(
    blocks=3,
    width=16,
    heads=2,
    patch_size=4,
    grid=(4, 6),
    prefix_tokens=2,
    feature_blocks=(0, 1, 2),
    queries=5,
    query_width=6,
    depth_blocks=3,
    depth_width=16,
    depth_grid=(4, 6),
)
"""A spec small enough for loops in plain Python."""

GRIDS = [(4, 6), (5, 6), (4, 7), (5, 7), (1, 4), (3, 1)]


def counted(cls: type[Method], spec: EncoderSpec, **options: Any) -> tuple[int, int]:
    """Trainable parameters as built on the meta device, and as the method declares them."""
    chosen = cls.Options.make(options)
    with torch.device("meta"):
        method = cls(spec, chosen)
    built = sum(
        p.numel()
        for name, p in method.named_parameters()
        if p.requires_grad and not name.startswith(tuple(f"{part}." for part in method.pyramid_parts))
    )
    return built, cls.expected_count(spec, chosen)


def fresh(cls: type[M], spec: EncoderSpec = SPEC, **options: Any) -> M:
    """A newly initialised method in float64."""
    torch.manual_seed(0)
    return cls(spec, cls.Options.make(options)).double().eval()


def drawn(cls: type[M], spec: EncoderSpec = SPEC, **options: Any) -> M:
    """A method with every parameter drawn anew, so that nothing is zero or nearly an identity."""
    method = fresh(cls, spec, **options)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.normal_(0, 0.7)
    return method


def tokens(seed: int, grid: tuple[int, int] = SPEC.grid, count: int = 2, width: int = SPEC.width) -> Tensor:
    """Patch tokens [count, N, width] in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, grid[0] * grid[1], width, dtype=torch.float64, generator=generator)


def arrays(method: Method) -> dict[str, Array]:
    """All parameters by name."""
    return {name: parameter.detach().numpy() for name, parameter in method.named_parameters()}


def refined(method: Method, x: Tensor, depth: Tensor | None = None) -> Tensor:
    """The tokens after all blocks."""
    for layer in range(method.spec.blocks):
        out = method.refine(x, layer, depth)
        x = out[0] if isinstance(out, tuple) else out
    return x


# --- REIN's token step, one patch and one token at a time


def bank(p: dict[str, Array], module: str, layer: int) -> Array:
    """Tokens [T, D] of a layer, from low-rank factors."""
    tokens_TD: Array = p[f"{module}tokens_a"][layer] @ p[f"{module}tokens_b"][layer]
    return tokens_TD


def token_delta(
    p: dict[str, Array],
    module: str,
    layer: int,
    x_ND: Array,
    weigh: Callable[[Array], Array] = softmax,
    skip: int = 1,
    query_ND: Array | None = None,
) -> Array:
    """W2 (sum_t w_t (W1 T_t + b1) + x) + b2, w = weigh(q T^T / sqrt(D)) with the first `skip` tokens left out."""
    T, out = bank(p, module, layer), np.empty_like(x_ND)
    for i, x in enumerate(x_ND):
        query = x if query_ND is None else query_ND[i]
        weights = weigh(np.array([query @ t for t in T]) / math.sqrt(len(x)))
        u = np.zeros_like(x)
        for t in range(skip, len(T)):
            u += weights[t] * (p[f"{module}token_to_feature.weight"] @ T[t] + p[f"{module}token_to_feature.bias"])
        out[i] = p[f"{module}output.weight"] @ (u + x) + p[f"{module}output.bias"]
    return out


def linked(p: dict[str, Array], banks_LTD: Array) -> Array:
    """Query positions [T, C]: max, mean and last over layers, side by side for each channel."""
    rows = []
    for token in range(banks_LTD.shape[1]):
        e_LC = banks_LTD[:, token] @ p["link.transform.weight"].T + p["link.transform.bias"]
        statistics = [s for c in e_LC.T for s in (c.max(), c.mean(), c[-1])]
        rows.append(p["link.merge.weight"] @ np.array(statistics) + p["link.merge.bias"])
    return np.stack(rows)


# --- Checks that hold for each method


def assert_samples_stay_apart(method: Method, depth: bool = False) -> None:
    """Each sample of a batch gives what it gives alone, in any order."""
    x = tokens(1, method.grid, count=3)
    g = tokens(2, method.grid, count=3, width=method.spec.depth_width) if depth else None
    with torch.no_grad():
        together = refined(method, x, g)
        for i in range(3):
            alone = refined(method, x[i : i + 1], None if g is None else g[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)
        turned = refined(method, x.flip(0), None if g is None else g.flip(0))
        torch.testing.assert_close(together, turned.flip(0), rtol=0, atol=1e-12)


def without_gradient(method: Method, depth: bool = False) -> set[str]:
    """Names of parameters that one pass through all blocks, with the queries, leaves without a gradient tensor."""
    method.train().zero_grad()
    g = tokens(2, method.grid, width=method.spec.depth_width) if depth else None
    total = refined(method, tokens(1, method.grid), g).square().sum()
    queries = method.queries()
    if queries is not None:
        total = total + queries.position_QC.square().sum()
    total.backward()
    for name, parameter in method.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.any(), f"{name}: a gradient of zeros"
    return {name for name, parameter in method.named_parameters() if parameter.grad is None}


def assert_works_in_bf16(make: Callable[[], Method], depth: bool = False) -> None:
    """Under autocast, and as a module in bf16: finite gradients, values near those in fp32."""
    exact = make().float()
    x = tokens(1, exact.grid).float()
    g = tokens(2, exact.grid, width=exact.spec.depth_width).float() if depth else None
    expected = refined(exact, x, g)
    for tokens_in, cast in ((x, False), (x.bfloat16(), False), (x.bfloat16(), True)):
        method = make().to(torch.bfloat16 if cast else torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=not cast):
            out = tokens_in
            for layer in range(method.spec.blocks):
                out, _ = method.adapt(_prefixed(out, method), layer, None if g is None else g.to(tokens_in.dtype))
                out = out[:, method.spec.prefix_tokens :]
        assert out.dtype == tokens_in.dtype
        out.float().square().mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
        assert (out.float() - expected).norm() / expected.norm() < 0.05


def _prefixed(x_BND: Tensor, method: Method) -> Tensor:
    return torch.cat([x_BND.new_zeros(len(x_BND), method.spec.prefix_tokens, x_BND.shape[-1]), x_BND], dim=1)
