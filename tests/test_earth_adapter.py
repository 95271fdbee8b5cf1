"""Earth-Adapter against its equations, its frequency split against shifted masks, and its two parameter counts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from methods.earth_adapter import EarthAdapter, half_width
from tests.adapters import (
    GRIDS,
    SAM_H,
    SPEC,
    VIT_L,
    Array,
    arrays,
    assert_samples_stay_apart,
    assert_works_in_bf16,
    counted,
    drawn,
    fresh,
    refined,
    tokens,
    without_gradient,
)

TINY = {"dim": 4, "fft_layers": "1,2"}
VIT_S, VIT_B = replace(VIT_L, blocks=12, width=384), replace(VIT_L, blocks=12, width=768)


# --- Counts


@pytest.mark.parametrize(
    ("dim", "registered", "six", "three"),
    [
        (16, 2_508_000, 1_235_562, 1_023_489),
        (24, 3_688_224, 1_825_674, 1_515_249),
        (32, 4_868_448, 2_415_786, 2_007_009),
        (64, 9_589_344, 4_776_234, 3_974_049),
    ],
)
def test_registered_and_reachable_counts(dim: int, registered: int, six: int, three: int) -> None:
    for layers, reachable in (("last:6", six), ("first:6", six), ("21-23", three), ("0-2", three)):
        options = {"dim": dim, "fft_layers": layers}
        assert counted(EarthAdapter, VIT_L, **options) == (registered, registered)
        assert counted(EarthAdapter, VIT_L, **options, allocate_unused=False) == (reachable, reachable)
        for allocate_unused in (True, False):
            chosen = EarthAdapter.Options.make({**options, "allocate_unused": allocate_unused})
            assert EarthAdapter.reachable_count(VIT_L, chosen) == reachable


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        (VIT_L, {}, 9_589_344),
        (VIT_S, {}, 1_799_472),
        (VIT_B, {}, 3_596_592),
        (SAM_H, {}, 32 * (3 * (2 * 1280 * 64 + 64 + 1280) + 3 * 1280 + 3 + 1)),
        (replace(VIT_L, linked=False), {}, 9_589_344),
        (VIT_L, {"fft_layers": "none"}, 24 * (132_160 + 1)),
        (VIT_L, {"fft_layers": "none", "allocate_unused": False}, 24 * (132_160 + 1)),
        (VIT_L, {"preset": "potsdam2vaihingen"}, 3_688_224),
    ],
)
def test_other_counts(spec: Any, options: dict[str, Any], expected: int) -> None:
    assert counted(EarthAdapter, spec, **options) == (expected, expected)


# --- Where the frequency experts act


@pytest.mark.parametrize(
    ("given", "blocks", "expected"),
    [
        ("last:6", 24, [*range(18, 24)]),
        ("first:3", 24, [0, 1, 2]),
        ("last:6", 4, [0, 1, 2, 3]),
        ("last:0", 4, []),
        ("0-2,23", 24, [0, 1, 2, 23]),
        ("5,1-2,2", 6, [1, 2, 5]),
        ([18, 19, 20, 21, 22, 23], 24, [*range(18, 24)]),
        (range(3), 24, [0, 1, 2]),
        ((), 24, []),
        (7, 24, [7]),
        ("all", 3, [0, 1, 2]),
        ("none", 3, []),
    ],
    ids=str,
)
def test_fft_layers(given: Any, blocks: int, expected: list[int]) -> None:
    options = EarthAdapter.Options.make({"fft_layers": given})
    assert list(options.fft_blocks(blocks)) == expected
    assert EarthAdapter.Options.make({"fft_layers": options.fft_layers}) == options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fft_layers": "last six"}, "earth_adapter.fft_layers=last six: write last:6"),
        ({"fft_layers": ""}, "earth_adapter.fft_layers=: write"),
        ({"fft_layers": "3"}, "blocks are 0 to 2"),
        ({"fft_layers": "2-1"}, "ranges go upwards"),
        ({"adapter_layers": "3"}, "earth_adapter.adapter_layers=3: the encoder's blocks are 0 to 2"),
        ({"adapter_layers": "some"}, "earth_adapter.adapter_layers=some: write"),
        ({"rho": 1.5}, "earth_adapter.rho=1.5"),
        ({"rho": -0.1}, "earth_adapter.rho=-0.1"),
        ({"dim": 0}, "earth_adapter.dim=0"),
        ({"fft_layer": "all"}, "did you mean 'fft_layers'"),
        ({"preset": "r2u"}, "earth_adapter.preset=r2u"),
    ],
    ids=str,
)
def test_wrong_options_are_clear_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EarthAdapter(SPEC, EarthAdapter.Options.make(options))


# --- The frequency split


@pytest.mark.parametrize(
    ("side", "rho", "expected"),
    [(32, 0.2, 3), (32, 0.3, 4), (37, 0.2, 3), (37, 0.3, 5), (64, 0.2, 6), (64, 0.3, 9)],
)
def test_half_width_of_the_mask(side: int, rho: float, expected: int) -> None:
    assert half_width((side, side), rho) == expected
    assert half_width((side, 2 * side), rho) == half_width((2 * side, side), rho) == expected


def split_by_shifts(x_ND: Array, grid: tuple[int, int], rho: float) -> tuple[Array, Array]:
    """Both bands by masks around the centre of a shifted spectrum."""
    (rows, columns), c = grid, int(min(grid) * rho // 2)
    mask = np.zeros((rows, columns, 1))
    mask[rows // 2 - c : rows // 2 + c, columns // 2 - c : columns // 2 + c] = 1
    spectrum = np.fft.fftshift(np.fft.fft2(x_ND.reshape(rows, columns, -1), axes=(0, 1), norm="ortho"), axes=(0, 1))
    bands = []
    for kept in (mask * spectrum, (1 - mask) * spectrum):
        place = np.fft.ifft2(np.fft.ifftshift(kept, axes=(0, 1)), axes=(0, 1), norm="ortho")
        bands.append(place.real.reshape(rows * columns, -1))
    return bands[0], bands[1]


SPLITS = [*((grid, 0.6) for grid in GRIDS), ((8, 12), 0.3), ((9, 7), 0.5), ((32, 32), 0.2), ((37, 37), 0.3)]
SPLITS += [((4, 6), 0.0), ((4, 4), 1.0), ((5, 7), 1.0)]


@pytest.mark.parametrize(("grid", "rho"), SPLITS)
def test_split(grid: tuple[int, int], rho: float) -> None:
    method = fresh(EarthAdapter, rho=rho, **TINY)
    method.grid = grid
    x = tokens(1, grid)
    low, high = method.split(x)
    torch.testing.assert_close(low + high, x, rtol=0, atol=1e-14)
    for image in range(2):
        for ours, expected in zip((low, high), split_by_shifts(x[image].numpy(), grid, rho), strict=True):
            np.testing.assert_allclose(ours[image].numpy(), expected, rtol=0, atol=1e-12)


def test_split_runs_in_fp32_and_keeps_the_mean_low() -> None:
    method = fresh(EarthAdapter, replace(SPEC, grid=(32, 32)), **TINY)
    x = tokens(1, (32, 32)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        low, high = method.split(x)
    assert low.dtype == high.dtype == torch.float32
    torch.testing.assert_close(low + high, x.float(), rtol=0, atol=5e-7)
    torch.testing.assert_close(low.mean(1), x.float().mean(1), rtol=0, atol=1e-6)
    torch.testing.assert_close(high.mean(1), torch.zeros_like(high[:, 0]), rtol=0, atol=1e-6)


# --- The equations


def expert(p: dict[str, Array], name: str, x: Array) -> Array:
    hidden = np.maximum(p[f"{name}.0.weight"] @ x + p[f"{name}.0.bias"], 0)
    out: Array = p[f"{name}.2.weight"] @ hidden + p[f"{name}.2.bias"]
    return out


def by_hand(p: dict[str, Array], x_ND: Array, layer: int, frequency: bool, grid: tuple[int, int]) -> Array:
    low, high = split_by_shifts(x_ND, grid, 0.6)
    out = np.empty_like(x_ND)
    for i, x in enumerate(x_ND):
        delta = expert(p, f"spatial.{layer}", x)
        if frequency:
            w = softmax(p[f"router.{layer}.weight"] @ x + p[f"router.{layer}.bias"])
            delta = w[0] * delta + w[1] * expert(p, f"low.{layer}", low[i]) + w[2] * expert(p, f"high.{layer}", high[i])
        out[i] = x + p["scale"][layer] * delta
    return out


@pytest.mark.parametrize("allocate_unused", [True, False])
@pytest.mark.parametrize("grid", GRIDS)
def test_equations(grid: tuple[int, int], allocate_unused: bool) -> None:
    method = drawn(EarthAdapter, rho=0.6, allocate_unused=allocate_unused, **TINY)
    method.grid = grid
    p, x = arrays(method), tokens(1, grid)
    for layer in range(3):
        out = method.refine(x, layer).detach().numpy()
        for image in range(2):
            expected = by_hand(p, x[image].numpy(), layer, layer in (1, 2), grid)
            np.testing.assert_allclose(out[image], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("allocate_unused", [True, False])
def test_blocks_that_are_not_adapted_are_left_as_they_are(allocate_unused: bool) -> None:
    options = {**TINY, "rho": 0.6, "allocate_unused": allocate_unused, "adapter_layers": "0,2"}
    method, whole = drawn(EarthAdapter, **options), drawn(EarthAdapter, rho=0.6, **TINY)
    whole.load_state_dict(method.state_dict(), strict=allocate_unused)
    x = tokens(1)
    assert method.refine(x, 1) is x
    assert method.fft_blocks == (2,)
    assert torch.equal(method.refine(x, 2), whole.refine(x, 2))
    assert torch.equal(method.refine(x, 0), whole.refine(x, 0))
    unused = without_gradient(method)
    assert unused == set(method.may_be_unused)
    registered, declared = counted(EarthAdapter, SPEC, **options)
    assert registered == declared
    # of the step sizes, one tensor, that of block 1 is not reached
    reachable = registered - sum(method.get_parameter(name).numel() for name in unused) - 1
    assert EarthAdapter.reachable_count(SPEC, method.options) == reachable


def test_router_weights_sum_to_one() -> None:
    method = drawn(EarthAdapter, **TINY)
    weights = method.route(tokens(1), 1)
    assert weights.shape == (2, 24, 3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 24, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (weights > 0).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert method.float().route(tokens(1).float(), 1).dtype == torch.float32


def test_initial_state() -> None:
    method = fresh(EarthAdapter, dim=8)
    assert torch.equal(method.scale, torch.full((3,), 0.1).double())
    assert not torch.equal(refined(method, tokens(1)), tokens(1))
    for name, bound in (("0", 1 / SPEC.width**0.5), ("2", 1 / 8**0.5)):
        weight = method.low["1"].get_parameter(f"{name}.weight")
        assert bound * 0.9 < weight.abs().max() <= bound, "Kaiming-uniform with a = sqrt 5 is U(-1/sqrt(in), ..)"
    assert torch.equal(refined(fresh(EarthAdapter, zero_init_up=True), tokens(1)), tokens(1))
    assert method.queries() is None


# --- Traits


def test_samples_and_bf16() -> None:
    for options in (TINY, {"dim": 4, "fft_layers": "all", "rho": 0.6}, {"fft_layers": "none"}):
        assert_samples_stay_apart(drawn(EarthAdapter, **options))
        assert_works_in_bf16(partial(fresh, EarthAdapter, **options))
    assert_works_in_bf16(partial(fresh, EarthAdapter, replace(SPEC, grid=(5, 7)), dim=4, rho=0.6))


@pytest.mark.parametrize("layers", ["none", "0", "1,2", "all"])
@pytest.mark.parametrize("allocate_unused", [True, False])
def test_gradients_reach_exactly_the_reachable_tensors(layers: str, allocate_unused: bool) -> None:
    options = {"dim": 4, "fft_layers": layers, "rho": 0.6, "allocate_unused": allocate_unused}
    method = drawn(EarthAdapter, **options)
    idle = without_gradient(method)
    assert idle == set(method.may_be_unused)
    sizes = {name: p.numel() for name, p in method.named_parameters()}
    reachable = sum(size for name, size in sizes.items() if name not in idle)
    assert reachable == EarthAdapter.reachable_count(SPEC, method.options)
    assert bool(idle) == (allocate_unused and layers in ("0", "1,2"))


def test_idle_names_are_ends_of_no_other_name() -> None:
    method = fresh(EarthAdapter, replace(SPEC, blocks=24), dim=2, fft_layers="10-12,21")
    ends = tuple(f".{name}" for name in method.may_be_unused)
    matched = {name for name, _ in method.named_parameters() if f".method.{name}".endswith(ends)}
    assert matched == set(method.may_be_unused)
    assert len(matched) == 20 * 10
