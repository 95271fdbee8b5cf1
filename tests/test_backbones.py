"""The backbones at both sizes: what they are by the published names, and DOFA beside its library's own way."""

from __future__ import annotations

import pytest
import torch

from benchmarks.catalogue import FBP_CS
from benchmarks.tasks import Band
from harness.backbones import build_encoder, encoder_spec
from harness.plan import Request, make_plan
from harness.scales import SCALES
from harness.zoo import BACKBONE_NAMES, BACKBONES, RGB
from tests.conftest import Program
from tests.encoders import ENCODERS, large, tiny
from tests.models import BANDS, images

# blocks, width, heads, prefix tokens, feature blocks, millions of parameters with three bands, patches of 16 pixels and
# the published grid of positions
PUBLISHED = {
    "clip_l": (24, 1024, 16, 1, (7, 11, 15, 23), 303.36),
    "sam_h": (32, 1280, 16, 0, (7, 15, 23, 31), 637.03),
    "eva02_l": (24, 1024, 16, 1, (7, 11, 15, 23), 303.45),
    "dinov2_l": (24, 1024, 16, 1, (7, 11, 15, 23), 304.55),
    "dinov3_l": (24, 1024, 16, 5, (7, 11, 15, 23), 303.08),
    "dofa_l": (24, 1024, 16, 1, (7, 11, 15, 23), 337.11),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    encoder = large(BACKBONE_NAMES[name].name)
    spec = encoder_spec(encoder, 512, SCALES["paper"].head, True, None)
    blocks, width, heads, prefix, features, millions = PUBLISHED[name]
    assert (spec.blocks, spec.width, spec.heads, spec.prefix_tokens) == (blocks, width, heads, prefix)
    assert (spec.feature_blocks, spec.grid) == (features, (32, 32))
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (64, 128)])
def test_maps_of_any_size_follow_the_image(name: str, size: tuple[int, int]) -> None:
    encoder = tiny(name)
    x = images(2, *size)
    maps = encoder(x)
    assert [m.shape for m in maps] == [torch.Size([2, 96, size[0] // 8, size[1] // 8])] * 4
    assert len(encoder(x, every_block=True)) == 6
    x[:, :, :8, 8:16] += 3
    moved = (encoder(x)[0] - maps[0]).norm(dim=1)
    assert all(int(image.argmax()) == 1 for image in moved.flatten(1)), "row 0, column 1 changed most"


def test_names_of_published_sizes_are_understood_and_shown(program: Program) -> None:
    assert set(BACKBONE_NAMES) == set(BACKBONES) | set(PUBLISHED)
    for scale, name in (("test", "dinov2"), ("paper", "dinov2_l")):
        for given in ("dinov2", "dinov2_l"):
            done = program("params", "--method", "lora", "--backbone", given, "--scale", scale, "--format", "csv")
            assert f"\nlora,{name}," in done.out, done.err
    refused = program("plan", "--suite", "smoke", "--backbone", "dinov2_h")
    assert refused.exit_code == 2
    assert "did you mean 'dinov2_l'" in refused.text


# --- DOFA


def test_dofa_agrees_with_its_library() -> None:
    """The library returns the normalised mean of the last patch tokens, and no maps."""
    encoder, x = tiny("dofa"), images()
    with torch.no_grad():
        theirs = encoder.model.forward_features(x, [band.centre_um for band in BANDS])
        ours = encoder.model.fc_norm(encoder(x, every_block=True)[-1].mean((2, 3)))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_dofa_goes_by_wavelengths_not_by_places() -> None:
    order, x = [2, 0, 3, 1], images()
    encoder = tiny("dofa")
    maps = encoder(x)
    encoder.wavelengths = tuple(encoder.wavelengths[i] for i in order)
    for ours, turned in zip(maps, encoder(x[:, order]), strict=True):
        torch.testing.assert_close(ours, turned, rtol=1e-4, atol=1e-4)
    assert (maps[0] - encoder(x)[0]).norm() > 1e-3 * maps[0].norm()


def test_dofa_takes_any_number_of_bands() -> None:
    for count in (1, 3, 32):
        bands = [Band(name=f"b{i}", centre_um=0.466 + 0.015 * i) for i in range(count)]
        encoder = build_encoder(BACKBONES["dofa"], "mini", bands, "nearest", "random")
        assert encoder(torch.randn(1, count, 64, 64))[0].shape == (1, 96, 8, 8)


def test_dofa_has_positions_before_any_weights_are_read() -> None:
    positions = tiny("dofa").model.pos_embed[0]
    assert positions.shape == (65, 96)
    assert not positions[0].any()
    assert torch.cdist(positions[1:], positions[1:]).fill_diagonal_(1).min() > 0.1, "no two places look alike"


def test_dofa_under_bf16_keeps_its_kernel() -> None:
    encoder, x = tiny("dofa"), images()
    with torch.autocast("cpu", torch.bfloat16):
        low = encoder(x)
    for ours, theirs in zip(low, encoder(x), strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_dofa_refuses_nanometres() -> None:
    with pytest.raises(ValueError, match=r"band centre 665.0: DOFA takes micrometres"):
        build_encoder(BACKBONES["dofa"], "mini", [Band(name="R", centre_um=665.0)], "nearest", "random")


def test_expansion_means_nothing_to_dofa() -> None:
    """One trial, not two rows with the same numbers."""
    keys = [
        {p.trial.key for p in make_plan(_request(name, setting), None).trials}
        for name in ("dofa", "clip")
        for setting in ("nearest", "mean")
    ]
    assert keys[0] == keys[1]
    assert not keys[2] & keys[3]


def _request(backbone: str, expansion: str) -> Request:
    settings = (f"protocol.band_expansion={expansion}",)
    return Request(suite="fair", scale="test", methods=("frozen",), backbones=(backbone,), seeds=1, settings=settings)


def test_the_bands_of_the_encoders_are_those_they_were_pretrained_on() -> None:
    assert all(spec.bands == RGB for name, spec in BACKBONES.items() if name != "dofa")
    assert {band.name for band in BACKBONES["dofa"].bands} == {band.name for band in FBP_CS.bands}
