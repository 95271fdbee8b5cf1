"""Backbone, depth encoder, method and head together, with random encoder weights at mini sizes."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.backbones import Encoder
from harness.lookup import load_class
from harness.segmentor import DepthInput, Segmentor, build_segmentor
from harness.zoo import DEPTH_ENCODER
from methods import METHODS
from tests.models import (
    CASES,
    Adding,
    Balancing,
    Dropping,
    Probe,
    adapter_parameters,
    build,
    build_case,
    features,
    images,
    labels,
    make_trial,
    random_depth,
    random_encoder,
    randomise,
    relative,
    scores,
    small_sam,
    small_vit,
)

ADAPTED = [case for case in CASES if case != "frozen"]


# --- The adapter and the frozen encoders


def test_random_encoder_as_the_control_builds_it_has_working_blocks() -> None:
    """`protocol.encoder_init=random` must not mean blocks that pass their input on (a layer scale of 1e-5)."""
    model = build_segmentor(make_trial("frozen", "protocol.encoder_init=random"))
    with torch.no_grad():
        maps = model.encoder(images(), every_block=True)
    assert relative(maps[0], maps[-1]) > 0.01


def test_every_method_takes_part_and_those_that_declare_it_are_identities() -> None:
    ours = {name for name in METHODS if not name.startswith("peft:")}
    assert {name for name, _ in CASES.values()} == ours
    declared = {name for name in ours if load_class(METHODS[name]).identity_at_init}
    assert declared == {"frozen", "full", *(name for name, options in IDENTITIES if not options)}


IDENTITIES = [("lora", {}), ("adaptformer", {}), ("depth_add", {}), ("rein", {"zero_init": True})]
IDENTITIES += [("lora", {"target": "qkv_fused"}), ("lora", {"target": "qkvo"})]


@pytest.mark.parametrize(("method", "options"), IDENTITIES)
@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 64), (3, 96, 80)])
def test_identity_at_init(method: str, options: dict[str, Any], count: int, height: int, width: int) -> None:
    x = images(count, height, width)
    for ours, frozen in zip(features(build(method, options), x), features(build("frozen"), x), strict=True):
        assert torch.equal(ours, frozen)


@pytest.mark.parametrize("case", ADAPTED)
@pytest.mark.parametrize("linked", [True, False])
def test_a_randomised_adapter_changes_the_features_clearly(case: str, linked: bool) -> None:
    model = randomise(build_case(case, linked=linked))
    for ours, frozen in zip(features(model, images()), features(build("frozen"), images()), strict=True):
        # prompts only add keys to attention, which does little in random blocks
        assert relative(frozen, ours) > (0.005 if case == "vpt" else 0.05)


@pytest.mark.parametrize("case", CASES)
def test_frozen_modules_stay_in_evaluation_mode(case: str) -> None:
    model = build_case(case).train()
    assert model.training
    assert model.method.training
    assert all(module.training for module in model.head.modules())
    if model.depth_encoder:
        assert not any(module.training for module in model.depth_encoder.modules())
    original = {name for name, _ in build("frozen").encoder.named_modules()}
    for name, module in model.encoder.named_modules():
        if name in original and not any(p.requires_grad for p in module.parameters()):
            assert not module.training, name
    assert not any(module.training for module in model.eval().modules())


def test_what_a_method_puts_into_the_encoder_follows_the_mode() -> None:
    model = build(Dropping)
    assert torch.equal(features(model, images())[0], features(build("frozen"), images())[0])
    model.train()
    assert model.encoder.blocks[0].dropped.training
    assert not model.encoder.blocks[0].norm1.training


@pytest.mark.parametrize("case", ["lora", "rein", "spectralmoe-paper"])
def test_activation_checkpointing_changes_no_gradient(case: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = build_case(case).train()
        model.encoder.model.set_grad_checkpointing(checkpointing)
        torch.manual_seed(0)
        model.losses(images(), labels()).total.backward()
        gradients.append({name: p.grad for name, p in adapter_parameters(model).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda m, n=name: f"{n} {m}")


@pytest.mark.parametrize("case", CASES)
def test_save_and_load_reproduce_the_scores(case: str) -> None:
    saved = randomise(build_case(case))
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    fresh = build_case(case, seed=1, encoder=random_encoder(seed=9))
    assert not torch.equal(scores(fresh, images()), scores(saved, images()))
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(scores(fresh, images()), scores(saved, images()))


# --- Tokens, maps and losses


def test_prefix_tokens_never_reach_refine_and_pass_unchanged() -> None:
    encoder = random_encoder()
    raw: dict[int, Tensor] = {}
    refined: dict[int, Tensor] = {}
    encoder.hook_blocks(lambda output, i: raw.update({i: output}))
    model = build(Adding, encoder=encoder)
    encoder.hook_blocks(lambda output, i: refined.update({i: output}))
    features(model, images())
    assert set(raw) == set(refined) == set(model.method.seen) == set(range(6))
    for i in range(6):
        assert raw[i].shape == (2, 5 + 64, 96)
        assert torch.equal(refined[i][:, :5], raw[i][:, :5])
        assert torch.equal(refined[i][:, 5:], raw[i][:, 5:] + 1)
        assert torch.equal(model.method.seen[i][0], raw[i][:, 5:])


@pytest.mark.parametrize("case", CASES)
def test_adapt_keeps_the_grid_layout(case: str) -> None:
    method = randomise(build_case(case, encoder=small_sam())).eval().method
    assert method.spec.prefix_tokens == 0
    tokens, depth = torch.randn(2, 3, 5, 96), torch.randn(2, 15, 96)
    method.grid = (3, 5)
    with torch.no_grad():
        flat, _ = method.adapt(tokens.flatten(1, 2), 1, depth)
        grid, _ = method.adapt(tokens, 1, depth)
    assert torch.equal(grid, flat.unflatten(1, (3, 5)))
    assert (relative(tokens, grid) > 0.01) == method.overrides("refine")


@pytest.mark.parametrize("case", ADAPTED)
def test_an_encoder_that_keeps_the_grid_trains(case: str) -> None:
    model = randomise(build_case(case, encoder=small_sam()))
    adapted, frozen = features(model, images())[2], features(build("frozen", encoder=small_sam()), images())[2]
    assert relative(frozen, adapted) > 0.05
    model.train().losses(images(), labels()).total.backward()
    assert all(p.grad is not None for p in adapter_parameters(model).values())


def test_maps_are_a_pyramid_of_the_token_grid() -> None:
    model = build("frozen")
    x = images(1, 64, 96)
    maps = features(model, x)
    with torch.no_grad():
        raw = [model.encoder(x, every_block=True)[block] for block in (1, 2, 3, 5)]
    assert [tuple(m.shape) for m in maps] == [(1, 96, 32, 48), (1, 96, 16, 24), (1, 96, 8, 12), (1, 96, 4, 6)]
    for size, feature, scaled in zip([(32, 48), (16, 24), (8, 12), (4, 6)], raw, maps, strict=True):
        resized = nn.functional.interpolate(feature, size=size, mode="bilinear", align_corners=False)
        torch.testing.assert_close(scaled, resized, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "options"), [("spectralmoe", {}), ("depthforge", {"refine_maps": True})])
def test_without_a_pyramid_all_four_maps_stay_on_the_token_grid(method: str, options: dict[str, Any]) -> None:
    model = build(method, options)
    x = images(2, 64, 96)
    pyramid = features(model, x)
    model.factors = (1, 1, 1, 1)
    maps = features(model, x)
    assert [tuple(m.shape) for m in maps] == [(2, 96, 8, 12)] * 4
    assert torch.equal(maps[2], pyramid[2]) or options, "DepthForge's decoder mixes the maps"
    model.train().losses(x, labels(2, 64, 96)).total.backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert model.eval().predict(images(1, 70, 50)).shape == (1, 70, 50)


def test_the_protocol_decides_on_pyramid_and_pairing() -> None:
    default = build_segmentor(make_trial("depth_add"))
    assert default.factors == (4, 2, 1, 0.5)
    assert default.depth.spread
    changed = build_segmentor(make_trial("depth_add", "protocol.pyramid=none", "protocol.depth_pairing=same"))
    assert [m.shape[-1] for m in features(changed, images())] == [8] * 4
    assert not changed.depth.spread


@pytest.mark.parametrize("linked", [True, False])
def test_the_head_has_as_many_queries_as_there_are_tokens(linked: bool) -> None:
    setting = f"protocol.queries={'linked' if linked else 'plain'}"
    for tokens, queries in ((5, 5), (0, 16)):
        model = build_segmentor(make_trial("spectralmoe", f"spectralmoe.tokens={tokens}", setting))
        assert model.method.experts_a.shape[2] == queries
        maps, _ = model(images())
        found = model.head(maps, model.method.queries() if linked else None)
        assert found.masks[-1].shape[1] == found.classes[-1].shape[1] == queries
        model.train().losses(images(), labels()).total.backward()


class Wrong(Probe):
    """Loses a token."""

    def refine(self, x_BND: Tensor, layer: int, depth_BMD: Tensor | None = None) -> Tensor:
        return x_BND[:, 1:]


def test_a_wrong_shape_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"probe.refine returned shape \(2, 63, 96\) after block 0.*\(2, 64, 96\)"):
        build(Wrong)(images())


def test_auxiliary_losses_are_averaged_over_the_layers_that_return_one() -> None:
    model = build(Balancing).train()
    for _ in range(2):
        losses = model.losses(images(), labels())
        assert losses.auxiliary.item() == 6.0, "2 (1 + 3 + 5) / 3, and nothing left over from the pass before"
    assert losses.total.item() == pytest.approx(losses.task.item() + 6.0)
    losses.total.backward()
    assert model.method.weight.grad.item() == 3.0
    assert build("frozen").losses(images(), labels()).auxiliary.item() == 0


@pytest.mark.parametrize("case", CASES)
def test_predict_takes_any_size(case: str) -> None:
    model = randomise(build_case(case)).eval()
    x = images(2, 70, 50)
    padded = nn.functional.pad(x, (0, 14, 0, 10))
    prediction = model.predict(x)
    assert prediction.shape == (2, 70, 50)
    assert torch.equal(prediction, scores(model, padded)[..., :70, :50].argmax(1))
    assert torch.equal(model.predict(padded)[:, :70, :50], prediction)


@pytest.mark.parametrize("case", CASES)
def test_batch_composition_and_order_do_not_matter(case: str) -> None:
    model = randomise(build_case(case))
    x = images(3)
    together = scores(model, x)
    assert relative(together[0], together[1]) > 1e-3
    torch.testing.assert_close(scores(model, x[[2, 0, 1]]), together[[2, 0, 1]], rtol=1e-3, atol=1e-4)
    for i in range(3):
        torch.testing.assert_close(scores(model, x[i : i + 1])[0], together[i], rtol=1e-3, atol=1e-4)


# --- Depth


def watched(noise: float = 0.0, shuffled: bool = False, encoder: Encoder | None = None) -> tuple[Segmentor, Encoder]:
    depth = DepthInput(encoder=encoder or random_depth(), noise=noise, shuffled=shuffled)
    return build(Probe, {"depth": True}, depth=depth), depth.encoder


def depth_seen(model: Segmentor, x: Tensor) -> list[Tensor]:
    features(model, x)
    return [model.method.seen[i][1] for i in range(6)]


@torch.no_grad()
def depth_maps(encoder: Encoder, x: Tensor) -> list[Tensor]:
    """Maps of every depth block, fed R, G, B of NIR, R, G, B."""
    return encoder(x[:, [1, 2, 3]], every_block=True)


def test_depth_blocks_are_paired_by_the_floor_rule() -> None:
    model, encoder = watched()
    maps, seen = depth_maps(encoder, images()), depth_seen(model, images())
    for i, block in enumerate([0, 0, 1, 2, 2, 3]):
        assert torch.equal(seen[i], maps[block].flatten(2).mT), f"backbone block {i}"


@pytest.mark.parametrize(("blocks", "paired"), [(4, [0, 1, 2, 3, 3, 3]), (8, [0, 1, 2, 3, 4, 5])])
def test_depth_blocks_may_be_paired_one_by_one(blocks: int, paired: list[int]) -> None:
    encoder = small_vit(DEPTH_ENCODER.entry, depth=blocks)
    model = build(Probe, {"depth": True}, depth=DepthInput(encoder=encoder, spread=False))
    maps, seen = depth_maps(encoder, images()), depth_seen(model, images())
    for i, block in enumerate(paired):
        assert torch.equal(seen[i], maps[block].flatten(2).mT), f"backbone block {i}"


def test_depth_is_resized_to_the_token_grid() -> None:
    model, encoder = watched(encoder=small_vit(DEPTH_ENCODER.entry, patch_size=16, embed_dim=24, depth=2, num_heads=2))
    assert (model.method.spec.depth_grid, model.method.spec.depth_width) == ((4, 4), 24)
    maps, seen = depth_maps(encoder, images()), depth_seen(model, images())
    resized = [nn.functional.interpolate(m, size=(8, 8), mode="bilinear", align_corners=False) for m in maps]
    for i, block in enumerate([0, 0, 0, 1, 1, 1]):
        assert torch.equal(seen[i], resized[block].flatten(2).mT), f"backbone block {i}"


def test_depth_of_another_width_reaches_spectralmoe_through_its_projection() -> None:
    narrow = small_vit(DEPTH_ENCODER.entry, embed_dim=24, depth=2, num_heads=2)
    model = build("spectralmoe", depth=DepthInput(encoder=narrow)).train()
    model.losses(images(), labels()).total.backward()
    assert model.method.depth_projection.weight.grad.any()


def test_true_depth_does_not_depend_on_the_rest_of_the_batch() -> None:
    model, _ = watched()
    x = images(3)
    for together, alone in zip(depth_seen(model, x), depth_seen(model, x[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)


def test_shuffled_depth_is_another_image_turned_around() -> None:
    model, encoder = watched(shuffled=True)
    turned = [m.flip(2, 3).flatten(2).mT for m in depth_maps(encoder, images(3))]
    for i, seen in enumerate(depth_seen(model, images(3))):
        other = [[j for j in range(3) if torch.equal(seen[row], turned[i * 4 // 6][j])] for row in range(3)]
        assert sorted(other) == [[0], [1], [2]]
        assert all(rows != [row] for row, rows in enumerate(other))


def test_depth_noise_is_relative_to_the_spread_of_each_image_and_drawn_anew() -> None:
    model, encoder = watched(noise=0.5)
    x = images() * torch.tensor([1.0, 0.01])[:, None, None, None]
    clean = depth_maps(encoder, x)[0].flatten(2).mT
    torch.manual_seed(0)
    first, second = depth_seen(model, x)[0], depth_seen(model, x)[0]
    assert not torch.equal(first, second)
    for noise, spread in zip((first - clean).std((1, 2)), clean.std((1, 2)), strict=True):
        assert (noise / spread).item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("case", ["spectralmoe-paper", "spectralmoe-released", "depth_add"])
@pytest.mark.parametrize("change", [{"shuffled": True}, {"noise": 1.0}], ids=str)
def test_the_depth_controls_change_the_output(case: str, change: dict[str, Any]) -> None:
    true, again = (randomise(build_case(case)) for _ in range(2))
    control = randomise(build_case(case, depth=DepthInput(encoder=random_depth(), **change)))
    assert torch.equal(features(true, images())[3], features(again, images())[3])
    assert relative(features(true, images())[3], features(control, images())[3]) > 1e-3
