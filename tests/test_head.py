"""Mask2Former head: linked queries, loss, semantic inference and initialisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerLoss,
    Mask2FormerPixelDecoder,
    Mask2FormerTransformerModule,
    multi_scale_deformable_attention,
)

from benchmarks.tasks import IGNORE
from harness.head import Mask2FormerHead, Predictions
from harness.head_parts import gather_corners, resized
from harness.segmentor import build_segmentor
from methods.base import Queries
from tests.models import CLASSES, HEAD, build, features, images, labels, make_trial, scores

WIDTH = 24
CONFIG = {
    "feature_size": HEAD.width,
    "mask_feature_size": HEAD.width,
    "hidden_dim": HEAD.width,
    "encoder_layers": HEAD.pixel_layers,
    "encoder_feedforward_dim": HEAD.pixel_feedforward,
    "decoder_layers": HEAD.decoder_layers,
    "dim_feedforward": HEAD.feedforward,
    "num_queries": HEAD.queries,
    "train_num_points": HEAD.points,
}


def reference(seed: int = 0) -> Mask2FormerForUniversalSegmentation:
    """The library's own model of the head's sizes on a tiny Swin, with the published weights of the loss spelt out."""
    swin = SwinConfig(
        embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    weights = {"class_weight": 2.0, "mask_weight": 5.0, "dice_weight": 5.0, "no_object_weight": 0.1}
    points = {"oversample_ratio": 3.0, "importance_sample_ratio": 0.75}
    config = Mask2FormerConfig(backbone_config=swin, num_labels=CLASSES, **CONFIG, **weights, **points)
    torch.manual_seed(seed)
    return Mask2FormerForUniversalSegmentation(config)


def make(queries: Queries | None = None, seed: int = 0) -> Mask2FormerHead:
    torch.manual_seed(seed)
    return Mask2FormerHead(WIDTH, CLASSES, HEAD, queries)


def linked(replace_content: bool) -> Queries:
    position = torch.randn(HEAD.queries, HEAD.width, generator=torch.Generator().manual_seed(1))
    return Queries(position_QC=position.requires_grad_(), replace_content=replace_content)


def maps(count: int = 2, seed: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, WIDTH, side, side, generator=generator) for side in (16, 8, 4, 2)]


def predicted(count: int = 2, seed: int = 3) -> Predictions:
    """Random predictions of three layers."""
    generator = torch.Generator().manual_seed(seed)
    classes = [torch.randn(count, HEAD.queries, CLASSES + 1, generator=generator) for _ in range(3)]
    masks = [3 * torch.randn(count, HEAD.queries, 16, 16, generator=generator) for _ in range(3)]
    return Predictions(classes=classes, masks=masks)


# --- Queries


@pytest.mark.parametrize("replace_content", [False, True])
def test_gradient_reaches_the_linked_queries(replace_content: bool) -> None:
    queries = linked(replace_content)
    head = make(queries)
    assert head.linked
    head.loss(head(maps(), queries), labels(2, 64, 64)).backward()
    assert queries.position_QC.grad is not None
    assert queries.position_QC.grad.abs().sum(1).min() > 0
    assert all(p.grad is not None for p in head.parameters())


def test_replace_content_drops_the_tables() -> None:
    tables = {"transformer.queries_embedder.weight", "transformer.queries_features.weight"}
    content = {"transformer.content.weight", "transformer.content.bias"}
    expected = {None: tables, False: {"transformer.queries_features.weight"}, True: content}
    for kind, names in expected.items():
        state = make(None if kind is None else linked(kind)).state_dict()
        assert (tables | content) & set(state) == names


def test_linked_positions_from_the_table_give_the_plain_head() -> None:
    plain = make()
    queries = Queries(position_QC=plain.transformer.queries_embedder.weight, replace_content=False)
    ours = make(queries, seed=1)
    ours.load_state_dict({k: v for k, v in plain.state_dict().items() if "queries_embedder" not in k}, strict=True)
    a, b = plain(maps(), None), ours(maps(), queries)
    assert len(a.classes) == len(a.masks) == HEAD.decoder_layers
    for x, y in zip(a.classes + a.masks, b.classes + b.masks, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_content_is_derived_from_the_positions() -> None:
    queries = linked(True)
    ours = make(queries)
    table = make(linked(False), seed=1)
    state = {name: tensor for name, tensor in ours.state_dict().items() if "content" not in name}
    content = ours.transformer.content(queries.position_QC)
    table.load_state_dict(state | {"transformer.queries_features.weight": content}, strict=True)
    alone = Queries(position_QC=queries.position_QC.detach().clone().requires_grad_(), replace_content=False)
    losses = []
    for head, given in ((ours, queries), (table, alone)):
        torch.manual_seed(5)
        losses.append(head.loss(head(maps(), given), labels(2, 64, 64)))
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1])
    # the positions' gradient is that of the positions alone plus that of the content, through the linear layer
    through_content = table.transformer.queries_features.weight.grad @ ours.transformer.content.weight
    expected = alone.position_QC.grad + through_content
    torch.testing.assert_close(queries.position_QC.grad, expected, rtol=1e-3, atol=1e-5)
    assert through_content.norm() > 0.01 * expected.norm()


@pytest.mark.parametrize("method", ["rein", "spectralmoe"])
def test_plain_queries_ignore_the_method(method: str) -> None:
    plain = build(method, linked=False)
    assert plain.method.queries() is None
    assert not plain.head.linked
    assert build(method).head.linked
    assert plain.head.state_dict().keys() == build("frozen").head.state_dict().keys()
    assert torch.isfinite(plain.train().losses(images(), labels()).total)
    # a method that offers queries all the same is not asked
    offering = build(method)
    offering.head = plain.head
    assert torch.equal(features(offering, images())[0], features(plain, images())[0])
    assert torch.equal(scores(offering, images()), scores(plain, images()))
    assert torch.equal(offering.predict(images()), plain.eval().predict(images()))


# --- Loss


def test_loss_equals_the_librarys_on_the_same_predictions() -> None:
    model, predictions, label = reference(), predicted(), labels(2, 64, 64)
    label[0, :20] = IGNORE
    present = [[int(c) for c in image.unique() if c != IGNORE] for image in label]
    auxiliary = model.get_auxiliary_logits(predictions.classes, predictions.masks)
    assert len(auxiliary) == 2
    torch.manual_seed(5)
    parts = model.get_loss_dict(
        masks_queries_logits=predictions.masks[-1],
        class_queries_logits=predictions.classes[-1],
        mask_labels=[torch.stack([(image == c).float() for c in cs]) for image, cs in zip(label, present, strict=True)],
        class_labels=[torch.tensor(cs) for cs in present],
        auxiliary_predictions=auxiliary,
    )
    head = make()
    torch.manual_seed(5)
    torch.testing.assert_close(head.loss(predictions, label), model.get_loss(parts).reshape(()), rtol=1e-6, atol=0)
    assert len(parts) == 9


def test_loss_is_taken_in_fp32() -> None:
    exact = predicted()
    half = Predictions(classes=[x.bfloat16() for x in exact.classes], masks=[x.bfloat16() for x in exact.masks])
    rounded = Predictions(classes=[x.float() for x in half.classes], masks=[x.float() for x in half.masks])
    head, losses = make(), []
    for predictions in (half, rounded):
        torch.manual_seed(5)
        losses.append(head.loss(predictions, labels(2, 64, 64)))
    assert losses[0].dtype == torch.float32
    assert losses[0].item() == losses[1].item()


@pytest.mark.parametrize("empty", [[0], [1], [0, 1]])
def test_an_image_without_labels_gives_no_nan(empty: list[int]) -> None:
    head, label = make(), labels(2, 64, 64)
    label[empty] = IGNORE
    torch.manual_seed(0)
    loss = head.loss(head(maps(), None), label)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)
    assert head.class_layer.weight.grad.any(), "no-object is still learned"


# --- Inference


def resize(x: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    """Bilinear with pixel centres at half integers, edges repeated, along the last two axes."""
    for axis, size in ((-2, height), (-1, width)):
        old = x.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        part = (at - low).reshape(-1, 1) if axis == -2 else at - low
        x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
    return x


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80)])
def test_semantic_equals_the_formula(height: int, width: int) -> None:
    predictions = predicted()
    logits = predictions.classes[-1].double().numpy()
    chance = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    masks = 1 / (1 + np.exp(-resize(predictions.masks[-1].double().numpy(), height, width)))
    expected = np.zeros((2, CLASSES, height, width))
    for image, query, kind in np.ndindex(2, HEAD.queries, CLASSES):
        expected[image, kind] += chance[image, query, kind] * masks[image, query]
    ours = Mask2FormerHead.semantic(predictions, (height, width))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=1e-4)


# --- Initialisation


def test_same_seed_gives_the_same_head_bit_for_bit_and_nothing_uninitialised() -> None:
    torch.use_deterministic_algorithms(True)  # fills torch.empty with NaN
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory
        for queries in (None, linked(False), linked(True)):
            first, second, other = (make(queries, seed).state_dict() for seed in (0, 0, 1))
            assert all(torch.isfinite(tensor).all() for tensor in first.values())
            assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
            assert not all(torch.equal(tensor, other[name]) for name, tensor in first.items())
    finally:
        torch.use_deterministic_algorithms(False)


def test_every_tensor_starts_as_in_the_library() -> None:
    ours = make().state_dict()
    prefixes = {
        "model.pixel_level_module.decoder.": "pixel_decoder.",
        "model.transformer_module.": "transformer.",
        "class_predictor.": "class_layer.",
    }
    compared = 0
    for name, theirs in reference().state_dict().items():
        for prefix, our_prefix in prefixes.items():
            if name.startswith(prefix):
                tensor = ours[name.replace(prefix, our_prefix, 1)]
                compared += 1
                if theirs.numel() >= 256 and theirs.std() > 0:
                    assert tensor.std().item() == pytest.approx(theirs.std().item(), rel=0.25), name
                elif theirs.std() == 0:
                    assert torch.equal(tensor, theirs), name
    assert compared == len([name for name in ours if not name.startswith("criterion")])
    assert ours["pixel_decoder.level_embed"].std().item() == pytest.approx(1, rel=0.15)
    assert ours["transformer.level_embed.weight"].std().item() == pytest.approx(1, rel=0.15)


def test_no_method_changes_anothers_head() -> None:
    frozen = build_segmentor(make_trial("frozen")).head.state_dict()
    for trial in (make_trial("rein", "protocol.queries=plain"), make_trial("lora"), make_trial("rein")):
        head = build_segmentor(trial).head
        other = head.state_dict()
        assert head.linked or other.keys() == frozen.keys()
        assert {name for name in other.keys() - frozen.keys() if "content" not in name} == set()
        for name in other.keys() & frozen.keys():
            assert torch.equal(other[name], frozen[name]), name


# --- Less work than the library's for the same numbers


def library(head: Mask2FormerHead) -> tuple[Mask2FormerPixelDecoder, Mask2FormerTransformerModule]:
    """The library's own decoders with the head's weights."""
    config = head.config
    pixels = Mask2FormerPixelDecoder(config, feature_channels=[WIDTH] * 4)
    transformer = Mask2FormerTransformerModule(HEAD.width, config)
    pixels.load_state_dict(head.pixel_decoder.state_dict(), strict=True)
    transformer.load_state_dict(head.transformer.state_dict(), strict=True)
    return pixels, transformer


@pytest.mark.parametrize("factors", [(1, 1, 1, 1), (4, 2, 1, 0.5)])
def test_decoders_equal_the_librarys_in_values_and_gradients(factors: tuple[float, ...]) -> None:
    head = make()
    pixels, transformer = library(head)
    torch.manual_seed(5)
    levels = [torch.randn(2, WIDTH, 8, 8) for _ in range(4)] if factors[0] == 4 else maps()
    found: list[list[Tensor]] = []
    for ours in (True, False):
        given = [level.clone().requires_grad_() for level in levels]
        if ours:
            predictions = head(given, None, factors)
            masks, classes = predictions.masks, predictions.classes
            weights = [*head.pixel_decoder.parameters(), *head.transformer.parameters()]
        else:
            made = pixels([resized(level, factor) for level, factor in zip(given, factors, strict=True)])
            output = transformer(list(made.multi_scale_features), made.mask_features)
            masks = list(output.masks_queries_logits)
            classes = [head.class_layer(state.transpose(0, 1)) for state in output.intermediate_hidden_states]
            weights = [*pixels.parameters(), *transformer.parameters()]
        loss = sum((part.square().mean() for part in (*masks, *classes)), torch.zeros(()))
        gradients = torch.autograd.grad(loss, [*given, *weights])
        found.append([*masks, *classes, *gradients])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-6


def test_sampling_by_corners_equals_the_librarys_also_outside_of_the_maps() -> None:
    torch.manual_seed(6)
    shapes = [(2, 3), (4, 6), (8, 12)]
    tokens = sum(height * width for height, width in shapes)
    parts = (
        torch.randn(2, tokens, 3, 5, dtype=torch.float64),
        torch.rand(2, 7, 3, 3, 4, 2, dtype=torch.float64) * 1.6 - 0.3,
        torch.rand(2, 7, 3, 3, 4, dtype=torch.float64),
    )
    found = []
    for sample in (gather_corners, multi_scale_deformable_attention):
        value, place, share = leaves = [part.clone().requires_grad_() for part in parts]
        out = sample(value, shapes, place, share)
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_the_head_calls_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    make()(maps(), None)
    assert len(calls) == HEAD.decoder_layers - 1


def test_loss_and_gradients_equal_the_librarys_from_the_same_random_numbers() -> None:
    head, label = make(), labels(2, 64, 64)
    label[0, :20] = IGNORE
    theirs = Mask2FormerLoss(head.config, head.weights)
    found = []
    for criterion in (head.criterion, theirs):
        head.criterion = criterion
        predictions = predicted()
        leaves = [part.requires_grad_() for part in (*predictions.masks, *predictions.classes)]
        torch.manual_seed(7)
        loss = head.loss(predictions, label)
        found.append([loss, *torch.autograd.grad(loss, leaves), torch.rand(3)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_pairs_equal_the_librarys_also_where_costs_are_no_numbers() -> None:
    head = make()
    theirs = Mask2FormerLoss(head.config, head.weights).matcher
    classes, masks = torch.randn(1, HEAD.queries, CLASSES + 1), torch.randn(1, HEAD.queries, 16, 16)
    masks[0, 3] = torch.nan
    label = [torch.rand(4, 64, 64).round()]
    pairs = []
    for matcher in (head.criterion.matcher, theirs):
        torch.manual_seed(8)
        ((queries, targets),) = matcher(masks, classes, label, [torch.arange(4)])
        pairs.append((queries.tolist(), targets.tolist()))
    assert pairs[0] == pairs[1]
    assert 3 not in pairs[0][0]
