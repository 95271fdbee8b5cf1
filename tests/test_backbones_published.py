"""The published builds beside timm's own models: the same features at native size, at others and under a method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from harness.backbones import Encoder, build_encoder, encoder_spec
from harness.weight_formats import convert
from harness.zoo import BACKBONES, DEPTH_ENCODER, RGB
from methods.base import Method
from tests.encoders import ENCODERS, large
from tests.models import PAPER_HEAD, Probe, build
from tests.weight_files import DEPTH, TIMM, WIDTH, dinov2_state, hub_model, loaded, narrow, put, source

NATIVE = {"clip": 224, "sam": 1024, "eva02": 224, "dinov2": 518, "dinov3": 256}
"""Side of an image in pixels for which timm publishes each."""
PATCH_14 = ("clip", "eva02", "dinov2")


def plain_maps(model: Any, x: Tensor) -> list[Tensor]:
    """What the blocks of timm's model give in its own forward pass, as maps."""
    tokens: list[Tensor] = []
    hooks = [block.register_forward_hook(lambda _m, _i, output: tokens.append(output)) for block in model.blocks]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    patch = model.patch_embed.patch_size[0]
    grid = (x.shape[-2] // patch, x.shape[-1] // patch)
    if tokens[0].ndim == 4:
        return [output.permute(0, 3, 1, 2) for output in tokens]
    return [output[:, model.num_prefix_tokens :].mT.unflatten(2, grid) for output in tokens]


def pixels(height: int, width: int) -> Tensor:
    """One normalised RGB image."""
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Equal to 1e-5 of their size, and of some size."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() < 1e-5 * other.norm()
        assert other.std() > 0.01


def published(name: str, folder: Path) -> Any:
    """timm's narrow model with random numbers, whose weights now lie where the program looks for them."""
    model = hub_model(name)
    put(folder, source(name), model.state_dict())
    return model


@pytest.mark.parametrize("name", TIMM)
def test_at_native_size_features_are_those_of_timms_forward(name: str, weights_folder: Path) -> None:
    model, side = published(name, weights_folder), NATIVE[name]
    native = {"patch_size": 14, "img_size": side} if name in PATCH_14 else {}
    ours = loaded(narrow(name, **native))
    with torch.no_grad():
        assert_same(ours(pixels(side, side)), plain_maps(model, pixels(side, side)))


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("size", [(128, 128), (128, 192)])
def test_at_a_crops_size_features_are_those_of_a_model_made_for_it(
    name: str, size: tuple[int, int], weights_folder: Path
) -> None:
    """timm's other way: tables and kernels resized as the file is read, for images of that one size."""
    model = published(name, weights_folder)
    if name in PATCH_14:
        state, sizes = model.state_dict(), {"patch_size": 16, "img_size": size, "embed_dim": WIDTH, "depth": DEPTH}
        model = timm.create_model(BACKBONES[name].entry, num_classes=0, num_heads=2, **sizes).eval()
        assert tuple(model.patch_embed.grid_size) == (size[0] // 16, size[1] // 16)
        fitting = convert(state, model, "timm").state
        model.load_state_dict({key: tensor for key, tensor in fitting.items() if not key.startswith("head.")})
    with torch.no_grad():
        assert_same(loaded(narrow(name))(pixels(*size)), plain_maps(model, pixels(*size)))


@pytest.mark.parametrize("method", ["frozen", Probe])
@pytest.mark.parametrize("name", TIMM)
def test_under_an_identity_method_features_are_those_of_forward_intermediates(
    name: str, method: str | type[Method], weights_folder: Path
) -> None:
    """`Probe` hooks every block and lets its tokens pass."""
    published(name, weights_folder)
    theirs: Any = loaded(narrow(name)).model
    model = build(method, encoder=loaded(narrow(name))).eval()
    x = pixels(128, 128)
    with torch.no_grad():
        expected = theirs.forward_intermediates(x, indices=[0, 1, 2, 3], intermediates_only=True, norm=False)
        assert_same(model.features(x), expected)


# --- sizes of images


@pytest.mark.parametrize("name", [*ENCODERS, "depth"])
@pytest.mark.parametrize("size", [(128, 128), (256, 256), (512, 512), (224, 480)])
def test_published_builds_take_any_crop(name: str, size: tuple[int, int]) -> None:
    spec = {**BACKBONES, "depth": DEPTH_ENCODER}[name]
    # torch has no autocast for the meta device, which DOFA turns off
    spec = narrow(name) if name == "dofa" else spec
    with torch.device("cpu" if name == "dofa" else "meta"), torch.no_grad():
        encoder = build_encoder(spec, "paper", RGB, "nearest", "random")
        maps = encoder(torch.zeros(1, 3, *size))
    assert {m.shape for m in maps} == {(1, encoder.width, size[0] // 16, size[1] // 16)}
    side = size[0] // 16
    assert encoder_spec(encoder, size[0], PAPER_HEAD, True, encoder).grid == (side, side)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_published_build_learns_from_small_crops(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(narrow(name), "paper", RGB, "nearest", "random")
    model = build("lora", encoder=encoder).train()
    losses = model.losses(pixels(128, 128), torch.zeros(1, 128, 128, dtype=torch.long))
    losses.total.backward()
    assert torch.isfinite(losses.total)
    for key, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == ("lora" in key), key


# --- kernels and positions of the published shapes


def published_kernel(width: int = 1024) -> Tensor:
    """[width, 3, 14, 14]."""
    return torch.randn(width, 3, 14, 14, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", PATCH_14)
def test_kernels_are_resized_by_timms_function(name: str) -> None:
    kernel = published_kernel()
    state = convert({"patch_embed.proj.weight": kernel}, large(name).model, "timm").state
    assert torch.equal(state["patch_embed.proj.weight"], resample_patch_embed(kernel, [16, 16]))


@pytest.mark.parametrize("side", [8, 32, 37])
def test_positions_are_fitted_to_the_image_by_timms_function(side: int, weights_folder: Path) -> None:
    """Without patches the tokens before the first block are the positions."""
    state = dinov2_state()
    state |= {name: torch.zeros_like(state[name]) for name in ("patch_embed.proj.weight", "patch_embed.proj.bias")}
    put(weights_folder, source("dinov2"), state)
    encoder = loaded(narrow("dinov2"))
    assert tokens_before_blocks(encoder, 16 * side).shape == (1, 1 + side * side, WIDTH)
    expected = resample_abs_pos_embed(state["pos_embed"], [side, side], num_prefix_tokens=1)
    torch.testing.assert_close(tokens_before_blocks(encoder, 16 * side)[:, 1:], expected[:, 1:])


def tokens_before_blocks(encoder: Encoder, side: int) -> Tensor:
    """[1, 1 + N, D] of a black image."""
    seen: list[Tensor] = []
    block: nn.Module = encoder.blocks[0]
    hook = block.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoder(torch.zeros(1, 3, side, side))
    hook.remove()
    return seen[0]
