"""Tuners of `peft`: what each does to a layer, written out from its paper, and AdaLoRA's schedule and penalty."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.backbones import Encoder
from methods.options.peft import TUNERS
from tests.encoders import draw, draw_biases, installed, shake, tiny
from tests.models import build, images, relative

W, P, C = Tensor, dict[str, Tensor], dict[str, Any]
"""Weight, parameters, configuration."""


def _dora(w: W, p: P, c: C) -> W:
    """W' = m (W + B A) / ||W + B A||, by rows."""
    v = w + p["lora_B.default.weight"] @ p["lora_A.default.weight"]
    return p["lora_magnitude_vector.default.weight"][:, None] * v / v.norm(dim=1, keepdim=True)


def _adalora(w: W, p: P, c: C) -> W:
    """W' = W + P Λ Q, times alpha / r = 1."""
    return w + p["lora_B.default"] @ (p["lora_E.default"] * p["lora_A.default"])


def _hra(w: W, p: P, c: C) -> W:
    """W' = W Π (1 - 2 u u' / |u|²)."""
    for u in p["hra_u.default"].T:
        w = w @ (torch.eye(len(u)) - 2 * torch.outer(u, u) / (u @ u))
    return w


def _boft(w: W, p: P, c: C) -> W:
    """W' = s W R, R block-diagonal by Cayley's (1 + Q) (1 - Q)^-1, Q the skew part."""
    skew = [(r - r.T) / 2 for r in p["boft_R.default"][0]]
    eye = torch.eye(len(skew[0]))
    rotation = torch.block_diag(*((eye + q) @ torch.linalg.inv(eye - q) for q in skew))
    return p["boft_s.default"] * (w @ rotation)


def _oft(w: W, p: P, c: C) -> W:
    """W' = W R, R block-diagonal by Cayley's (1 + Q) (1 - Q)^-1, Q from the upper triangle."""
    size = c["oft_block_size"]
    rotations = []
    for row in p["oft_R.default.weight"]:
        q = torch.zeros(size, size)
        upper = torch.triu_indices(size, size, 1)
        q[upper[0], upper[1]] = row
        q = q - q.T
        rotations.append((torch.eye(size) + q) @ torch.linalg.inv(torch.eye(size) - q))
    return w @ torch.block_diag(*rotations)


def _delora(w: W, p: P, c: C) -> W:
    """W' = W + (λ / r) B diag(1 / |b_i||a_i|) A diag(|w_j|)."""
    a, b = p["delora_A.default"], p["delora_B.default"]
    unit = b / b.norm(dim=0) @ (a / a.norm(dim=1, keepdim=True))
    return w + p["delora_lambda.default"] / len(a) * unit * w.norm(dim=0)


def _vera(w: W, p: P, c: C) -> W:
    """W' = W + Λ_b B Λ_d A with frozen random A and B."""
    return w + p["vera_lambda_b.default"][:, None] * p["B"] @ (p["vera_lambda_d.default"][:, None] * p["A"])


def _randlora(w: W, p: P, c: C) -> W:
    """W' = W + alpha / r Σ_n B_n Λ_n A Γ_n with frozen random A and B; the columns of all B_n lie interleaved."""
    lam, gamma = p["randlora_lambda.default"], p["randlora_gamma.default"]
    total = torch.zeros_like(w)
    for n in range(len(gamma)):
        columns = p["B"].flatten(1)[:, n :: len(gamma)]
        total += columns @ (lam[:, n, None] * p["A"][:, 0] * gamma[n])
    return w + c["randlora_alpha"] / c["r"] * total


EQUATIONS: dict[str, tuple[dict[str, Any], Callable[[W, P, C], W]]] = {
    "dora": ({}, _dora),
    "rslora": ({"r": 4}, lambda w, p, c: w + 4 / 4**0.5 * p["lora_B.default.weight"] @ p["lora_A.default.weight"]),
    "adalora": ({}, _adalora),
    "oft": ({"use_cayley_neumann": False}, _oft),
    "boft": ({}, _boft),
    "ia3": ({}, lambda w, p, c: p["ia3_l.default"] * w),
    "hra": ({}, _hra),
    "miss": ({}, lambda w, p, c: w + p["miss_block.default"].T.repeat(1, 96 // c["r"])),
    "loha": (
        {},
        lambda w, p, c: (
            w + (p["hada_w1_a.default"] @ p["hada_w1_b.default"]) * (p["hada_w2_a.default"] @ p["hada_w2_b.default"])
        ),
    ),
    "lokr": (
        {"r": 2},
        lambda w, p, c: w + torch.kron(p["lokr_w1.default"], p["lokr_w2_a.default"] @ p["lokr_w2_b.default"]),
    ),
    "vera": ({"r": 16}, _vera),
    "hira": ({}, lambda w, p, c: w * (1 + p["hira_B.default"] @ p["hira_A.default"])),
    "delora": ({}, _delora),
    "randlora": ({"randlora_alpha": 32}, _randlora),
}
"""The adapted weight of each tuner from its paper; (IA)³ multiplies the bias too."""


@pytest.mark.parametrize("name", EQUATIONS)
def test_the_layer_by_its_equation(name: str) -> None:
    options, equation = EQUATIONS[name]
    encoder = draw_biases(tiny("clip"))
    frozen: Any = encoder.blocks[2].attn.qkv
    w, b = frozen.weight.detach().clone(), frozen.bias.detach().clone()
    method, trainable = installed(f"peft:{name}", encoder, options)
    shake(trainable, 0.05)
    layer: Any = encoder.blocks[2].attn.qkv
    start = "encoder.model.blocks.2.attn.qkv."
    p = {key.removeprefix(start): v.detach() for key, v in trainable.items() if key.startswith(start)}
    for side in "AB":
        if hasattr(layer, f"{name}_{side}"):
            p[side] = getattr(layer, f"{name}_{side}")["default"]
    x = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    chosen = {key: getattr(method.options, key) for key in TUNERS[name].options}
    bias = b * p["ia3_l.default"].flatten() if name == "ia3" else b
    expected = x @ equation(w, p, chosen).T + bias
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)
    assert relative(x @ w.T + b, expected) > 0.001


def test_every_tested_tuner_has_its_equation() -> None:
    assert {name for name, tuner in TUNERS.items() if tuner.tested} == {*EQUATIONS, "ln_tuning"}


def test_ln_tuning_and_ia3_beside_the_attention() -> None:
    encoder = tiny("eva02")
    _, trainable = installed("peft:ln_tuning", encoder)
    draw(trainable)
    block: Any = encoder.blocks[0]
    x = torch.randn(3, 96, generator=torch.Generator().manual_seed(0))
    for norm in ("norm1", "norm2"):
        w, b = (trainable[f"encoder.model.blocks.0.{norm}.ln_tuning_layers.default.{k}"] for k in ("weight", "bias"))
        eps = getattr(block, norm).base_layer.eps
        torch.testing.assert_close(getattr(block, norm)(x), nn.functional.layer_norm(x, (96,), w, b, eps))
    encoder = tiny("eva02")
    _, trainable = installed("peft:ia3", encoder)
    draw(trainable)
    last: Any = encoder.blocks[0].mlp.fc2
    inner = torch.randn(3, last.base_layer.in_features, generator=torch.Generator().manual_seed(0))
    scale = trainable["encoder.model.blocks.0.mlp.fc2.ia3_l.default"].flatten()
    torch.testing.assert_close(last(inner), last.base_layer(inner * scale))


def test_a_given_alpha_is_kept() -> None:
    for alpha, scale in ((0, 1.0), (4, 0.5), (16, 2.0)):
        encoder = tiny("dinov3")
        installed("peft:dora", encoder, {"lora_alpha": alpha})
        layer: Any = encoder.blocks[0].attn.qkv
        assert layer.scaling["default"] == scale


# --- AdaLoRA

SCHEDULE = {"init_r": 6, "target_r": 2, "total_step": 12, "tinit": 2, "tfinal": 3}


def ranks(encoder: Encoder) -> int:
    return sum(int(p.count_nonzero()) for name, p in encoder.named_parameters() if "lora_E" in name)


def test_adalora_prunes_to_its_budget(caplog: pytest.LogCaptureFixture) -> None:
    encoder = tiny("dinov3")
    method, trainable = installed("peft:adalora", encoder, SCHEDULE)
    draw(trainable, 0.1)
    optimizer = torch.optim.SGD(trainable.values(), lr=1e-3)
    seen = []
    for step in range(1, 16):
        sum(y.square().mean() for y in encoder(images())).backward()  # type: ignore[union-attr]
        optimizer.step()
        with caplog.at_level(logging.WARNING):
            method.after_step(step)
        optimizer.zero_grad()
        seen.append(ranks(encoder))
    blocks = len(encoder.blocks)
    assert seen[:2] == [6 * blocks] * 2
    assert 2 * blocks < seen[3] < 6 * blocks
    assert seen[1:9] == sorted(seen[1:9], reverse=True)
    assert seen[8:] == [2 * blocks] * 7
    assert [record.message for record in caplog.records] == [
        "peft:adalora ended its budget schedule at step 12, before training: raise total_step"
    ]


def test_adalora_adds_its_penalty() -> None:
    model = build("peft:adalora", {"orth_reg_weight": 0.25})
    terms = []
    for name, p in model.encoder.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            factor = p.detach() if "lora_A" in name else p.detach().T
            terms.append((factor @ factor.T - torch.eye(12)).norm())
    expected = 0.25 * torch.stack(terms).mean()
    auxiliary = model(images())[1]
    torch.testing.assert_close(auxiliary, expected)
    auxiliary.backward()
    touched = {name.split(".")[-2] for name, p in model.encoder.named_parameters() if p.grad is not None}
    assert touched == {"lora_A", "lora_B"}
