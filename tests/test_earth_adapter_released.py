"""Earth-Adapter read from its released names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.earth_adapter import EarthAdapter
from tests.adapters import SPEC, tokens
from tests.test_earth_adapter import by_hand


def released(frequency: bool = True, dim: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = {"scale": torch.randn(SPEC.blocks, generator=generator)}
    for block in range(SPEC.blocks):
        for expert_ in ("mlp_list1", "mlp_list2", "mlp_list3") if frequency else ("mlp_list1",):
            for i, out, into in ((0, dim, SPEC.width), (2, SPEC.width, dim)):
                state[f"{expert_}.{block}.{i}.weight"] = torch.randn(out, into, generator=generator)
                state[f"{expert_}.{block}.{i}.bias"] = torch.randn(out, generator=generator)
        if frequency:
            state[f"router.{block}.weight"] = torch.randn(3, SPEC.width, generator=generator)
            state[f"router.{block}.bias"] = torch.randn(3, generator=generator)
    return state


OURS = {"mlp_list1": "spatial", "mlp_list2": "low", "mlp_list3": "high"}


@pytest.mark.parametrize("allocate_unused", [True, False])
def test_from_released(allocate_unused: bool) -> None:
    state = released()
    method = EarthAdapter.from_released(state, SPEC, fft_layers=[1, 2], rho=0.6, allocate_unused=allocate_unused)
    assert method.options.dim == 4
    p = {}
    for name, tensor in state.items():
        stem, _, rest = name.partition(".")
        p[f"{OURS.get(stem, stem)}.{rest}".rstrip(".")] = tensor.double().numpy()
    x = tokens(1)
    for layer in range(3):
        out = method.double().refine(x, layer).detach().numpy()
        expected = by_hand(p, x[0].numpy(), layer, layer in (1, 2), SPEC.grid)
        np.testing.assert_allclose(out[0], expected, rtol=0, atol=1e-9)
    kept = method.state_dict()
    assert len(kept) == len(state) if allocate_unused else len(kept) == len(state) - 10


@pytest.mark.parametrize("allocate_unused", [True, False])
def test_blocks_that_are_not_adapted(allocate_unused: bool) -> None:
    more = {"fft_layer": [1, 2], "adapter_layer": [0, 2], "allocate_unused": allocate_unused}
    method = EarthAdapter.from_released(released(), SPEC, **more).double()
    x = tokens(1)
    assert method.refine(x, 1) is x
    assert torch.equal(method.refine(x, 2), EarthAdapter.from_released(released(), SPEC).double().refine(x, 2))


def test_the_precision_of_the_state_is_kept() -> None:
    state = {name: tensor.double() + 1e-12 for name, tensor in released().items()}
    method = EarthAdapter.from_released(state, SPEC, fft_layer=[1, 2])
    assert torch.equal(method.scale, state["scale"])
    assert method.fft_blocks == (1, 2)
    assert EarthAdapter.from_released({n: t.half() for n, t in state.items()}, SPEC).scale.dtype == torch.float32


def test_from_released_without_frequency_experts() -> None:
    method = EarthAdapter.from_released(released(frequency=False), SPEC)
    assert method.fft_blocks == ()
    assert set(method.state_dict()) == {n.replace("mlp_list1", "spatial") for n in released(frequency=False)}
    assert EarthAdapter.from_released(released(), SPEC, fft_layers="none").fft_blocks == ()


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda s: {}, {}, "not a released Earth-Adapter.*mlp_list1.0.0.weight"),
        (lambda s: {k: v for k, v in s.items() if k != "router.1.bias"}, {}, "missing.*router.1.bias"),
        (lambda s: s | {"refine_token": torch.zeros(1)}, {}, "unknown.*refine_token"),
        (lambda s: {k: v for k, v in s.items() if ".2." not in k}, {}, "missing.*mlp_list1.0.2"),
        (lambda s: s | {"scale": torch.zeros(4)}, {}, r"scale is \(4,\)"),
        (lambda s: s | {"mlp_list2.1.0.weight": torch.zeros(5, 16)}, {}, r"low.1.0.weight is \(5, 16\)"),
        (lambda s: s, {"dim": 8}, r"spatial.0.0.weight is \(4, 16\)"),
        (lambda s: {k: v for k, v in s.items() if "1." in k or k == "scale"}, {}, "missing"),
        (lambda s: released(frequency=False), {"fft_layers": "all"}, "low.0.0.weight is nothing"),
        (lambda s: s, {"fft_layers": "9"}, "blocks are 0 to 2"),
        (lambda s: s, {"fft_layr": "1"}, "did you mean 'fft_layers'"),
        (lambda s: s, {"fft_layer": "1", "fft_layers": "1"}, "did you mean 'fft_layers'"),
        (lambda s: {f"backbone.adapter.{n}": t for n, t in s.items()}, {}, "strip 'backbone.adapter.'"),
        (lambda s: {f"a.{n}": t for n, t in released(frequency=False).items()}, {}, "strip 'a.'"),
        (lambda s: s, {"dim": 8}, r"\(earth_adapter.dim would have to be 4\) \(and 26 more\)"),
    ],
)
def test_a_defective_released_state_is_a_clear_error(change: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EarthAdapter.from_released(change(released()), SPEC, **options)
