"""The command that makes the shipped weights, and the weights themselves."""

import json

import pytest
import torch
from safetensors import safe_open

from benchmarks.catalogue import FBP_CS
from harness.backbones import build_encoder, depth_anything_encoder
from harness.pretrain import pretrain
from harness.zoo import BACKBONES, DEPTH_ENCODER, RGB, WEIGHTS

SHIPPED = {**BACKBONES, "depth": DEPTH_ENCODER}


@pytest.mark.slow
# one for each way of pretraining: bands expanded, bands drawn, height
@pytest.mark.parametrize("name", ["sam", "dofa", "depth"])
def test_pretraining_writes_weights_that_load_and_repeats_bit_for_bit(name, tmp_path):
    for folder in ("one", "two"):
        found = pretrain(name, pretext="canonical", out=tmp_path / folder, steps=2, scenes=20, seed=3)
        assert 0 < found["probe_miou"] < 100
    file = SHIPPED[name].builds["mini"].weights
    assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    model = build_encoder(SHIPPED[name], "mini", RGB, "nearest", "random").model
    with safe_open(tmp_path / "one" / file, "pt") as weights:
        assert set(weights.keys()) == set(model.state_dict())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_beat_a_random_encoder_on_the_probe_and_say_how_they_were_made(name):
    with safe_open(WEIGHTS / SHIPPED[name].builds["mini"].weights, "pt") as weights:
        notes = json.loads(weights.metadata()["notes"])
    assert notes["command"].startswith(f"python run.py pretrain {name} ")
    assert notes["probe_miou"] > notes["probe_miou_random"] + 2


def test_shipped_weights_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*")) < 15e6


@pytest.mark.parametrize("name", SHIPPED)
def test_pretrained_and_random_encoders_differ_and_are_frozen(name):
    torch.manual_seed(0)
    encoders = [
        build_encoder(SHIPPED[name], "mini", FBP_CS.bands, "nearest", init) for init in ("pretrained", "random")
    ]
    x = torch.randn(2, 4, 64, 64)
    first, second = (encoder(x) for encoder in encoders)
    assert [m.shape for m in first] == [torch.Size([2, 96, 8, 8])] * 4
    assert not torch.allclose(first[-1], second[-1], atol=0.1)
    assert not any(p.requires_grad for encoder in encoders for p in encoder.parameters())


def test_reads_the_encoder_of_a_depth_anything_checkpoint():
    """True names and shapes of the published file, at a small width: patch 14 and a 37 x 37 grid become 8 and 8 x 8."""
    model = build_encoder(DEPTH_ENCODER, "mini", RGB, "nearest", "random").model
    width, grid = 96, 37
    published = {
        f"pretrained.{name}": tensor for name, tensor in model.state_dict().items() if not name.startswith("pos_embed")
    }
    published["pretrained.patch_embed.proj.weight"] = torch.randn(width, 3, 14, 14)
    published["pretrained.pos_embed"] = torch.randn(1, 1 + grid * grid, width)
    published["pretrained.mask_token"] = torch.zeros(1, width)
    published["depth_head.scratch.output_conv1.weight"] = torch.randn(4, 4, 3, 3)
    state = depth_anything_encoder(published, model)
    assert state["patch_embed.proj.weight"].shape == (width, 3, 8, 8)
    assert state["pos_embed"].shape == model.state_dict()["pos_embed"].shape
    assert set(state) == set(model.state_dict())
    model.load_state_dict(state, strict=True)
