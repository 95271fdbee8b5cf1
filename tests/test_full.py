"""Full fine-tuning: what trains, at which rate, and that it does."""

from __future__ import annotations

import pytest
import torch

from harness.optim import build_optimizer
from methods.options import FullOptions
from tests.encoders import ENCODERS, assert_only_trainable_get_gradients, installed, maps, tiny
from tests.models import BANDS, build, images, labels, make_trial, small_vit


@pytest.mark.parametrize("name", ENCODERS)
def test_all_of_the_encoder_trains_up_to_the_feature_maps(name: str) -> None:
    encoder = tiny(name)
    before = maps(encoder)
    method, trainable = installed("full", encoder)
    for a, b in zip(before, maps(encoder), strict=True):
        assert torch.equal(a, b)
    frozen = {key for key, _ in encoder.named_parameters()} - {key.removeprefix("encoder.") for key in trainable}
    assert all(key.startswith(("model.norm.", "model.fc_norm.", "model.neck.")) for key in frozen)
    assert not list(method.parameters())
    assert type(method).expected_count(method.spec, FullOptions()) == 0
    assert_only_trainable_get_gradients(method, encoder)


def test_the_neck_of_sam_is_no_part_of_the_feature_maps() -> None:
    encoder = small_vit("samvit_base_patch16", in_chans=len(BANDS), window_size=4, neck_chans=16)
    method, trainable = installed("full", encoder)
    assert any("neck" in key for key, _ in encoder.named_parameters())
    assert not any("neck" in key for key in trainable)
    assert_only_trainable_get_gradients(method, encoder)


def test_a_step_moves_every_block_at_a_tenth_of_the_heads_rate() -> None:
    model = build("full")
    trial = make_trial("full")
    optimizer = build_optimizer(model, trial)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not name.endswith(("cls_token", "reg_token", "pos_embed"))
            expected = trial.protocol.weight_decay if decays else 0.0
            assert rates[id(parameter)] == (pytest.approx(0.1 * trial.protocol.lr), expected), name
    before = {name: p.detach().clone() for name, p in model.encoder.named_parameters()}
    model.train()
    model.losses(images(), labels()).total.backward()
    optimizer.step()
    still = {name for name, p in model.encoder.named_parameters() if torch.equal(p, before[name])}
    assert still <= {"model.norm.weight", "model.norm.bias"}
