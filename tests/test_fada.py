"""FADA against its equations, written out once more cell by cell and patch by patch, and its documented traits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from methods.fada import Fada, haar, inverse_haar
from methods.parts import token_update
from tests.adapters import (
    GRIDS,
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


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        (VIT_L, {}, 5_597_697),
        (SAM_H, {}, 8_599_041),
        (VIT_L, {"order": "paper"}, 5_597_697),
        (replace(VIT_L, linked=False), {}, 5_597_697 - LINK["vit_l"]),
    ],
)
def test_counts(spec: Any, options: dict[str, Any], expected: int) -> None:
    assert counted(Fada, spec, **options) == (expected, expected)


# --- The transform


def test_haar_of_one_cell() -> None:
    a, b, c, e = 1.0, 10.0, 100.0, 1000.0
    low, high = haar(torch.tensor([[a, b], [c, e]])[None, ..., None])
    assert low.flatten().tolist() == [(a + b + c + e) / 2]
    assert high.flatten().tolist() == [(b - a + e - c) / 2, (c + e - a - b) / 2, (a - b - c + e) / 2]


def test_haar_is_the_correlation_with_the_kernels() -> None:
    x = tokens(1, (4, 6)).unflatten(1, (4, 6))
    first, second = torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / 2**0.5
    kernels = [torch.outer(v, h) for v, h in ((first, first), (first, second), (second, first), (second, second))]
    maps = x.permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    bands = nn.functional.conv2d(maps, torch.stack(kernels)[:, None], stride=2)
    low, high = haar(x)
    ours = torch.stack([low, *high.chunk(3, dim=1)], dim=1)  # [B, 4, n, D]
    expected = bands.unflatten(0, (2, -1)).flatten(3).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)


def test_haar_is_orthonormal_and_its_inverse_undoes_it() -> None:
    basis = torch.eye(24, dtype=torch.float64).unflatten(1, (4, 6))[..., None]
    low, high = haar(basis)
    matrix = torch.cat([low, high], dim=1)[..., 0]
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(24, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(inverse_haar(low, high, 2), basis, rtol=0, atol=1e-15)
    x = tokens(1).unflatten(1, SPEC.grid)
    torch.testing.assert_close(inverse_haar(*haar(x), 2), x, rtol=0, atol=1e-14)


# --- The equations


def normalised(z: Array, eps: float) -> Array:
    out: Array = (z - z.mean()) / np.sqrt(z.var() + eps)
    return out


def as_code(z: Array) -> Array:
    """Normalise the raw logits, divide by sqrt(D), softmax; given are logits already over sqrt(D)."""
    weights: Array = softmax(normalised(z * np.sqrt(SPEC.width), 1e-5) / np.sqrt(SPEC.width))
    return weights


def as_paper(z: Array) -> Array:
    return normalised(softmax(z), 1e-12)


def by_hand(method: Fada, x_ND: Array, layer: int, grid: tuple[int, int]) -> Array:
    p, (rows, columns) = arrays(method), grid
    paper = method.options.order == "paper"
    padded = x_ND.reshape(rows, columns, -1)
    mode = ["edge" if side == 1 else "reflect" for side in grid]
    padded = np.pad(padded, ((0, rows % 2), (0, 0), (0, 0)), mode=mode[0])
    padded = np.pad(padded, ((0, 0), (0, columns % 2), (0, 0)), mode=mode[1])
    cells = [(i, j) for i in range(0, len(padded), 2) for j in range(0, padded.shape[1], 2)]
    bands: list[list[Array]] = [[], [], [], []]
    for i, j in cells:
        a, b, c, e = padded[i, j], padded[i, j + 1], padded[i + 1, j], padded[i + 1, j + 1]
        values = ((a + b + c + e) / 2, (b - a + e - c) / 2, (c + e - a - b) / 2, (a - b - c + e) / 2)
        for band, value in zip(bands, values, strict=True):
            band.append(value)
    low, high = np.stack(bands[0]), np.concatenate([np.stack(band) for band in bands[1:]])
    skip = 0 if paper else 1
    low = low + p["scale"] * token_delta(p, "low.", layer, low, skip=skip)
    weigh = as_paper if paper else as_code
    high = high + p["scale"] * token_delta(p, "high.", layer, high, weigh=weigh, skip=skip)
    out = np.empty_like(padded)
    for n, (i, j) in enumerate(cells):
        ll, lh, hl, hh = low[n], *(high[n + band * len(cells)] for band in range(3))
        out[i, j], out[i, j + 1] = (ll - lh - hl + hh) / 2, (ll + lh - hl - hh) / 2
        out[i + 1, j], out[i + 1, j + 1] = (ll - lh + hl - hh) / 2, (ll + lh + hl + hh) / 2
    return out[:rows, :columns].reshape(rows * columns, -1)


@pytest.mark.parametrize("order", ["code", "paper"])
@pytest.mark.parametrize("grid", GRIDS)
def test_equations(order: str, grid: tuple[int, int]) -> None:
    method = drawn(Fada, order=order)
    method.grid = grid
    x = tokens(1, grid)
    for layer in (0, 2):
        out = method.refine(x, layer).detach().numpy()
        for image in range(len(x)):
            np.testing.assert_allclose(out[image], by_hand(method, x[image].numpy(), layer, grid), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grid", [*GRIDS, (37, 37)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_at_scale_0_the_tokens_come_back_exactly(grid: tuple[int, int], dtype: torch.dtype) -> None:
    for order in ("code", "paper"):
        method = drawn(Fada, scale_init=0.0, order=order).to(dtype)
        nn.init.zeros_(method.scale)
        method.grid = grid
        x = tokens(1, grid).to(dtype)
        assert torch.equal(refined(method, x), x)


class Units(nn.Module):
    """In place of the value layer: token t becomes unit vector t, so that the update is the weights themselves."""

    def forward(self, tokens_TD: torch.Tensor) -> torch.Tensor:
        return torch.eye(len(tokens_TD))


def test_paper_order_keeps_its_branch_alive_where_attention_is_nearly_uniform() -> None:
    """At full size the variance of 300 softmax weights is about 1e-9: rows must still come out at unit deviation."""
    torch.manual_seed(0)
    method = Fada(replace(SPEC, width=1024, blocks=1, queries=100, patch_size=16), Fada.Options.make({}))
    x, bank_TD = torch.randn(1, 24, 1024), method.high.bank()[0].detach()
    plain = token_update(x, bank_TD, Units(), sink=False).double()
    assert 1e-10 < plain.var(-1).mean() < 1e-8
    weights = token_update(x, bank_TD, Units(), standardise="weights", sink=False)
    torch.testing.assert_close(weights.std(-1, correction=0), torch.ones(1, 24), rtol=0, atol=2e-3)
    torch.testing.assert_close(weights.sum(-1), torch.zeros(1, 24), rtol=0, atol=1e-2)


@pytest.mark.parametrize("standardise", ["nothing", "logits"])
def test_softmax_runs_in_fp32(standardise: Any) -> None:
    x, bank_TD = tokens(1, width=16).bfloat16(), tokens(2, (10, 10), count=1, width=16)[0].bfloat16()
    weights = token_update(x, bank_TD, Units(), standardise=standardise, sink=False)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 24), rtol=0, atol=1e-6)


def test_code_order_is_nearly_a_mean_token_at_full_size() -> None:
    torch.manual_seed(0)
    weights = token_update(torch.randn(1, 50, 1024), torch.randn(100, 1024), Units(), standardise="logits", sink=False)
    assert 0.0085 < weights.min() < 0.0095
    assert 0.0105 < weights.max() < 0.0115


def test_queries_come_from_the_low_tokens() -> None:
    method = drawn(Fada)
    p = arrays(method)
    queries = method.queries()
    banks = np.stack([bank(p, "low.", layer) for layer in range(SPEC.blocks)])
    np.testing.assert_allclose(queries.position_QC.detach().numpy(), linked(p, banks), rtol=0, atol=1e-10)
    assert queries.replace_content
    assert queries.position_QC.shape == (SPEC.queries, SPEC.query_width)
    assert fresh(Fada, replace(SPEC, linked=False)).queries() is None


# --- Traits


@pytest.mark.parametrize("order", ["code", "paper"])
def test_samples_gradients_and_bf16(order: str) -> None:
    assert_samples_stay_apart(drawn(Fada, order=order))
    assert_works_in_bf16(partial(fresh, Fada, order=order))
    assert_works_in_bf16(partial(fresh, Fada, replace(SPEC, grid=(5, 7)), order=order))


def test_gradients_reach_every_tensor() -> None:
    assert without_gradient(drawn(Fada)) == set(fresh(Fada).may_be_unused) == set()
    assert without_gradient(drawn(Fada, replace(SPEC, linked=False))) == set()


def test_nothing_but_the_declared_tensors_is_kept_or_trained() -> None:
    method = fresh(Fada)
    assert not list(method.buffers()), "the wavelet has no tensor that could be trained by mistake"
    assert set(method.state_dict()) == {name for name, _ in method.named_parameters()}
    assert {tuple(t.shape) for n, t in method.named_parameters() if n.endswith("tokens_a")} == {(3, 5, 16), (3, 15, 16)}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rank": 0}, "fada.rank=0"), ({"order": "papr"}, "fada.order=papr"), ({"preset": "x"}, "fada.preset=x")],
    ids=str,
)
def test_wrong_options_are_clear_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fada.Options.make(options)
