"""From tiles to batches: our readers, MMSegmentation's dataset class and transforms, our normalisation."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.tasks import IGNORE, Normalised, Reader, Task, TileRef
from harness.bands import nearest_bands
from harness.scales import Protocol
from harness.split import spread
from harness.trial import stream_seed
from harness.zoo import RGB

with warnings.catch_warnings(), contextlib.redirect_stdout(None):
    # mmseg warns and prints at import about optional parts that nothing here uses
    warnings.simplefilter("ignore")
    from mmcv.transforms import BaseTransform, RandomChoiceResize
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import PackSegInputs, RandomCrop
    from mmseg.datasets.transforms.transforms import RandomFlip

logging.getLogger("mmengine").setLevel(logging.ERROR)

_STATISTICS_TILES = 512
_REDRAWS = 10
_VALUES: npt.NDArray[np.uint8] = np.arange(256, dtype=np.uint8)
_MAX_LONG_EDGE = 2.0  # a longer tile is shrunk until its long edge is so many of its largest short edge


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Per-band mean and standard deviation of valid source training pixels, in digital numbers."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


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
    std = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return Statistics(mean=tuple(mean.tolist()), std=tuple(std.tolist()))


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


class PhotometricJitter(BaseTransform):  # type: ignore[misc]
    """Brightness, contrast, saturation and hue jitter of the visible bands; other bands pass unchanged.

    The parameters are those of MMSegmentation's `PhotoMetricDistortion`, which drops bands beyond the third. Works on
    8-bit values throughout: the released variant feeds floats to OpenCV's HSV, which wraps (sheet, section 7.3).

    Args:
        rgb: indices of the R, G and B bands.
    """

    def __init__(self, rgb: Sequence[int]) -> None:
        """Keep the band indices."""
        self.rgb = list(rgb)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Jitter `img` [H, W, bands] uint8; each step with probability 0.5, contrast before or after the colours."""
        image = results["img"].copy()
        if image.dtype != np.uint8:
            raise ValueError(
                f"protocol.photometric is made for 8 bits, but {results['img_path']} is of type {image.dtype}: add "
                "--set protocol.photometric=false"
            )
        visible = np.empty((*image.shape[:2], 3), np.uint8)
        pairs = [(band, place) for place, band in enumerate(self.rgb)]
        # NumPy takes ten times as long to pick bands out of interleaved ones
        cv2.mixChannels([image], [visible], [index for pair in pairs for index in pair])
        visible = _jitter(visible)
        cv2.mixChannels([visible], [image], [index for band, place in pairs for index in (place, band)])
        return {**results, "img": image}


def _jitter(visible: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if np.random.randint(2):
        visible = _look_up(visible, _affine(shift=np.random.uniform(-32, 32)))
    contrast_first = np.random.randint(2)
    if contrast_first and np.random.randint(2):
        visible = _look_up(visible, _affine(gain=np.random.uniform(0.5, 1.5)))
    saturate, turn = np.random.randint(2), np.random.randint(2)
    if saturate or turn:
        saturation = _affine(gain=np.random.uniform(0.5, 1.5)) if saturate else _VALUES
        hue = ((_VALUES.astype(int) + np.random.randint(-18, 18)) % 180).astype(np.uint8) if turn else _VALUES
        hsv = _look_up(cv2.cvtColor(visible, cv2.COLOR_RGB2HSV), np.stack([hue, saturation, _VALUES], axis=-1))
        visible = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not contrast_first and np.random.randint(2):
        visible = _look_up(visible, _affine(gain=np.random.uniform(0.5, 1.5)))
    return visible


def _affine(gain: float = 1.0, shift: float = 0.0) -> npt.NDArray[np.uint8]:
    """What each 8-bit value becomes."""
    return np.asarray(np.clip(_VALUES.astype(np.float32) * gain + shift, 0, 255), dtype=np.uint8)


def _look_up(values: Any, table: npt.NDArray[np.uint8]) -> Any:
    """Replace the values of an image by a table [256], or by one per channel [256, 3]."""
    return cv2.LUT(values, table.reshape(1, 256, -1))


class QuickCrop(RandomCrop):  # type: ignore[misc]
    """MMSegmentation's `RandomCrop`: the same draws and boxes, its classes counted without sorting the pixels."""

    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """Upper and lower row, left and right column; up to ten times redrawn while one class exceeds its share."""
        box = self._draw(results["img"].shape)
        if self.cat_max_ratio < 1:
            for _ in range(_REDRAWS):
                inside = self.crop(results["gt_seg_map"], box)
                # float32 counts, exact up to 16 million pixels
                counts = cv2.calcHist([inside], [0], None, [IGNORE], [0, IGNORE]).astype(np.int64)
                if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                    break
                box = self._draw(results["img"].shape)
        return box

    def _draw(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        height, width = self.crop_size
        top = np.random.randint(0, max(shape[0] - height, 0) + 1)
        left = np.random.randint(0, max(shape[1] - width, 0) + 1)
        return top, top + height, left, left + width


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
        """Image [bands, h, w] uint8, label [h, w], tile."""
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
) -> Iterator[Batch]:
    """Augmented training batches, one per step; small crops are padded to `protocol.crop` (labels ignored)."""
    crop = protocol.crop
    pipeline: list[BaseTransform] = [LoadTile(reader)]
    if protocol.resize:
        # fractions of the tile, not of the crop: training and evaluation must see one pixel size
        edge = min(reader.read(tiles[0]).label.shape)
        pipeline.append(
            RandomChoiceResize(
                scales=[round(fraction * edge) for fraction in protocol.resize],
                resize_type="mmseg.ResizeShortestEdge",
                max_size=int(_MAX_LONG_EDGE * max(protocol.resize) * edge),
            )
        )
    pipeline.append(QuickCrop((crop, crop), cat_max_ratio=protocol.cat_max_ratio))
    if protocol.flip:
        pipeline.append(RandomFlip(prob=0.5))
    if protocol.photometric:
        pipeline.append(PhotometricJitter(nearest_bands(RGB, task.bands)))
    dataset = TileDataset(tiles, classes, [*pipeline, PackSegInputs()])
    stream = TrainStream(dataset, steps * protocol.batch_size, seed)
    collate = _Collate(statistics, crop)
    return iter(DataLoader(stream, batch_size=protocol.batch_size, num_workers=workers, collate_fn=collate))


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
        mean = torch.tensor(self.statistics.mean)[:, None, None]
        std = torch.tensor(self.statistics.std)[:, None, None]
        bands, height, width = samples[0][0].shape
        sides = max(self.crop, height), max(self.crop, width)
        images = torch.empty(len(samples), bands, *sides)
        labels = torch.empty(len(samples), *sides, dtype=torch.int64)
        for i, (image, label, _) in enumerate(samples):
            rows, cols = label.shape
            if (rows, cols) != sides:  # padded after normalisation, so that padding is the mean colour
                images[i].zero_()
                labels[i].fill_(IGNORE)
            images[i, :, :rows, :cols].copy_(image).sub_(mean).div_(std)
            labels[i, :rows, :cols] = label
        return Batch(image=images, label=labels, tiles=tuple(tile for _, _, tile in samples))
