"""SET against its equations, computed once more by sums over bins and loops over patches, and its documented traits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from methods.set import Set
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
        (VIT_L, {}, 5_520_897),
        (SAM_H, {}, 8_496_641),
        (VIT_L, {"residual": "inside"}, 5_520_897),
        (VIT_L, {"preset": "published_count"}, 6_130_690),
        (SAM_H, {"preset": "published_count"}, 9_209_602),
        (replace(VIT_L, linked=False), {}, 5_520_897 - LINK["vit_l"]),
        (replace(VIT_L, linked=False), {"match_count": True}, 6_130_690 - 2 * LINK["vit_l"]),
    ],
)
def test_counts(spec: Any, options: dict[str, Any], expected: int) -> None:
    assert counted(Set, spec, **options) == (expected, expected)


# --- The transform


def by_sums(x_ND: Array, grid: tuple[int, int], sign: int) -> Array:
    """The orthonormal transform over space as a sum over all pairs of places and bins."""
    rows, columns = grid
    places = [(i, j) for i in range(rows) for j in range(columns)]
    kernel = np.array([[u * i / rows + v * j / columns for i, j in places] for u, v in places])
    spectrum: Array = np.exp(sign * 2j * np.pi * kernel) @ x_ND / np.sqrt(rows * columns)
    return spectrum


def decomposed(x_ND: Array, grid: tuple[int, int]) -> tuple[Array, Array]:
    """Amplitude and phase with the sheet's floors."""
    z = by_sums(x_ND, grid, -1)
    re, im = z.real.copy(), z.imag.copy()
    for k in range(len(z)):
        u, v = divmod(k, grid[1])
        if u in (0, grid[0] / 2) and v in (0, grid[1] / 2):
            im[k] = 0
    amplitude = np.sqrt(np.maximum(re**2 + im**2, 1e-5))
    re[np.abs(re) < 1e-5] = 1e-5
    return amplitude, np.arctan2(im, re)


def recomposed(amplitude: Array, phase: Array, grid: tuple[int, int]) -> Array:
    real: Array = by_sums(amplitude * np.exp(1j * phase), grid, 1).real
    return real


@pytest.mark.parametrize("grid", GRIDS)
def test_decomposition_and_its_inverse(grid: tuple[int, int]) -> None:
    method = fresh(Set)
    method.grid = grid
    x = tokens(1, grid)
    amplitude, phase = method.decompose(x)
    for image in range(len(x)):
        for ours, expected in zip((amplitude, phase), decomposed(x[image].numpy(), grid), strict=True):
            np.testing.assert_allclose(ours[image].numpy(), expected, rtol=0, atol=1e-10)
    y = method.recompose(amplitude, phase)
    np.testing.assert_allclose(
        y[0].numpy(), recomposed(amplitude[0].numpy(), phase[0].numpy(), grid), rtol=0, atol=1e-12
    )
    # exact, because no bin of this input lies under a floor
    torch.testing.assert_close(y, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip_with_floors_is_within_their_size(dtype: torch.dtype) -> None:
    method = fresh(Set, replace(SPEC, grid=(24, 24)))
    i = torch.arange(24, dtype=dtype)
    plain = torch.full((24, 24), 3.0, dtype=dtype)
    wave = torch.cos(2 * torch.pi * 5 * i / 24)[:, None] + torch.sin(2 * torch.pi * i / 3)[None]
    x = torch.stack([plain, wave, torch.zeros(24, 24, dtype=dtype)], dim=-1).reshape(1, 576, 3)
    amplitude, phase = method.decompose(x)
    # the sign of a tiny real part is lost: no empty bin points to the negative side
    empty = amplitude == amplitude.min()
    assert empty.float().mean() > 0.9
    assert (phase[empty].cos() > 0).all()
    error = (method.recompose(amplitude, phase) - x).abs().amax((0, 1))
    assert (error[:2] > 0).all(), "almost all bins of these inputs are empty"
    assert (amplitude[..., 2] == torch.tensor(1e-5, dtype=dtype).sqrt()).all()
    # every empty bin comes back as 3.2e-3: all of them together are an impulse of 24 times that at the first place
    assert (error <= 24 * 3.2e-3).all()
    assert (method.recompose(amplitude, phase) - x)[:, 1:].abs().median() < 1e-3


def test_own_conjugate_bins_have_phase_zero_or_plus_pi_whatever_the_rounding() -> None:
    for grid in ((24, 24), (6, 9), (7, 5)):
        method = fresh(Set, replace(SPEC, grid=grid))
        x = tokens(3, grid, count=8).float()
        phase = method.decompose(x)[1].unflatten(1, grid)
        rows = [u for u in (0, grid[0] / 2) if u == int(u)]
        columns = [v for v in (0, grid[1] / 2) if v == int(v)]
        own = torch.stack([phase[:, int(u), int(v)] for u in rows for v in columns])
        pi = torch.tensor(np.pi, dtype=torch.float32)
        assert ((own == 0) | (own == pi)).all()
        assert (own == 0).any()
        assert (own == pi).any()


# --- The equations


def standardised(z: Array) -> Array:
    """Softmax of standardised raw logits over sqrt(D); given are those already over sqrt(D)."""
    raw = z * np.sqrt(SPEC.width)
    weights: Array = softmax((raw - raw.mean()) / np.sqrt(raw.var() + 1e-5) / np.sqrt(SPEC.width))
    return weights


def by_hand(method: Set, x_ND: Array, layer: int, grid: tuple[int, int]) -> Array:
    p = arrays(method)
    amplitude, phase = decomposed(x_ND, grid)
    da = token_delta(p, "amplitude.", layer, amplitude, weigh=standardised)
    dt = token_delta(p, "phase.", layer, phase)
    s = p["scale"]
    if method.options.residual == "inside":
        return recomposed(amplitude + s * da, phase + s * dt, grid)
    return x_ND + s * recomposed(da, dt, grid)


@pytest.mark.parametrize("residual", ["outside", "inside"])
@pytest.mark.parametrize("grid", GRIDS)
def test_equations(residual: str, grid: tuple[int, int]) -> None:
    method = drawn(Set, residual=residual)
    method.grid = grid
    x = tokens(1, grid)
    for layer in (0, 2):
        out = method.refine(x, layer).detach().numpy()
        for image in range(len(x)):
            np.testing.assert_allclose(out[image], by_hand(method, x[image].numpy(), layer, grid), rtol=0, atol=1e-8)


def test_a_step_of_zero_changes_nothing() -> None:
    for options, exact in (({}, True), ({"residual": "inside"}, False), ({"match_count": True}, True)):
        method = drawn(Set, **options)
        nn.init.zeros_(method.scale)
        if method.options.match_count:
            nn.init.zeros_(method.amplitude_scale)
        y = method.refine(tokens(1), 1)
        assert torch.equal(y, tokens(1)) == exact
        torch.testing.assert_close(y, tokens(1), rtol=0, atol=1e-3)


def test_the_half_spectrum_would_not_do() -> None:
    method = drawn(Set)
    amplitude, phase = method.decompose(tokens(1))
    da, dt = method.amplitude(amplitude, 0, standardise="logits"), method.phase(phase, 0)
    full = method.recompose(da, dt)
    half = torch.polar(da.abs(), dt + torch.pi * (da < 0)).unflatten(1, SPEC.grid)[:, :, : SPEC.grid[1] // 2 + 1]
    short = torch.fft.irfft2(half, s=SPEC.grid, dim=(1, 2), norm="ortho").flatten(1, 2)
    assert (short - full).norm() / full.norm() > 0.1


def test_queries_come_from_the_phase_tokens() -> None:
    method = drawn(Set)
    p = arrays(method)
    queries = method.queries()
    banks = np.stack([bank(p, "phase.", layer) for layer in range(SPEC.blocks)])
    np.testing.assert_allclose(queries.position_QC.detach().numpy(), linked(p, banks), rtol=0, atol=1e-10)
    assert queries.replace_content
    assert fresh(Set, replace(SPEC, linked=False)).queries() is None
    assert not fresh(Set, replace_content=False).queries().replace_content


def test_the_inferred_build_starts_as_the_plain_one_and_says_that_it_is_inferred() -> None:
    plain, padded = fresh(Set), fresh(Set, preset="published_count")
    padded.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(padded.refine(tokens(1), 1), plain.refine(tokens(1), 1), rtol=0, atol=1e-12)
    assert (plain.options.port, padded.options.port) == ("from_paper", "inferred")
    assert Set.Options.make({"match_count": True}).port == "inferred", "also without the preset"
    with pytest.raises(ValueError, match="residual=outside"):
        Set.Options.make({"match_count": True, "residual": "inside"})


# --- Traits


CASES: list[dict[str, Any]] = [{}, {"residual": "inside"}, {"match_count": True}]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_samples_gradients_and_bf16(options: dict[str, Any]) -> None:
    assert_samples_stay_apart(drawn(Set, **options))
    assert without_gradient(drawn(Set, **options)) == set(fresh(Set).may_be_unused) == set()
    assert without_gradient(drawn(Set, replace(SPEC, linked=False), **options)) == set()
    assert_works_in_bf16(lambda: fresh(Set, scale_init=0.1, **options))


def test_gradients_are_those_of_the_function() -> None:
    """In particular where a changed amplitude is negative."""
    method = drawn(Set, replace(SPEC, grid=(2, 3)))
    assert (method.amplitude(method.decompose(tokens(1, (2, 3)))[0], 0, standardise="logits") < 0).any()
    names = ("amplitude.output.weight", "phase.tokens_b", "scale")

    def out(*values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(_Refine(method), {f"method.{n}": v for n, v in given.items()}, ())

    values = tuple(method.get_parameter(name).detach().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(out, values, fast_mode=True)


class _Refine(nn.Module):
    def __init__(self, method: Set) -> None:
        super().__init__()
        self.method = method

    def forward(self) -> torch.Tensor:
        return self.method.refine(tokens(1, (2, 3), count=1), 0)


def test_zeros_have_finite_gradients() -> None:
    method = fresh(Set)
    x = torch.zeros(1, 24, SPEC.width, dtype=torch.float64, requires_grad=True)
    refined(method, x).square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_tokens_that_do_not_fill_the_grid_are_a_clear_error() -> None:
    with pytest.raises(ValueError, match="set: 25 patch tokens do not fill a grid of 4 x 6"):
        fresh(Set).refine(tokens(1, (5, 5)), 0)


def test_a_map_in_place_of_tokens_sets_the_grid() -> None:
    method = drawn(Set, replace(SPEC, prefix_tokens=0))
    x = tokens(1, (6, 4))
    out, _ = method.adapt(x.unflatten(1, (6, 4)), 0, None)
    method.grid = (6, 4)
    torch.testing.assert_close(out.flatten(1, 2), method.refine(x, 0), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rank": 0}, "set.rank=0"), ({"residual": "insid"}, "set.residual=insid"), ({"rnk": 2}, "did you mean 'rank'")],
    ids=str,
)
def test_wrong_options_are_clear_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Set.Options.make(options)
