"""The distortion of colours for 8-bit, 16-bit and float tiles of any bands, and that nothing overflows on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.catalogue import FBP_CS
from benchmarks.tasks import IGNORE, Band, Sample, TileRef
from harness.augment import PhotometricJitter, ReleasedJitter
from harness.data_statistics import _moments, _sums
from harness.pipeline import Statistics, evaluation_batches, source_statistics
from tests.test_pipeline import CLASSES, CROP, PLAIN, Memory, batches, tile

BANDS = {3: (0, 1, 2), 4: (1, 2, 3), 5: (1, 2, 3), 32: (13, 6, 1)}
TYPES = (np.uint8, np.uint16, np.float32)
WHITE = {np.uint8: 255.0, np.uint16: 10_200.0, np.float32: 1.0}
"""What stands for 255 in the images of these tests."""


def jittered(jitter: PhotometricJitter, image: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    np.random.seed(seed)
    return jitter.transform({"img": image})["img"]


def test_bytes_are_distorted_as_ever() -> None:
    """Bit for bit as before other types were: the hash was made by the code that knew bytes only."""
    seen, rng = hashlib.sha256(), np.random.default_rng(5)
    for seed in range(64):
        bands = (3, 4, 5, 32)[seed % 4]
        image = rng.integers(0, 256, (24, 20, bands)).astype(np.uint8)
        if seed % 8 > 3:
            image = np.full_like(image, image[0, 0])
        rgb = {**BANDS, 5: (1, 2, 3)}[bands]
        out = jittered(PhotometricJitter(rgb), image, seed)
        assert out.dtype == np.uint8
        seen.update(out.tobytes())
    assert seen.hexdigest() == "4c603af97be05ecfdf10df57174104285572a1cb8a277b7436461ac3ec1f20b0"


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("dtype", TYPES[1:])
def test_other_types_are_distorted_like_bytes(dtype: type[np.generic], bands: int) -> None:
    """The same draws give the same colours but for rounding, where bytes are not cut off at the top."""
    image = np.random.default_rng(1).integers(20, 120, (16, 12, bands)).astype(np.uint8)
    white = WHITE[dtype]
    wide = (image / 255 * white).astype(dtype)
    moved = 0
    for seed in range(40):
        expected = jittered(PhotometricJitter(BANDS[bands]), image, seed) / 255
        found = jittered(PhotometricJitter(BANDS[bands], white), wide, seed)
        assert found.dtype == dtype
        assert np.abs(found[..., BANDS[bands]] / white - expected[..., BANDS[bands]]).max() < 6 / 255, seed
        others = [band for band in range(bands) if band not in BANDS[bands]]
        np.testing.assert_array_equal(found[..., others], wide[..., others])
        moved += not np.array_equal(found, wide)
    assert moved > 30


@pytest.mark.parametrize("dtype", TYPES)
def test_nothing_wraps_at_either_end(dtype: type[np.generic]) -> None:
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1.0
    jitter = PhotometricJitter((1, 2, 3), float(top))
    low, high = np.zeros((4, 4, 4), dtype), np.full((4, 4, 4), top, dtype)
    for seed in range(60):
        assert jittered(jitter, low, seed).max() <= 48.5 / 255 * top
        bright = jittered(jitter, high, seed)
        assert bright.min() >= 111 / 255 * top
        assert np.isfinite(bright.astype(np.float64)).all()
        assert (bright[..., 0] == top).all()


def test_light_above_the_level_of_white_is_not_cut_off() -> None:
    image = np.full((4, 4, 3), 40_000, np.uint16)
    seen = [jittered(PhotometricJitter((0, 1, 2), 10_000.0), image, seed).max() for seed in range(40)]
    assert max(seen) > 50_000


def test_negative_reflectances_do_no_harm() -> None:
    image = np.random.default_rng(0).normal(0, 0.01, (8, 8, 4)).astype(np.float32)
    for seed in range(30):
        seen = jittered(PhotometricJitter((1, 2, 3), 1.0), image, seed)
        assert np.isfinite(seen).all()
        np.testing.assert_array_equal(seen[..., 0], image[..., 0])


@contextmanager
def draws(*, gain: float | None = None, turn: int | None = None) -> Iterator[None]:
    """Let a distortion draw a saturation or a turn of the hue and nothing else."""
    # brightness, contrast first, contrast, saturation, hue, and the turn itself
    integers = iter([0, 1, 0, gain is not None, turn is not None, *([] if turn is None else [turn])])
    with (
        mock.patch("numpy.random.randint", side_effect=integers),
        mock.patch("numpy.random.uniform", return_value=gain),
    ):
        yield


@pytest.mark.parametrize(
    ("colour", "draw", "released", "ours"),
    [
        # measured on the released code: sheet, section 7.3
        ((200, 100, 50), {"gain": 1.5}, (200, 50, 256 - 25), (200, 66, 0)),
        ((30, 60, 220), {"turn": 0}, (220, 188, 30), (30, 60, 220)),
    ],
)
def test_the_released_defect_is_what_was_measured(
    colour: tuple[int, ...], draw: dict[str, Any], released: tuple[int, ...], ours: tuple[int, ...]
) -> None:
    image = np.zeros((2, 2, 4), np.uint8)
    image[..., 0], image[..., 1:] = 77, colour
    for jitter, expected in ((ReleasedJitter((1, 2, 3)), released), (PhotometricJitter((1, 2, 3)), ours)):
        with draws(**draw):
            seen = jitter.transform({"img": image})["img"]
        assert seen.dtype == np.uint8
        assert (seen[..., 0] == 77).all()
        assert np.abs(seen[0, 0, 1:].astype(int) - expected).max() <= 2


def test_without_a_turn_or_a_saturation_the_released_one_is_sound() -> None:
    image = np.random.default_rng(3).integers(60, 100, (8, 8, 4)).astype(np.uint8)
    with draws():
        np.testing.assert_array_equal(ReleasedJitter((1, 2, 3)).transform({"img": image})["img"], image)


@pytest.mark.parametrize("dtype", TYPES[1:])
def test_the_released_one_has_bytes_only(dtype: type[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"protocol\.photometric=released.*not 8-bit.*True or False"):
        ReleasedJitter((1, 2, 3)).transform({"img": np.ones((4, 4, 4), dtype)})


# --- From tile to batch


def task_of(bands: int) -> Any:
    """A task of so many bands; the first of them, or those of the hyperspectral sensor, are visible."""
    centres = [0.83, 0.665, 0.56, 0.49, 1.6] if bands in (4, 5) else [0.665, 0.56, 0.49]
    if bands == 32:
        centres = [0.466 + 0.0153 * i for i in range(32)]
    return replace(FBP_CS, bands=tuple(Band(name=f"b{i}", centre_um=um) for i, um in enumerate(centres[:bands])))


def steps(bands: int, dtype: type[np.generic]) -> tuple[Memory, npt.NDArray[Any]]:
    """Tiles of two halves, dark and as bright as the type allows, and the bright value of each band."""
    top = 65_535 if dtype == np.uint16 else 255 if dtype == np.uint8 else 1.5
    bright = (top * (1 - np.arange(bands) / (4 * bands))).astype(dtype)
    image = np.zeros((48, 48, bands), dtype)
    image[:, :24], image[:, 24:] = bright // 2 if dtype != np.float32 else bright / 2, bright
    label = np.zeros((48, 48), np.uint8)
    label[:, 24:], label[0] = 1, IGNORE
    return Memory({tile(f"t{i}"): Sample(image=image, label=label) for i in range(4)}), bright


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_no_type_and_no_number_of_bands_overflows(dtype: type[np.generic], bands: int) -> None:
    """Statistics, resize, crop, flip, packing and normalisation of values up to the type's last."""
    reader, bright = steps(bands, dtype)
    tiles, exact = reader.tiles("source"), bright.astype(np.float64)
    half = (bright // 2 if dtype != np.float32 else bright / 2).astype(np.float64)
    statistics = source_statistics(reader, tiles)
    np.testing.assert_allclose(statistics.mean, (exact + half) / 2, rtol=1e-6)
    np.testing.assert_allclose(statistics.std, (exact - half) / 2, rtol=1e-5)
    protocol = replace(PLAIN, resize=(0.75, 1.25), flip=True)
    for batch in batches(reader, protocol, statistics, task=task_of(bands), steps=3):
        assert (batch.image.dtype, tuple(batch.image.shape)) == (torch.float32, (4, bands, CROP, CROP))
        assert batch.image.abs().max() <= 1 + 1e-4, "between the two halves, which normalise to -1 and 1"
        assert torch.isfinite(batch.image).all()
        shown = batch.image.transpose(0, 1)  # at the edge of the halves pixels are mixed
        assert (shown[:, batch.label == 1] > -1).all()
        assert ((shown[:, batch.label == 1] - 1).abs() < 1e-3).float().mean() > 0.8
        assert ((shown[:, batch.label == 0] + 1).abs() < 1e-3).float().mean() > 0.8
    (whole,) = evaluation_batches(reader, tiles, CLASSES, Statistics(mean=(0.0,) * bands, std=(1.0,) * bands), 4)
    np.testing.assert_array_equal(whole.image[0, :, 0, -1].numpy().astype(dtype), bright)


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_pipeline_distorts_visible_bands_of_every_type(dtype: type[np.generic], bands: int) -> None:
    rng = np.random.default_rng(2)
    image = (rng.uniform(0.2, 0.6, (CROP, CROP, bands)) * WHITE[dtype]).astype(dtype)
    label = rng.integers(0, 2, (CROP, CROP)).astype(np.uint8)
    reader = Memory({tile("one"): Sample(image=image, label=label)})
    plain = Statistics(mean=(0.0,) * bands, std=(1.0,) * bands)
    task = task_of(bands)
    moved = np.zeros(bands, bool)
    for batch in batches(reader, replace(PLAIN, photometric=True), plain, task=task, steps=4):
        for seen in batch.image.numpy():
            assert seen.max() < 2.5 * WHITE[dtype]
            assert seen.min() >= 0
            moved |= (seen != image.transpose(2, 0, 1).astype(np.float32)).any((1, 2))
    visible = {i for i, band in enumerate(task.bands) if band.centre_um < 0.69}
    assert moved.sum() == 3
    assert set(np.flatnonzero(moved)) <= visible


@pytest.mark.parametrize("how", [True, "released"])
@pytest.mark.parametrize("dtype", TYPES)
def test_fill_stays_fill_where_images_are_normalised_by_themselves(
    dtype: type[np.generic], how: bool | Literal["released"]
) -> None:
    """Else brightness would make it valid, and what a model sees in training would not be what it is tested on."""
    if how == "released" and dtype != np.uint8:
        return
    rng = np.random.default_rng(4)
    image = (rng.uniform(0.3, 0.5, (CROP, CROP, 4)) * WHITE[dtype]).astype(dtype)
    image[: CROP // 2] = 0
    image[-1, :, 3] = 0  # one band of 0 is no fill
    reader = Memory({tile("one"): Sample(image=image, label=np.zeros((CROP, CROP), np.uint8))})
    given = Statistics(mean=(), std=())
    protocol = replace(PLAIN, photometric=how, normalisation="per_image")
    (plain, *_) = batches(reader, replace(protocol, photometric=False), given, steps=1)
    moved = 0
    for batch in batches(reader, protocol, given, steps=8):
        for seen in batch.image:
            there = seen[:, CROP // 2 :].flatten(1)
            assert there.mean(1).abs().max() < 1e-4
            assert (there.std(1, correction=0) - 1).abs().max() < 1e-4
            assert (seen[:, : CROP // 2].flatten(1).std(1) == 0).all()
            moved += not torch.equal(seen, plain.image[0])
    assert moved > 8


def test_fill_takes_part_as_ever_where_numbers_are_shared() -> None:
    image = np.zeros((CROP, CROP, 4), np.uint8)
    reader = Memory({tile("one"): Sample(image=image, label=np.zeros((CROP, CROP), np.uint8))})
    shared = Statistics(mean=(0.0,) * 4, std=(1.0,) * 4)
    assert any(batch.image.any() for batch in batches(reader, replace(PLAIN, photometric=True), shared, steps=8))


@pytest.mark.parametrize("dtype", TYPES)
def test_statistics_that_are_known_are_not_measured_again(dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(2)
    image = (rng.uniform(0.2, 0.6, (CROP, CROP, 4)) * WHITE[dtype]).astype(dtype)
    reads: list[TileRef] = []

    class Counted(Memory):
        def read(self, tile: TileRef) -> Sample:
            reads.append(tile)
            return super().read(tile)

    label = np.zeros((CROP, CROP), np.uint8)
    reader = Counted({tile(f"t{i}"): Sample(image=image + dtype(i), label=label) for i in range(6)})
    statistics, protocol = source_statistics(reader, reader.tiles("source")), replace(PLAIN, photometric=True)
    reads.clear()
    measured = batches(reader, protocol, statistics, steps=2)
    before = len(reads)
    reads.clear()
    given = batches(reader, protocol, statistics, steps=2, source=statistics)
    assert len(reads) == 1 + 2 * PLAIN.batch_size
    assert before == len(reads) + (0 if dtype == np.uint8 else 6)
    for one, other in zip(measured, given, strict=True):
        assert torch.equal(one.image, other.image)


def test_sums_of_16_bits_stay_exact() -> None:
    pixels = np.full((300_000, 2), 65_535, np.int64)
    moments = _moments(_sums(pixels))
    assert moments.mean == (65_535, 65_535)
    assert moments.std == (0, 0)


def test_colours_of_bands_below_zero_are_refused() -> None:
    image = np.full((CROP, CROP, 4), -3, np.float32)
    reader = Memory({tile("one"): Sample(image=image, label=np.zeros((CROP, CROP), np.uint8))})
    with pytest.raises(ValueError, match=r"protocol\.photometric=True.*below 0.*False"):
        batches(reader, replace(PLAIN, photometric=True))
