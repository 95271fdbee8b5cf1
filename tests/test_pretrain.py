"""The command that makes the shipped weights, and the weights themselves."""

import json

import pytest
import torch
from safetensors import safe_open

from benchmarks.catalogue import FBP_CS
from harness.backbones import build_encoder
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
