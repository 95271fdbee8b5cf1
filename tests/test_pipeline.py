"""From tiles to batches, on a small reader in memory, and the split into source, validation and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.catalogue import FBP_CS
from benchmarks.tasks import IGNORE, Sample, TileRef
from harness.augment import PhotometricJitter, QuickCrop, RandomCrop
from harness.pipeline import Batch, Statistics, evaluation_batches, source_statistics, train_batches
from harness.scales import SCALES, Protocol
from harness.split import split_tiles, spread

CROP = 32
CLASSES = ("water", "forest", "crop", "road")
K = len(CLASSES)
UNIT = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4)
PLAIN = replace(SCALES["mini"].protocol, crop=CROP, batch_size=4, resize=(), cat_max_ratio=1.0, flip=False)
FULL = replace(PLAIN, resize=(0.75, 1.0, 1.5), cat_max_ratio=0.75, flip=True, photometric=True)


@dataclass
class Memory:
    """A reader over arrays; tiles are named `scene/name` below their domain."""

    samples: dict[TileRef, Sample]
    fingerprint: str = "memory"

    def tiles(self, domain: str) -> list[TileRef]:
        return [tile for tile in self.samples if tile.domain == domain]

    def read(self, tile: TileRef) -> Sample:
        return Sample(image=self.samples[tile].image.copy(), label=self.samples[tile].label.copy())

    def check(self, tiles: Sequence[TileRef], on_tile: Callable[[], None]) -> None:
        raise AssertionError("not asked")


def tile(name: str, domain: str = "source", scene: str = "s") -> TileRef:
    return TileRef(domain=domain, scene=scene, name=name)


def coded(label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """An image that tells each pixel's label in every band: 40, 41, 42, 43 plus 50 times the label."""
    return np.stack([40 + band + 50 * (label % K) for band in range(4)], axis=-1).astype(np.uint8)


def paired(count: int = 6, height: int = 48, width: int = 48, seed: int = 0) -> Memory:
    """Tiles whose image tells the label of every pixel; labels are uneven blocks."""
    rng = np.random.default_rng(seed)
    samples = {}
    for i in range(count):
        coarse = rng.integers(0, K, (-(-height // 6), -(-width // 6)))
        label = coarse.repeat(6, 0).repeat(6, 1)[:height, :width].astype(np.uint8)
        samples[tile(f"t{i}")] = Sample(image=coded(label), label=label)
    return Memory(samples)


def batches(reader: Memory, protocol: Protocol, statistics: Statistics = UNIT, **more: Any) -> list[Batch]:
    given = {"task": FBP_CS, "classes": CLASSES, "tiles": reader.tiles("source"), "steps": 4, "seed": 0, "workers": 0}
    return list(train_batches(reader, statistics=statistics, protocol=protocol, **(given | more)))


def same(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(a.image, b.image) and torch.equal(a.label, b.label) and a.tiles == b.tiles for a, b in pairs)


def test_batches_depend_on_the_seed_alone() -> None:
    first, other, single = batches(paired(), FULL), batches(paired(), FULL, seed=1), batches(paired(1), FULL)
    np.random.seed(123)
    assert same(first, batches(paired(), FULL))
    assert [batch.tiles for batch in other] != [batch.tiles for batch in first], "another order"
    assert not same(single, batches(paired(1), FULL, seed=1)), "another augmentation"
    assert not torch.equal(single[0].image, single[1].image)
    assert same(first, batches(paired(), FULL, workers=2)), "not on who reads"
    assert same(first, batches(paired(), FULL, steps=6)[:4]), "not on what comes later"
    for batch in first:
        assert (tuple(batch.image.shape), batch.image.dtype) == ((4, 4, CROP, CROP), torch.float32)
        assert (tuple(batch.label.shape), batch.label.dtype) == ((4, CROP, CROP), torch.int64)
        assert set(batch.label.unique().tolist()) <= {*range(K), IGNORE}
        assert len(batch.tiles) == 4


def test_every_pass_shows_every_tile_once_in_an_order_of_its_own() -> None:
    names = [t.name for batch in batches(paired(6), PLAIN, steps=6) for t in batch.tiles]
    passes = [names[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(one) == [f"t{i}" for i in range(6)] for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def decoded(batch: Batch) -> torch.Tensor:
    """Labels read off the image, band by band [bands, B, H, W]."""
    bands = torch.arange(4)[None, :, None, None]
    return ((batch.image - 40 - bands) / 50).transpose(0, 1)


def test_crop_and_flip_keep_image_and_label_together() -> None:
    reader = paired()
    shown = batches(reader, replace(PLAIN, flip=True), steps=8)
    flipped, corners = [], set()
    for batch in shown:
        assert torch.equal(decoded(batch), batch.label.expand(4, *batch.label.shape).float())
        for label, ref in zip(batch.label.numpy(), batch.tiles, strict=True):
            whole = reader.samples[ref].label
            places = [
                (turned, row, column)
                for turned, source in enumerate((whole, whole[:, ::-1]))
                for row in range(48 - CROP + 1)
                for column in range(48 - CROP + 1)
                if np.array_equal(source[row : row + CROP, column : column + CROP], label)
            ]
            assert len(places) == 1, "cut from its own tile, as it was or mirrored left to right"
            flipped.append(places[0][0])
            corners.add(places[0][1:])
    assert 0.2 < np.mean(flipped) < 0.8
    assert len(corners) > 16


def test_small_tiles_are_normalised_padded_with_the_mean_and_ignored() -> None:
    reader = paired(height=20, width=26)
    statistics = Statistics(mean=(100.0, 90.0, 80.0, 70.0), std=(10.0, 20.0, 30.0, 40.0))
    for batch in batches(reader, PLAIN, statistics):
        for padding in (np.s_[..., 20:, :], np.s_[..., 26:]):
            assert (batch.label[padding] == IGNORE).all()
            assert (batch.image[padding] == 0).all()
        for image, label, ref in zip(batch.image, batch.label, batch.tiles, strict=True):
            assert np.array_equal(label[:20, :26].numpy(), reader.samples[ref].label)
            expected = (reader.samples[ref].image - np.array(statistics.mean)) / np.array(statistics.std)
            np.testing.assert_allclose(image[:, :20, :26].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_resize_scales_image_and_label_alike() -> None:
    label = np.zeros((CROP, CROP), dtype=np.uint8)
    label[:, CROP // 2 :] = 2
    label[0] = IGNORE
    reader = Memory({tile("half"): Sample(image=coded(label), label=label)})
    widths = set()
    for batch in batches(reader, replace(PLAIN, resize=(0.5, 0.75)), steps=8):
        for image, seen in zip(batch.image, batch.label, strict=True):
            width = int((seen[CROP // 4] != IGNORE).sum())
            widths.add(width)
            assert set(seen.unique().tolist()) <= {0, 2, IGNORE}, "nearest: no label between"
            assert (seen[CROP // 4, : width // 2] == 0).all()
            assert (seen[CROP // 4, width // 2 : width] == 2).all()
            assert abs(image[0, CROP // 4, 1].item() - 40) < 1
            assert abs(image[0, CROP // 4, width - 2].item() - 140) < 1
    assert widths == {CROP // 2, CROP * 3 // 4}


def test_a_crop_of_one_class_is_redrawn() -> None:
    label = np.zeros((128, 128), dtype=np.uint8)
    label[:40, :40] = np.random.default_rng(0).integers(0, K, (40, 40))
    reader = Memory({tile("lake"): Sample(image=coded(label), label=label)})

    monotonous = {}
    for ratio in (0.75, 1.0):
        shown = batches(reader, replace(PLAIN, cat_max_ratio=ratio), steps=12)
        monotonous[ratio] = sum(len(label.unique()) == 1 for batch in shown for label in batch.label)
    assert monotonous[0.75] < monotonous[1.0]


@pytest.mark.parametrize("ratio", [0.4, 0.75, 1.0])
def test_crops_are_those_of_mmsegmentation(ratio: float) -> None:
    ours, theirs = (crop((CROP, CROP), cat_max_ratio=ratio) for crop in (QuickCrop, RandomCrop))
    rng = np.random.default_rng(0)
    for seed in range(60):
        label = rng.choice([0, 1, IGNORE], size=(60, 50), p=rng.dirichlet((0.5, 0.5, 0.5))).astype(np.uint8)
        if seed % 7 == 0:
            label[:] = rng.choice([0, IGNORE])
        results = {"img": coded(label), "gt_seg_map": label, "seg_fields": ["gt_seg_map"]}
        boxes = []
        for crop in (ours, theirs):
            np.random.seed(seed)
            boxes.append((tuple(crop.crop_bbox(results)), np.random.randint(1 << 30)))
        assert boxes[0] == boxes[1], "the same box, after as many draws"


def test_statistics_use_labelled_pixels_only() -> None:
    rng = np.random.default_rng(0)
    samples, valid = {}, []
    for i in range(5):
        label = rng.integers(0, K, (9, 7)).astype(np.uint8)
        label[rng.random((9, 7)) < 0.3] = IGNORE
        image = rng.integers(0, 200, (9, 7, 4)).astype(np.uint8)
        valid.append(image[label != IGNORE])
        image[label == IGNORE] = 255
        samples[tile(f"t{i}")] = Sample(image=image, label=label)
    reader = Memory(samples)
    pixels = np.concatenate(valid).astype(np.float64)
    statistics = source_statistics(reader, reader.tiles("source"))
    np.testing.assert_allclose(statistics.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, pixels.std(0), rtol=1e-9)
    batch = next(evaluation_batches(reader, reader.tiles("source"), CLASSES, statistics, 5))
    seen = batch.image.permute(0, 2, 3, 1)[batch.label != IGNORE].double()
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0, unbiased=False), 1, atol=1e-5)


def test_statistics_of_nothing_and_of_a_constant_band() -> None:
    flat, void = (np.full((4, 4), value, dtype=np.uint8) for value in (0, IGNORE))
    with pytest.raises(ValueError, match="no labelled pixel"):
        source_statistics(Memory({tile("void"): Sample(image=coded(flat), label=void)}), [tile("void")])
    statistics = source_statistics(Memory({tile("flat"): Sample(image=coded(flat), label=flat)}), [tile("flat")])
    assert statistics.mean == (40, 41, 42, 43)
    assert min(statistics.std) > 0


def test_evaluation_shows_whole_tiles_in_order_and_one_size_per_batch() -> None:
    drawn = [paired(1, 8, width, seed).samples.popitem()[1] for seed, width in enumerate((8, 8, 8, 6, 6, 8))]
    samples = {tile(f"t{i}"): sample for i, sample in enumerate(drawn)}
    reader = Memory(samples)
    shown = list(evaluation_batches(reader, reader.tiles("source"), CLASSES, UNIT, 2))
    assert [len(batch.tiles) for batch in shown] == [2, 1, 2, 1]
    assert [t for batch in shown for t in batch.tiles] == reader.tiles("source")
    rows = [row for batch in shown for row in zip(batch.image, batch.label, batch.tiles, strict=True)]
    for image, label, ref in rows:
        assert np.array_equal(label.numpy(), samples[ref].label)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), samples[ref].image)


def jitter(image: npt.NDArray[np.uint8], rgb: Sequence[int], seed: int) -> npt.NDArray[np.uint8]:
    np.random.seed(seed)
    return PhotometricJitter(rgb).transform({"img": image})["img"]


def test_jitter_moves_the_visible_bands_and_no_other() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 12, 4)).astype(np.uint8)
    kept, moved = image.copy(), 0
    for seed in range(20):
        out = jitter(image, (1, 2, 3), seed)
        assert (out.shape, out.dtype) == (image.shape, np.uint8)
        assert np.array_equal(out[..., 0], image[..., 0])
        moved += not np.array_equal(out[..., 1:], image[..., 1:])
        assert np.array_equal(jitter(image[..., [3, 2, 1, 0]], (2, 1, 0), seed), out[..., [3, 2, 1, 0]]), "any order"
    assert moved > 15
    assert np.array_equal(image, kept), "the reader's array is left alone"


def plainly_jittered(image: npt.NDArray[np.uint8], rgb: list[int]) -> npt.NDArray[np.uint8]:
    """What `PhotometricJitter` says it does, pixel by pixel in NumPy."""

    def affine(values: npt.NDArray[np.uint8], gain: float = 1.0, shift: float = 0.0) -> npt.NDArray[np.uint8]:
        return np.clip(values.astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)

    image = image.copy()
    visible = np.ascontiguousarray(image[..., rgb])
    if np.random.randint(2):
        visible = affine(visible, shift=np.random.uniform(-32, 32))
    contrast_first = np.random.randint(2)
    if contrast_first and np.random.randint(2):
        visible = affine(visible, gain=np.random.uniform(0.5, 1.5))
    saturate, turn = np.random.randint(2), np.random.randint(2)
    if saturate or turn:
        hsv = cv2.cvtColor(visible, cv2.COLOR_RGB2HSV)
        if saturate:
            hsv[..., 1] = affine(hsv[..., 1], gain=np.random.uniform(0.5, 1.5))
        if turn:
            hsv[..., 0] = (hsv[..., 0].astype(int) + np.random.randint(-18, 18)) % 180
        visible = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first and np.random.randint(2):
        visible = affine(visible, gain=np.random.uniform(0.5, 1.5))
    image[..., rgb] = visible
    return image


@pytest.mark.parametrize(("bands", "rgb"), [(3, [0, 1, 2]), (4, [1, 2, 3]), (4, [0, 1, 2]), (32, [13, 6, 1])])
def test_tables_and_channel_copies_change_no_bit_of_the_jitter(bands: int, rgb: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 40, bands)).astype(np.uint8)
    for seed in range(40):
        out = jitter(image, rgb, seed)
        np.random.seed(seed)
        assert np.array_equal(out, plainly_jittered(image, rgb))
    out = jitter(image[:, ::-1], rgb, 0)  # as after a flip: a view
    np.random.seed(0)
    assert np.array_equal(out, plainly_jittered(image[:, ::-1], rgb))


def test_jitter_is_bounded() -> None:
    grey = np.full((4, 4, 4), 100, dtype=np.uint8)
    values = [int(jitter(grey, (1, 2, 3), seed)[0, 0, 1]) for seed in range(300)]
    assert 34 - 1 <= min(values) < 60, "(100 - 32) x 0.5"
    assert 170 < max(values) <= 198, "(100 + 32) x 1.5"
    red = np.full_like(grey, (0, 200, 60, 50))
    for seed in range(50):
        seen = jitter(red, (1, 2, 3), seed)[0, 0, 1:]
        assert seen[0] == seen.max(), "the hue turns by 36 degrees at most"
        assert jitter(np.zeros_like(grey), (1, 2, 3), seed).max() <= 48, "no wrapping below 0"
        assert jitter(np.full_like(grey, 255), (1, 2, 3), seed).min() >= 111, "no wrapping above 255"


def test_the_pipeline_jitters_by_wavelength() -> None:
    reader = paired(height=CROP, width=CROP)
    rgb_first = tuple(FBP_CS.bands[i] for i in (1, 2, 3, 0))
    for bands, infrared in ((FBP_CS.bands, 0), (rgb_first, 3)):
        shown = batches(reader, replace(PLAIN, photometric=True), task=replace(FBP_CS, bands=bands))
        for band in range(4):
            truth = [reader.samples[t].image[..., band] for batch in shown for t in batch.tiles]
            seen = [image[band].numpy() for batch in shown for image in batch.image]
            assert all(map(np.array_equal, truth, seen)) == (band == infrared)


# --- Split


def scenes(counts: dict[str, Sequence[int]]) -> Memory:
    """Domains of scenes of so many tiles; scenes are listed out of order."""
    sample = Sample(image=np.zeros((2, 2, 4), np.uint8), label=np.zeros((2, 2), np.uint8))
    refs = [
        tile(f"{domain}{scene}_{i}", domain, f"{domain}{scene:03}")
        for domain, tiles in counts.items()
        for scene, count in reversed(list(enumerate(tiles)))
        for i in range(count)
    ]
    return Memory(dict.fromkeys(refs, sample))


@pytest.mark.parametrize(("count", "held"), [(2, 1), (9, 1), (10, 1), (20, 2), (30, 3), (96, 10), (150, 15)])
def test_a_tenth_of_the_scenes_validates_and_never_trains(count: int, held: int) -> None:
    reader = scenes({"a": [3] * count, "b": [2, 2]})
    split = split_tiles(reader, "a", ("b",), 0)
    training, validation = ({t.scene for t in tiles} for tiles in (split.train, split.source_val))
    assert (len(validation), len(training | validation), len(training & validation)) == (held, count, 0)
    assert set(split.train) | set(split.source_val) == set(reader.tiles("a")), "a scene's tiles stay together"
    assert split == split_tiles(reader, "a", ("b",), 0)
    turned = split_tiles(Memory(dict(reversed(reader.samples.items()))), "a", ("b",), 0)
    assert set(turned.source_val) == set(split.source_val), "whatever the reader's order"
    places = [int(scene[1:]) for scene in sorted(validation)]
    assert all(later - earlier >= count // held - 1 for earlier, later in pairwise(places)), "spread, not a block"


def test_max_tiles_are_spread_evenly() -> None:
    split = split_tiles(scenes({"a": [4] * 10, "c": [1], "b": [10, 10]}), "a", ("c", "b"), 6)
    assert {name: len(tiles) for name, tiles in split.evaluated.items()} == {"source_val": 4, "c": 1, "b": 6}
    assert list(split.evaluated) == ["source_val", "c", "b"]
    assert {t.scene for t in split.targets["b"]} == {"b000", "b001"}
    assert len(split.train) == len({t.scene for t in split.train}) == 6
    assert len(split.tiles) == len(set(split.tiles)) == 17
    ten = tuple(tile(str(i)) for i in range(10))
    assert [t.name for t in spread(ten, 4)] == ["0", "2", "5", "7"]
    assert spread(ten, 0) == spread(ten, 10) == spread(ten, 99) == ten


def test_impossible_splits_are_clear_errors() -> None:
    with pytest.raises(ValueError, match=r"source domain a has 1 scene.*at least two"):
        split_tiles(scenes({"a": [5], "b": [1]}), "a", ("b",), 0)
    with pytest.raises(ValueError, match="target domain b has no tiles"):
        split_tiles(scenes({"a": [1, 1]}), "a", ("b",), 0)


def test_training_and_evaluation_see_one_pixel_size() -> None:
    """A tile larger than the crop is cut, not shrunk: in training its ramp rises one number per pixel, as it is."""
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8)[None, :, None], (96, 96, 4))
    reader = Memory({tile("ramp"): Sample(image=np.ascontiguousarray(ramp), label=np.zeros((96, 96), np.uint8))})
    for batch in batches(reader, replace(PLAIN, resize=(1.0,), batch_size=2)):
        steps = batch.image[..., 1:] - batch.image[..., :-1]
        assert batch.image.shape[-2:] == (CROP, CROP)
        assert torch.equal(steps, torch.ones_like(steps))
