"""Schedule, optimiser groups, parameter counts, and what one step moves."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from harness.optim import build_optimizer, count_parameters, decay
from harness.segmentor import Segmentor
from tests.models import (
    CASES,
    Probe,
    ProbeOptions,
    adapter_parameters,
    build,
    build_case,
    images,
    labels,
    make_trial,
    randomise,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from mmengine.optim import PolyLR


# --- Schedule


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_decay_in_closed_form(power: float, warmup: int) -> None:
    for step in range(41):
        poly = (1 - step / 40) ** power
        ramp = (step + 1) / (warmup + 1) if step < warmup else 1
        assert decay(step, 40, power, warmup) == pytest.approx(poly * ramp, abs=1e-12)
    assert decay(0, 40, power, 0) == 1
    assert decay(40, 40, power, warmup) == 0
    assert decay(41, 40, power, warmup) == 0, "the scheduler looks one step past the end"


def test_decay_equals_mmengines_poly() -> None:
    optimizers = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3) for _ in range(2)]
    # MMEngine reaches 0 at the last of its steps, we after it
    theirs = PolyLR(optimizers[0], power=0.9, eta_min=0, begin=0, end=31, by_epoch=False)
    ours = torch.optim.lr_scheduler.LambdaLR(optimizers[1], lambda step: decay(step, 30, 0.9, 0))
    for _ in range(30):
        assert optimizers[1].param_groups[0]["lr"] == pytest.approx(optimizers[0].param_groups[0]["lr"], rel=1e-9)
        for optimizer, schedule in zip(optimizers, (theirs, ours), strict=True):
            optimizer.step()
            schedule.step()


# --- Groups


class Named(Probe):
    """Tensors whose names end alike, in the method and in the encoder."""

    no_weight_decay = ("tokens", "inner.scale", "class_layer.weight")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.tokens = nn.Parameter(torch.ones(2))
        self.bad_tokens = nn.Parameter(torch.ones(2))
        self.tokens_more = nn.Parameter(torch.ones(2))
        self.scale = nn.Parameter(torch.ones(2))
        self.inner = nn.Module()
        self.inner.scale = nn.Parameter(torch.ones(2))
        self.norm = nn.LayerNorm(2)
        self.linear = nn.Linear(2, 2)

    def install(self, encoder: nn.Module) -> None:
        encoder.blocks[0].extra = nn.ParameterDict({"tokens": torch.ones(2), "weight": torch.ones(2)})


def groups(model: Segmentor, lr_scale: float = 1.0) -> dict[str, dict[str, Any]]:
    """Optimiser group of every trainable tensor by name; the trial has lr 0.01 and weight decay 0.5."""
    trial = make_trial("frozen", "protocol.lr=0.01", "protocol.weight_decay=0.5")
    scaled = type("Scaled", (ProbeOptions,), {"lr_scale": lr_scale})
    trial = replace(trial, options=scaled())
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, trial)
    assert isinstance(optimizer, torch.optim.AdamW)
    found = {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(found)
    return found


def test_the_method_exempts_whole_names_of_its_own_only() -> None:
    found = groups(build(Named))
    assert found["head.class_layer.weight"]["weight_decay"] == 0.5, "the head is the harness's"
    decays = {name: group["weight_decay"] for name, group in found.items() if not name.startswith("head.")}
    assert {name for name, value in decays.items() if value == 0} == {
        "method.tokens",
        "method.inner.scale",
        "method.norm.weight",
        "method.norm.bias",
        "encoder.model.blocks.0.extra.tokens",
    }
    assert {name for name, value in decays.items() if value == 0.5} == {
        "method.bad_tokens",
        "method.tokens_more",
        "method.scale",
        "method.linear.weight",
        "method.linear.bias",
        "encoder.model.blocks.0.extra.weight",
    }


EXEMPT = {
    "lora": {"lora_A.default.weight", "lora_B.default.weight"},
    "rein": {"tokens_a", "tokens_b", "scale"},
    "spectralmoe-paper": {"experts_a", "experts_b", "gate", "noise", "scale"},
}


@pytest.mark.parametrize("case", EXEMPT)
def test_published_groups(case: str) -> None:
    model = build_case(case)
    found = groups(model)
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, group in found.items():
        free = name.rpartition(".lora_")[1] + name.rpartition("lora_")[2] if "lora_" in name else name.split(".", 1)[1]
        if not name.startswith("head."):
            assert (group["weight_decay"] == 0) == (free.removeprefix(".") in EXEMPT[case]), name


def test_the_heads_norms_and_embeddings_do_not_decay() -> None:
    model = build("frozen")
    norms = {
        f"head.{module}.{tensor}"
        for module, layer in model.head.named_modules()
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm)
        for tensor in ("weight", "bias")
    }
    assert len(norms) > 10
    free = {name for name, group in groups(model).items() if group["weight_decay"] == 0}
    assert free == norms | {"head.transformer.queries_embedder.weight", "head.transformer.level_embed.weight"}
    # published: the query content and the pixel decoder's level encoding decay, and so do all biases
    for name in ("transformer.queries_features.weight", "pixel_decoder.level_embed", "class_layer.bias"):
        assert groups(model)[f"head.{name}"]["weight_decay"] == 0.5


def test_lr_scale_is_the_adapters_alone() -> None:
    for name, group in groups(build(Named), lr_scale=3.0).items():
        assert group["lr"] == pytest.approx(0.01 if name.startswith("head.") else 0.03), name


# --- Counts and steps


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("linked", [True, False])
def test_counts_by_group(case: str, linked: bool) -> None:
    model = build_case(case, linked=linked)
    counts = count_parameters(model)
    options = type(model.method).Options.make(CASES[case][1])
    backbone = sum(p.numel() for p in build("frozen").encoder.parameters())
    thawed = sum(p.numel() for p in model.encoder.parameters() if p.requires_grad) if case == "full" else 0
    assert (thawed > 0.9 * backbone) == (case == "full")
    depth = sum(p.numel() for p in model.depth_encoder.parameters()) if model.depth_encoder else 0
    assert counts == {
        "head": sum(p.numel() for p in model.head.parameters()),
        "adapter": type(model.method).expected_count(model.method.spec, options),
        "backbone": thawed,
        "frozen": backbone - thawed,
        "depth_encoder": depth,
    }
    assert (depth > 0) == options.needs_depth


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("linked", [True, False])
def test_one_step_moves_every_trainable_tensor_and_nothing_else(case: str, linked: bool) -> None:
    model = randomise(build_case(case, linked=linked), std=0.1)  # fresh factors hold back each other's gradients
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = build_optimizer(model, make_trial(CASES[case][0]))
    torch.manual_seed(0)
    model.train().losses(images(), labels()).total.backward()
    assert {name for name, p in adapter_parameters(model).items() if p.grad is None} == set(), "unused by default"
    assert all(p.grad is not None for p in model.head.parameters())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    optimizer.step()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    frozen = {name.split(".")[0] for name in before.keys() - moved}
    assert {"encoder"} | ({"depth_encoder"} if model.depth else set()) <= frozen


def test_only_spectralmoes_noise_may_be_unused_and_only_without_noise() -> None:
    model = build("spectralmoe", {"noise": False})
    model.train().losses(images(), labels()).total.backward()
    unused = {name.removeprefix("method.") for name, p in adapter_parameters(model).items() if p.grad is None}
    assert unused == {"noise"}
    assert unused <= set(model.method.may_be_unused)
    gate = model.method.get_parameter("gate").grad
    assert gate is not None
    assert not gate.any(), "top-1 gates are constant and the load is a count"
