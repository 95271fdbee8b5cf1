"""Published weights into models: right tensors in the right places, everything else refused with nothing run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

from harness.backbones import load_report
from harness.zoo import BACKBONES
from tests.weight_files import (
    DEPTH,
    HEADS,
    TIMM,
    WIDTH,
    any_digest,
    dinov2_state,
    dofa_state,
    drawn,
    hub_model,
    loaded,
    narrow,
    put,
    same,
    source,
)

_NORMS = "norm1.weight norm1.bias norm2.weight norm2.bias"
_ATTENTION = "attn.qkv.weight attn.qkv.bias attn.proj.weight attn.proj.bias"
_MLP = "mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias"
_STEM = "patch_embed.proj.weight patch_embed.proj.bias"
_CLIP = "cls_token pos_embed patch_embed.proj.weight norm_pre.weight norm_pre.bias norm.weight norm.bias"
_NECK = "neck.0.weight neck.1.weight neck.1.bias neck.2.weight neck.3.weight neck.3.bias"
_EVA = "q_proj.weight q_proj.bias k_proj.weight v_proj.weight v_proj.bias proj.weight proj.bias"
_GATED = "fc1_g.weight fc1_g.bias fc1_x.weight fc1_x.bias norm.weight norm.bias fc2.weight fc2.bias"
_PLAIN = f"{_NORMS} {_ATTENTION} {_MLP}"
PUBLISHED = {
    "clip": (f"{_CLIP} head.weight head.bias", _PLAIN),
    "sam": (f"pos_embed {_STEM} {_NECK}", f"{_PLAIN} attn.rel_pos_h attn.rel_pos_w"),
    "eva02": (
        f"cls_token pos_embed {_STEM} fc_norm.weight fc_norm.bias",
        " ".join([_NORMS, *(f"attn.{name}" for name in _EVA.split()), *(f"mlp.{name}" for name in _GATED.split())]),
    ),
    "dinov2": (f"cls_token pos_embed {_STEM} norm.weight norm.bias", f"{_PLAIN} ls1.gamma ls2.gamma"),
    "dinov3": (
        f"cls_token reg_token {_STEM} norm.weight norm.bias",
        f"{_NORMS} attn.qkv.weight attn.proj.weight attn.proj.bias {_MLP} gamma_1 gamma_2",
    ),
}
"""Tensors of timm's hub files: those outside of blocks, and those of a block."""


# --- the hubs' formats


@pytest.mark.parametrize("name", TIMM)
def test_the_names_in_timms_files(name: str) -> None:
    """Of the true models; what the fabricated files below are worth depends on them."""
    spec = BACKBONES[name].builds["paper"]
    with torch.device("meta"):
        names = set(timm.create_model(spec.weights.removeprefix("hub:"), pretrained=False).state_dict())
    outside, block = (words.split() for words in PUBLISHED[name])
    blocks = 32 if name == "sam" else 24
    assert names == {*outside} | {f"blocks.{i}.{inside}" for i in range(blocks) for inside in block}
    small = {*outside} | {f"blocks.{i}.{inside}" for i in range(DEPTH) for inside in block}
    assert set(hub_model(name).state_dict()) == small


@pytest.mark.parametrize("name", TIMM)
def test_timms_file(name: str, weights_folder: Path) -> None:
    published = hub_model(name).state_dict()
    put(weights_folder, source(name), published)
    encoder = loaded(narrow(name))
    own = encoder.model.state_dict()
    resized = {"patch_embed.proj.weight"} if name in ("clip", "eva02", "dinov2") else set()
    assert same(encoder.model, published) == own.keys() - resized
    assert own["patch_embed.proj.weight"].shape == (WIDTH, 3, 16, 16)
    report = load_report(narrow(name))
    assert set(report.resized) == resized
    assert set(report.matched) == own.keys()
    assert not report.missing
    assert list(report.unexpected) == (["head.bias", "head.weight"] if name == "clip" else [])
    for said in (f"{len(own)} tensors matched", *resized):
        assert said in str(report)


def test_resized_kernels_are_timms(weights_folder: Path) -> None:
    """A kernel whose answer is the patch's mean answers so at any size."""
    published = dinov2_state()
    published["patch_embed.proj.weight"] = torch.full_like(published["patch_embed.proj.weight"], 1 / (3 * 14 * 14))
    put(weights_folder, source("dinov2"), published)
    model: Any = loaded(narrow("dinov2")).model
    answer = model.patch_embed.proj(torch.ones(1, 3, 16, 16)) - model.patch_embed.proj.bias[:, None, None]
    torch.testing.assert_close(answer, torch.ones_like(answer), atol=0.02, rtol=0)


def _dinov3() -> DINOv3ViTModel:
    config = DINOv3ViTConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_register_tokens=4,
    )
    model = drawn(DINOv3ViTModel(config))
    for name, tensor in model.named_parameters():
        if name.endswith(("q_proj.bias", "v_proj.bias")):
            tensor.data.zero_()
    assert isinstance(model, DINOv3ViTModel)
    return model


def _hub_names_dinov3(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the files lie on the hub, whatever names the library has inside."""
    return {re.sub(r"^model\.layer\.", "layer.", name): tensor for name, tensor in state.items()}


DINOV3_BLOCK = {
    *("norm1.weight", "norm1.bias", "attention.k_proj.weight", "attention.v_proj.weight", "attention.v_proj.bias"),
    *("attention.q_proj.weight", "attention.q_proj.bias", "attention.o_proj.weight", "attention.o_proj.bias"),
    *("layer_scale1.lambda1", "norm2.weight", "norm2.bias", "mlp.up_proj.weight", "mlp.up_proj.bias"),
    *("mlp.down_proj.weight", "mlp.down_proj.bias", "layer_scale2.lambda1"),
}
DINOV3_OUTSIDE = {
    *("embeddings.cls_token", "embeddings.mask_token", "embeddings.register_tokens", "norm.weight", "norm.bias"),
    *("embeddings.patch_embeddings.weight", "embeddings.patch_embeddings.bias"),
}


def test_the_official_dinov3_file_computes_what_the_official_model_does(weights_folder: Path) -> None:
    theirs = _dinov3()
    state = _hub_names_dinov3(theirs.state_dict())
    assert set(state) == DINOV3_OUTSIDE | {f"layer.{i}.{name}" for i in range(DEPTH) for name in DINOV3_BLOCK}
    put(weights_folder, source("dinov3", 1), state)
    ours = loaded(narrow("dinov3"))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        tokens = theirs(x, output_hidden_states=True).hidden_states
        maps = ours(x)
    for block, found in enumerate(maps):
        expected = tokens[block + 1][:, 5:].mT.unflatten(2, (4, 6))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_dinov3_file_with_biases_that_matter_is_refused(weights_folder: Path) -> None:
    state = _hub_names_dinov3(_dinov3().state_dict())
    state["layer.1.attention.v_proj.bias"][3] = 0.5
    put(weights_folder, source("dinov3", 1), state)
    with pytest.raises(ValueError, match=r"blocks.1.attn.qkv.bias is not zero"):
        loaded(narrow("dinov3"))


def _dinov2(px: int) -> Dinov2Model:
    config = Dinov2Config(
        hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=px, patch_size=14
    )
    model = drawn(Dinov2Model(config))
    assert isinstance(model, Dinov2Model)
    return model


DINOV2_BLOCK = {
    *("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "layer_scale1.lambda1", "layer_scale2.lambda1"),
    *(f"attention.attention.{part}.{kind}" for part in ("query", "key", "value") for kind in ("weight", "bias")),
    *("attention.output.dense.weight", "attention.output.dense.bias", *_MLP.split()),
}
DINOV2_OUTSIDE = {
    *("embeddings.cls_token", "embeddings.mask_token", "embeddings.position_embeddings"),
    *("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embeddings.projection.bias"),
    *("layernorm.weight", "layernorm.bias"),
}


def _hub_names_dinov2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    parts = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
    parts["o_proj"] = "output.dense"
    for ours, hub in parts.items():
        state = {name.replace(f"attention.{ours}.", f"attention.{hub}."): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("name", ["dinov2", "promptda", "depth_anything"])
def test_the_official_dinov2_file_computes_what_the_official_model_does(name: str, weights_folder: Path) -> None:
    """Alone, and inside of a depth network. At its own patch and grid, where nothing is resized."""
    theirs = _dinov2(56)
    state = _hub_names_dinov2(theirs.state_dict())
    assert set(state) == DINOV2_OUTSIDE | {
        f"encoder.layer.{i}.{inside}" for i in range(DEPTH) for inside in DINOV2_BLOCK
    }
    if name != "dinov2":
        state = {f"backbone.{key}": tensor for key, tensor in state.items()} | {
            "neck.convs.0.weight": torch.zeros(2, 2, 3, 3),
            "head.conv1.weight": torch.zeros(2, 2, 3, 3),
        }
    put(weights_folder, source(name, 1), state)
    spec = narrow(name, patch_size=14, img_size=56)
    x = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        tokens = theirs(x, output_hidden_states=True).hidden_states
        maps = loaded(spec)(x)
    for block, found in enumerate(maps):
        torch.testing.assert_close(found, tokens[block + 1][:, 1:].mT.unflatten(2, (4, 4)), rtol=1e-4, atol=1e-4)
    assert load_report(spec).beside == (0 if name == "dinov2" else 2)


@pytest.mark.parametrize("name", ["promptda", "depth_anything"])
@pytest.mark.parametrize("before", ["", "model.", "training."])
def test_the_encoder_of_a_depth_network(name: str, before: str, weights_folder: Path) -> None:
    """Depth Anything V2 is published as plain tensors; PromptDA by a training framework, below nine more characters."""
    encoder = dinov2_state("authors")
    state = {f"{before}pretrained.{key}": tensor for key, tensor in encoder.items()}
    state[f"{before}depth_head.scratch.output_conv1.weight"] = torch.zeros(4, 4, 3, 3)
    around = {"epoch": 3, "pytorch-lightning_version": "2.4.0"} if before else {}
    put(weights_folder, source(name), state, **around)
    depth = loaded(narrow(name))
    assert same(depth.model, encoder) == set(depth.model.state_dict()) - {"patch_embed.proj.weight"}
    report = load_report(narrow(name))
    assert report.resized == {"patch_embed.proj.weight": f"{WIDTH} x 3 x 14 x 14 to {WIDTH} x 3 x 16 x 16"}
    assert report.beside == 1


def test_dofas_file(weights_folder: Path) -> None:
    published = dofa_state()
    put(weights_folder, source("dofa"), published)
    with any_digest("dofa"):
        encoder, report = loaded(narrow("dofa")), load_report(narrow("dofa"))
    norm = {"fc_norm.weight", "fc_norm.bias"}
    assert same(encoder.model, published) == set(encoder.model.state_dict()) - norm
    assert set(report.missing) == norm, "known: features do not pass it"
    assert not report.resized


def test_a_file_whose_publisher_names_its_digest_must_have_it(weights_folder: Path) -> None:
    put(weights_folder, source("dofa"), dofa_state())
    with pytest.raises(ValueError, match=r"is not the published dofa_large.*begins with 0ff904d3"):
        loaded(narrow("dofa"))
