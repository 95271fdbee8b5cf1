"""AdaptFormer: the branch by its formula, on every kind of block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.options import AdaptFormerOptions
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
from tests.models import adapter_parameters, build, features, images, make_trial, randomise


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        *((name, {}, 5_367_808 if name == "sam" else 3_220_992) for name in ENCODERS),
        ("dinov3", {"norm": "none"}, 3_171_840),
        ("sam", {"norm": "none"}, 5_285_888),
        ("dinov3", {"learnable_scale": True}, 3_221_016),
    ],
)
def test_counts_at_the_papers_sizes(name: str, options: dict[str, Any], expected: int) -> None:
    method, trainable = installed("adaptformer", large(name), options)
    declared = type(method).expected_count(method.spec, AdaptFormerOptions.make(options))
    assert sum(p.numel() for p in trainable.values()) == declared == expected


@pytest.mark.parametrize("options", [{}, {"norm": "none", "scale": 0.7}, {"learnable_scale": True}], ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_starts_as_identity_and_adds_the_branch_to_the_block(name: str, options: dict[str, Any]) -> None:
    plain, adapted = draw_biases(tiny(name)), draw_biases(tiny(name))
    _, trainable = installed("adaptformer", adapted, options)
    for ours, frozen in zip(maps(adapted), maps(plain), strict=True):
        assert torch.equal(ours, frozen)
    draw(trainable)
    kept: list[Tensor] = []
    plain.blocks[0].norm2.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    before, after = maps(plain)[0], maps(adapted)[0]
    x = kept[0]
    p = {key.removeprefix("method.branches.0."): value for key, value in trainable.items() if "branches.0." in key}
    if "norm.weight" in p:
        x = torch.nn.functional.layer_norm(x, (96,), p["norm.weight"], p["norm.bias"], 1e-5)
    hidden = (x @ p["down.weight"].T + p["down.bias"]).clamp(min=0)
    branch = p.get("scale", options.get("scale", 0.1)) * (hidden @ p["up.weight"].T + p["up.bias"])
    prefix = adapted.prefix_tokens
    expected = branch[:, prefix:].mT.unflatten(-1, (8, 8))
    torch.testing.assert_close(after - before, expected, rtol=1e-4, atol=1e-4)
    assert expected.norm() > 0.05 * before.norm()
    assert ("norm.weight" in p) == (options.get("norm", "in") == "in")


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients_and_samples(name: str) -> None:
    encoder = tiny(name)
    method, trainable = installed("adaptformer", encoder, {"learnable_scale": True})
    draw(trainable)
    assert_only_trainable_get_gradients(method, encoder)
    assert_samples_do_not_mix(encoder)


def test_first_values() -> None:
    _, trainable = installed("adaptformer", tiny("dinov3"))
    for key, value in trainable.items():
        if "down.weight" in key:
            assert 0.9 / 96**0.5 < value.abs().max().item() <= 1 / 96**0.5
        else:
            assert torch.equal(value, torch.full_like(value, "norm.weight" in key))


def test_dropout_acts_in_training_and_only_there() -> None:
    model, without = (randomise(build("adaptformer", {"dropout": p})) for p in (0.5, 0.0))
    assert torch.equal(features(model, images())[3], features(without, images())[3])
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        first, second = (model(images())[0][3] for _ in range(2))
    assert not torch.equal(first, second)


def test_checkpointing_changes_nothing() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = randomise(build("adaptformer", {"dropout": 0.0}))
        model.encoder.model.set_grad_checkpointing(checkpointing)
        model.train()
        model(images())[0][3].square().mean().backward()
        gradients.append([p.grad for p in adapter_parameters(model).values()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("wrong", [{"bottleneck": 0}, {"scale": 0.0}, {"dropout": 1.0}, {"norm": "out"}], ids=str)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"adaptformer.{next(iter(wrong))}"):
        AdaptFormerOptions.make(wrong)


def test_it_is_planned_by_name() -> None:
    assert make_trial("adaptformer", "adaptformer.bottleneck=8").options.bottleneck == 8
