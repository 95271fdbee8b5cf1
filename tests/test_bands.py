"""Patch embeddings and RGB selection by wavelength, on kernels made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from timm.layers.patch_embed import resample_patch_embed

from benchmarks.catalogue import FBP_CS
from benchmarks.tasks import Band
from harness.backbones import build_encoder
from harness.bands import expand_kernel, nearest_bands
from harness.zoo import BACKBONES, RGB
from tests.models import build, images
from tests.weight_files import dinov2_state, narrow, put, source

CENTRES = {"B": 0.49, "G": 0.56, "R": 0.665, "E": 0.705, "NIR": 0.83}


def bands(names: str) -> tuple[Band, ...]:
    return tuple(Band(name=name, centre_um=CENTRES[name]) for name in names.split())


def kernel() -> torch.Tensor:
    """[2, 3, 2, 2]: channel R is 1, G is 10, B is 100 in the first filter, ten times that in the second."""
    first = torch.tensor([1.0, 10.0, 100.0])[:, None, None].expand(3, 2, 2)
    return torch.stack([first, 10 * first])


def expanded(task: str, mode: str) -> list[float]:
    """Values of the first filter, one per band; filters must stay constant, and the second ten times the first."""
    result = expand_kernel(kernel(), RGB, bands(task), mode)
    assert result.shape == (2, len(task.split()), 2, 2)
    torch.testing.assert_close(result[1], 10 * result[0])
    assert torch.equal(result, result[..., :1, :1].expand_as(result))
    return result[0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("task", "mode", "expected"),
    [
        ("NIR R G B", "nearest", [1, 1, 10, 100]),
        ("R G B NIR", "nearest", [1, 10, 100, 1]),
        ("B G R E NIR", "nearest", [100, 10, 1, 1, 1]),
        ("B G R", "nearest", [100, 10, 1]),
        ("NIR", "nearest", [1]),
        ("NIR R G B", "released", [1, 10, 100, 1]),
        ("B G R E NIR", "released", [1, 10, 100, 1, 10]),
        ("NIR R G B", "mean", [37 * 0.75] * 4),
        ("R G B", "mean", [37] * 3),
        ("NIR R G B", "linear", [1, 0.375 + 6.25, 6.25 + 37.5, 100]),
        ("B G R", "linear", [1, 10, 100]),
        ("NIR R G B", "timm", [0.75, 7.5, 75, 0.75]),
        ("B G R E NIR", "timm", [0.6, 6, 60, 0.6, 6]),
        ("R G B", "timm", [1, 10, 100]),
    ],
)
def test_expansion(task: str, mode: str, expected: Sequence[float]) -> None:
    assert expanded(task, mode) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("task", ["NIR R G B", "B G R E NIR", "R"])
def test_mean_keeps_the_response_to_grey(task: str) -> None:
    assert sum(expanded(task, "mean")) == pytest.approx(111)


@pytest.mark.parametrize("task", ["NIR R G B", "B G R E NIR", "R G B", "NIR"])
@pytest.mark.parametrize("mode", ["nearest", "mean", "released", "linear", "timm"])
def test_a_kernel_may_be_resized_before_or_after_expansion(task: str, mode: str) -> None:
    """One is linear over channels, the other over pixels; at the paper's scale the resizing comes first."""
    published = torch.randn(64, 3, 14, 14, generator=torch.Generator().manual_seed(3))
    resized_first = expand_kernel(resample_patch_embed(published, [16, 16]), RGB, bands(task), mode)
    expanded_first = resample_patch_embed(expand_kernel(published, RGB, bands(task), mode).contiguous(), [16, 16])
    assert resized_first.shape == (64, len(task.split()), 16, 16)
    assert (resized_first - expanded_first).norm() < 1e-6 * expanded_first.norm()


@pytest.mark.parametrize("mode", ["nearest", "mean", "released", "linear", "timm"])
def test_published_kernels_are_expanded_in_float32_after_resizing(mode: str, weights_folder: Path) -> None:
    """Also those of files in half precision."""
    state = {name: tensor.half() for name, tensor in dinov2_state().items()}
    put(weights_folder, source("dinov2"), state)
    encoder = build_encoder(narrow("dinov2"), "paper", FBP_CS.bands, mode, "pretrained")
    resized = resample_patch_embed(state["patch_embed.proj.weight"].float(), [16, 16])
    kernel = encoder.model.patch_embed.proj.weight  # type: ignore[union-attr]
    assert kernel.dtype == torch.float32
    assert torch.equal(kernel, expand_kernel(resized, RGB, FBP_CS.bands, mode))


def test_an_unknown_mode_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"band_expansion=linaer.*nearest, mean, released, linear, timm"):
        expand_kernel(kernel(), RGB, bands("R G B"), "linaer")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("NIR R G B", [1, 2, 3]), ("R G B NIR", [0, 1, 2]), ("B G R E NIR", [2, 1, 0]), ("G", [0, 0, 0])],
)
def test_rgb_is_chosen_by_wavelength(given: str, expected: list[int]) -> None:
    assert nearest_bands(RGB, bands(given)) == expected


def test_rgb_of_the_hyperspectral_sensor() -> None:
    centres = [466, 480, 500, 520, 536, 550, 566, 580, 596, 610, 626, 640, 656, 670, 686, 700, 716, 730, 746, 760]
    given = [Band(name=str(nm), centre_um=nm / 1000) for nm in centres]
    chosen = [centres[i] for i in nearest_bands(RGB, given)]
    assert chosen == [670, 566, 480], "490 lies between 480 and 500: the earlier one"


def test_a_tie_goes_to_the_earlier_band() -> None:
    given = (Band(name="low", centre_um=0.5), Band(name="high", centre_um=1.5))
    assert nearest_bands((Band(name="middle", centre_um=1.0),), given) == [0]


@pytest.mark.parametrize("mode", ["nearest", "mean", "released", "linear", "timm"])
def test_an_encoder_sees_the_bands_through_the_expanded_kernel(mode: str) -> None:
    spec, made = BACKBONES["dinov3"], []
    for task, how in ((RGB, "nearest"), (FBP_CS.bands, mode)):
        torch.manual_seed(0)
        made.append(build_encoder(spec, "mini", task, how, "random").model.patch_embed.proj)
    rgb, task = made
    assert (task.in_channels, task.weight.shape[1]) == (4, 4)
    assert torch.equal(task.weight, expand_kernel(rgb.weight, RGB, FBP_CS.bands, mode))
    assert not task.weight.requires_grad
    assert torch.equal(task.bias, rgb.bias)


def test_the_segmentor_feeds_depth_by_wavelength() -> None:
    model = build("spectralmoe")
    assert model.rgb == [1, 2, 3]
    seen: list[torch.Tensor] = []
    model.depth_encoder.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(images())
    assert torch.equal(seen[0], images()[:, 1:])
