"""From tiles to batches: our readers, MMSegmentation's dataset class and transforms, our normalisation."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.tasks import IGNORE, Normalised, Reader, Task, TileRef
from harness.augment import PhotometricJitter, ReleasedJitter, geometry
from harness.bands import nearest_bands
from harness.scales import Protocol
from harness.split import spread
from harness.trial import stream_seed
from harness.zoo import RGB

with warnings.catch_warnings(), contextlib.redirect_stdout(None):
    # mmseg warns and prints at import about optional parts that nothing here uses
    warnings.simplefilter("ignore")
    from mmcv.transforms import BaseTransform
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import PackSegInputs

logging.getLogger("mmengine").setLevel(logging.ERROR)

_STATISTICS_TILES = 512
_LEAST_VARIANCE = 1e-6
_WHITE_STD = 2


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What normalises an image: a mean and a standard deviation per band, in digital numbers.

    Args:
        mean: by band; empty where each image is normalised by its own valid pixels, those not zero in every band.
        std: likewise.
        reverse: the image's bands are reversed first, the numbers are not.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    reverse: bool = False

    def normalise(self, image: Tensor) -> Tensor:
        """An image [bands, h, w] of any type, normalised as float32."""
        image = image.float()
        if self.reverse:
            image = image.flip(0)
        mean, std = (self.mean, self.std) if self.mean else _own(image)
        return (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _own(image: Tensor) -> tuple[list[float], list[float]]:
    valid = image[:, image.any(0)].double()
    if not valid.numel():
        return [0.0] * len(image), [1.0] * len(image)
    variance = valid.var(1, correction=0).clamp(min=_LEAST_VARIANCE)
    return valid.mean(1).tolist(), variance.sqrt().tolist()


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Normalised images [B, bands, H, W] float32, labels [B, H, W] int64, and the tiles they came from."""

    image: Tensor
    label: Tensor
    tiles: tuple[TileRef, ...]


def source_statistics(reader: Reader, tiles: Sequence[TileRef]) -> Statistics:
    """Mean and standard deviation per band, as stored with the data (`data stats`).

    Without stored ones: over labelled pixels of (at most 512, evenly spread) training tiles.
    """
    if isinstance(reader, Normalised) and (stored := reader.normalisation):
        return Statistics(mean=stored[0], std=stored[1])
    total: Any = 0.0
    squares: Any = 0.0
    count = 0
    for tile in spread(tiles, _STATISTICS_TILES):
        sample = reader.read(tile)
        pixels = sample.image[sample.label != IGNORE].astype(np.float64)
        total, squares, count = total + pixels.sum(0), squares + (pixels**2).sum(0), count + len(pixels)
    if not count:
        raise ValueError("the source training tiles hold no labelled pixel: nothing can be learned from them")
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, _LEAST_VARIANCE))
    return Statistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


def input_statistics(protocol: Protocol, task: Task, reader: Reader, tiles: Sequence[TileRef]) -> Statistics:
    """What normalises the inputs of a trial, by the protocol's `normalisation` and `channel_order`.

    Args:
        protocol: the recipe.
        task: the task, whose released constants may be asked for.
        reader: of its tiles.
        tiles: source training tiles; targets never normalise.
    """
    found = Statistics(mean=(), std=())
    if protocol.normalisation == "released":
        assert task.released, "the plan refuses tasks without constants"
        found = Statistics(mean=task.released.mean, std=task.released.std)
    elif protocol.normalisation == "source_stats":
        found = source_statistics(reader, tiles)
    return replace(found, reverse=protocol.channel_order == "bgr")


class LoadTile(BaseTransform):  # type: ignore[misc]
    """Reads a tile with the task's own reader: MMSegmentation's loaders read CMYK TIFFs wrongly and silently."""

    def __init__(self, reader: Reader) -> None:
        """Keep the reader."""
        self.reader = reader

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Fill in what MMSegmentation's transforms expect of a loaded image and its label map."""
        sample = self.reader.read(results["tile"])
        shape = sample.image.shape[:2]
        return {
            **results,
            "img": sample.image,
            "gt_seg_map": sample.label,
            "seg_fields": ["gt_seg_map"],
            "img_shape": shape,
            "ori_shape": shape,
        }


class TileDataset(BaseSegDataset):  # type: ignore[misc]
    """MMSegmentation's dataset class over a list of tiles."""

    def __init__(self, tiles: Sequence[TileRef], classes: Sequence[str], pipeline: Sequence[BaseTransform]) -> None:
        """Keep the tiles; `pipeline` begins with `LoadTile`."""
        self.tiles = tuple(tiles)
        super().__init__(metainfo={"classes": list(classes)}, pipeline=list(pipeline), serialize_data=False)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry per tile."""
        return [{"tile": tile, "img_path": tile.name, "reduce_zero_label": False} for tile in self.tiles]


class TrainStream(Dataset[tuple[Tensor, Tensor, TileRef]]):
    """The endless shuffled training stream, cut to a number of samples.

    Each position draws its augmentation from a seed of its own, so that it does not matter who reads it and when.
    """

    def __init__(self, dataset: TileDataset, length: int, seed: int) -> None:
        """Shuffle once per pass by the named stream `order`."""
        self.dataset = dataset
        self.seed = seed
        generator = np.random.default_rng(stream_seed(seed, "order"))
        passes = -(-length // len(dataset))
        self.order = np.concatenate([generator.permutation(len(dataset)) for _ in range(passes)])[:length]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.order)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor, TileRef]:
        """Image [bands, h, w] in its stored type, label [h, w], tile."""
        # MMSegmentation's transforms draw from NumPy's global generator
        np.random.seed(stream_seed(self.seed, f"augmentation/{position}"))
        return _unpack(self.dataset, int(self.order[position]))


def _unpack(dataset: TileDataset, index: int) -> tuple[Tensor, Tensor, TileRef]:
    packed = dataset[index]
    return packed["inputs"], packed["data_samples"].gt_sem_seg.data[0], dataset.tiles[index]


def train_batches(
    reader: Reader,
    task: Task,
    classes: Sequence[str],
    tiles: Sequence[TileRef],
    statistics: Statistics,
    protocol: Protocol,
    *,
    steps: int,
    seed: int,
    workers: int,
    source: Statistics | None = None,
    done: int = 0,
) -> Iterator[Batch]:
    """Augmented training batches, one per step; small crops are padded to `protocol.crop` (labels ignored).

    Args:
        reader: of the tiles.
        task: theirs.
        classes: names of the classes.
        tiles: source training tiles.
        statistics: what normalises them, from `input_statistics`.
        protocol: the recipe.
        steps: how many batches.
        seed: of the trial.
        workers: processes that read ahead; changes no number.
        source: what `source_statistics` gave for the tiles, if that is known: reading them again takes long.
        done: how many batches to leave out at the beginning.
    """
    first = reader.read(tiles[0])
    steps_of_one = [LoadTile(reader), *geometry(protocol, min(first.label.shape))]
    if protocol.photometric:
        light = None if first.image.dtype == np.uint8 else source or source_statistics(reader, tiles)
        steps_of_one.append(_distortion(protocol, task, light))
    dataset = TileDataset(tiles, classes, [*steps_of_one, PackSegInputs()])
    stream = TrainStream(dataset, steps * protocol.batch_size, seed)
    left, collate = range(done * protocol.batch_size, len(stream)), _Collate(statistics, protocol.crop)
    return iter(
        DataLoader(stream, sampler=left, batch_size=protocol.batch_size, num_workers=workers, collate_fn=collate)
    )


def _distortion(protocol: Protocol, task: Task, source: Statistics | None) -> PhotometricJitter:
    """The distortion of colours that a protocol asks for; `source` for tiles that are no bytes alone."""
    keep_fill = protocol.normalisation == "per_image"
    if protocol.photometric == "released":
        assert task.released, "the plan refuses tasks that are not in the released code"
        return ReleasedJitter(task.released.float_jitter, keep_fill=keep_fill)
    rgb = nearest_bands(RGB, task.bands)
    return PhotometricJitter(rgb, _white(source, rgb) if source else 255.0, keep_fill=keep_fill)


def _white(source: Statistics, rgb: Sequence[int]) -> float:
    """What 255 is to bytes: a bright pixel of the source in its brightest visible band, in digital numbers."""
    white = max(source.mean[i] + _WHITE_STD * source.std[i] for i in rgb)
    if white <= 0:
        raise ValueError(
            f"protocol.photometric=True: the source's visible bands lie below 0 (a bright pixel has {white:.3g}), so "
            "they are no amounts of light; set it to False"
        )
    return white


def evaluation_batches(
    reader: Reader, tiles: Sequence[TileRef], classes: Sequence[str], statistics: Statistics, batch_size: int
) -> Iterator[Batch]:
    """Whole tiles, untouched; a batch holds tiles of one size."""
    dataset = TileDataset(tiles, classes, [LoadTile(reader), PackSegInputs()])
    collate = _Collate(statistics, crop=0)
    held: list[tuple[Tensor, Tensor, TileRef]] = []
    for index in range(len(dataset)):
        sample = _unpack(dataset, index)
        if held and (len(held) == batch_size or held[0][0].shape != sample[0].shape):
            yield collate(held)
            held = []
        held.append(sample)
    if held:
        yield collate(held)


@dataclass(frozen=True)
class _Collate:
    statistics: Statistics
    crop: int

    def __call__(self, samples: Sequence[tuple[Tensor, Tensor, TileRef]]) -> Batch:
        bands, height, width = samples[0][0].shape
        sides = max(self.crop, height), max(self.crop, width)
        images = torch.empty(len(samples), bands, *sides)
        labels = torch.empty(len(samples), *sides, dtype=torch.int64)
        for i, (image, label, _) in enumerate(samples):
            rows, cols = label.shape
            if (rows, cols) != sides:  # padded after normalisation, so that padding is the mean colour
                images[i].zero_()
                labels[i].fill_(IGNORE)
            images[i, :, :rows, :cols] = self.statistics.normalise(image)
            labels[i, :rows, :cols] = label
        return Batch(image=images, label=labels, tiles=tuple(tile for _, _, tile in samples))
