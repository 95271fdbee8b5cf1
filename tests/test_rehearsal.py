"""A training step without data: what gets gradients, and where random weights are allowed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.foresight import lone_trial
from harness.rehearsal import Rehearsal
from harness.segmentor import Segmentor, build_segmentor

SMALL = ("protocol.crop=64", "protocol.batch_size=2")


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("spectralmoe", ()),
        ("spectralmoe", ("spectralmoe.preset=released",)),
        ("rein", ()),
        ("lora", ()),
        ("vpt", ()),
        ("frozen", ()),
    ],
)
def test_gradients_reach_what_trains_and_nothing_else(method: str, settings: tuple[str, ...]) -> None:
    rehearsal = Rehearsal(lone_trial("mini", "fbp_cs", "dinov3", method, (*SMALL, *settings)), random_weights=True)
    found = rehearsal.observed_step()
    assert math.isfinite(found.losses.total)
    assert not found.thawed
    unused = rehearsal.model.method.may_be_unused
    assert not [name for name in found.idle if not name.endswith(tuple(unused))]
    trained = {name for name, p in rehearsal.model.named_parameters() if p.requires_grad}
    assert set(found.gradients) | set(found.idle) == trained
    assert all(math.isfinite(norm) for norm in found.gradients.values())


def test_a_thawed_parameter_is_told() -> None:
    rehearsal = Rehearsal(lone_trial("mini", "fbp_cs", "dinov3", "rein", SMALL))
    name, weight = next(iter(rehearsal.model.encoder.named_parameters()))
    weight.requires_grad_(True)
    handle = weight.register_post_accumulate_grad_hook(lambda p: p.requires_grad_(False))
    assert rehearsal.observed_step().thawed == (f"encoder.{name}",)
    handle.remove()


def test_steps_train() -> None:
    rehearsal = Rehearsal(lone_trial("mini", "fbp_cs", "dinov3", "rein", SMALL))
    losses = [float(rehearsal.step().total) for _ in range(8)]
    assert losses[-1] < losses[0]


def weight_of(model: Segmentor, encoder: str) -> Tensor:
    """A frozen weight of an encoder."""
    weight: Tensor = getattr(model, encoder).model.blocks[0].mlp.fc1.weight
    return weight


def test_random_weights_are_for_rehearsals_alone() -> None:
    trial = lone_trial("mini", "fbp_cs", "dinov3", "spectralmoe", SMALL)
    shipped, loaded = build_segmentor(trial), Rehearsal(trial).model
    drawn = Rehearsal(trial, random_weights=True).model
    for encoder in ("encoder", "depth_encoder"):
        mine, same, other = (weight_of(model, encoder) for model in (shipped, loaded, drawn))
        assert torch.equal(mine, same)
        assert not torch.equal(mine, other)


@pytest.mark.usefixtures("weights_folder")
def test_published_weights_that_are_missing_are_asked_for() -> None:
    with pytest.raises(ValueError, match="weights of dinov3_l are missing"):
        Rehearsal(lone_trial("paper", "fbp_cs", "dinov3", "rein"))


def test_one_method_on_one_task_is_rehearsed() -> None:
    with pytest.raises(ValueError, match="--method all"):
        lone_trial("mini", "fbp_cs", "dinov3", "all")
    with pytest.raises(ValueError, match="--task all"):
        lone_trial("mini", "all", "dinov3", "rein")
    with pytest.raises(ValueError, match=r"lora\.\*"):
        lone_trial("mini", "fbp_cs", "dinov3", "rein", ("lora.rank=4",))
