"""What NewMethod promises. Run it from the root of the benchmark with `python -m pytest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.examine import check_method
from harness.lookup import find_method, load_class
from harness.params import count
from harness.scales import SCALES
from harness.zoo import BACKBONES
from methods.base import EncoderSpec, Method

METHOD = f"{Path(__file__).with_name('newmethod.py')}:NewMethod"

SPEC = EncoderSpec(
    blocks=2,
    width=12,
    heads=3,
    patch_size=8,
    grid=(3, 4),
    prefix_tokens=1,
    feature_blocks=(0, 0, 1, 1),
    queries=5,
    query_width=6,
)
"""A small encoder on paper, for tests without one."""


def build(**options: Any) -> Method:
    """The method for `SPEC`, the same at every call."""
    cls: type[Method] = load_class(METHOD)
    torch.manual_seed(0)
    return cls(SPEC, cls.Options.make(options))


def tokens(batch: int = 2) -> torch.Tensor:
    """Random patch tokens [B, N, D]."""
    return torch.randn(batch, SPEC.grid[0] * SPEC.grid[1], SPEC.width, generator=torch.Generator().manual_seed(1))


def refine(method: Method, x_BND: torch.Tensor, layer: int = 1) -> torch.Tensor:
    """The refined tokens, without an auxiliary loss."""
    refined = method.refine(x_BND, layer)
    return refined[0] if isinstance(refined, tuple) else refined


def test_it_keeps_to_the_contract() -> None:
    """What `run.py check` shows, on one backbone; an empty list stands for all of them."""
    assert check_method(METHOD, ["dinov3"], []) == 0


def test_a_fresh_adapter_changes_nothing() -> None:
    """The frozen encoder is where training starts."""
    assert torch.equal(refine(build(), tokens()), tokens())


def test_a_gate_that_is_shut_takes_nothing() -> None:
    """sigmoid(-30) is next to nothing, whatever the bottleneck says; half open, it takes half."""
    method = build()
    for name, parameter in method.named_parameters():
        value = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
        parameter.data = torch.zeros_like(parameter) if "gate" in name else value
    half = refine(method, tokens()) - tokens()
    assert half.abs().max() > 0.1
    for logit, share in ((-30.0, 0.0), (30.0, 2.0)):
        for name, parameter in method.named_parameters():
            if name.endswith("bias") and "gate" in name:
                parameter.data.fill_(logit)
        torch.testing.assert_close(refine(method, tokens()) - tokens(), share * half, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("preset", "expected"), [("default", 885_144), ("small", 270_432)])
def test_parameters_at_the_size_of_vit_large(preset: str, expected: int) -> None:
    """24 blocks of width 1024, worked out by hand: 24 (2·1024·16 + 16 + 4·1024 + 1), 24 (2·1024·4 + 4 + 3·1024)."""
    method = find_method(METHOD)
    found = count(method, method.options_class.make({"preset": preset}), BACKBONES["dinov3"], SCALES["paper"])
    assert found.adapter == expected


def test_an_impossible_option_is_refused_by_name() -> None:
    """Users see this message when they mistype."""
    with pytest.raises(ValueError, match=r"newmethod\.rank=0"):
        build(rank="0")
