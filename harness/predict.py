"""A finished trial applied to an image of any size: window by window, into a raster that lies where the image lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import IGNORE
from harness.bands import nearest_bands
from harness.imagery import Image, label_raster, open_image, write_preview
from harness.pipeline import Statistics
from harness.progress import counting
from harness.records import Record, RecordStore
from harness.restore import restore_model, restore_trial
from harness.segmentor import Segmentor
from harness.zoo import RGB

_BATCH = 8
_MOST_OVERLAP = 0.9
_FAR = 10  # so many standard deviations of the source from its mean are no shift but another unit


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be made of an image.

    Args:
        image: a GeoTIFF, or another raster.
        out: the label raster; beside the image if None. The preview gets its name with `.png`.
        bands: see `open_image`.
        overlap: share of a window that its neighbours see too.
        method: see `restore_trial`.
        task: likewise.
        force: overwrite files.
    """

    image: Path
    out: Path | None
    bands: Sequence[int]
    overlap: float
    method: str
    task: str
    force: bool

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if not 0 <= self.overlap <= _MOST_OVERLAP:
            raise ValueError(f"--overlap {self.overlap}: give a share from 0 to {_MOST_OVERLAP}")

    def files(self, key: str) -> tuple[Path, Path]:
        """The label raster and the preview to write. Raises `ValueError` for a wrong name, or if they are there."""
        raster = self.out or self.image.with_name(f"{self.image.stem}_{key[:8]}_classes.tif")
        if raster.suffix.lower() not in (".tif", ".tiff"):
            raise ValueError(f"--out {raster}: give a name that ends in .tif; the preview gets the same with .png")
        preview = raster.with_suffix(".png")
        for path in (raster, preview):
            if path.exists() and (not self.force or path.samefile(self.image)):
                raise ValueError(f"{path} exists already: choose another with --out, or overwrite it with --force")
        return raster, preview


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was made of an image: its label raster and preview, share of each class, and what looked wrong."""

    raster: Path
    preview: Path
    shares: dict[str, float]
    empty: float
    warnings: tuple[str, ...]


def predict_image(wanted: Wanted, record: Record, store: RecordStore) -> Prediction:
    """Apply a finished trial, of which `store` has the record, to an image, and write label raster and preview.

    Raises:
        ValueError: image, record or option do not fit. Names the remedy.
    """
    raster, preview = wanted.files(record.key)
    trial = restore_trial(record, wanted.method, wanted.task)
    classes, palette, window = trial.data.classes, trial.data.palette, trial.protocol.crop
    with open_image(wanted.image, trial.task, wanted.bands) as opened:
        model, statistics = restore_model(trial, record, store)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        margin = int(wanted.overlap * window / 2)
        mapper = Mapper(model=model, statistics=statistics, window=window, margin=margin)
        warnings = [mapper.unlike(opened)]
        if not opened.placed:
            warnings.append("the image does not say where it lies, so the labels do not either")
        with (
            counting("predicting windows", len(mapper.windows(opened))) as advance,
            label_raster(raster, opened, classes, palette) as written,
        ):
            counts = mapper.labels(opened, written, advance)
        write_preview(preview, opened, raster, nearest_bands(RGB, trial.task.bands), classes, palette)
    total = counts.sum()
    return Prediction(
        raster=raster,
        preview=preview,
        shares={name: float(counts[i] / total) for i, name in enumerate(classes)},
        empty=float(counts[IGNORE] / total),
        warnings=tuple(filter(None, warnings)),
    )


@dataclass(frozen=True, kw_only=True)
class Span:
    """Along one axis: where a window begins, and which pixels of the image it answers for."""

    window: int
    begin: int
    end: int


def spans(length: int, window: int, margin: int) -> list[Span]:
    """Windows that cover an axis; each answers for its middle, so that no pixel is judged at a window's edge.

    Args:
        length: of the axis in pixels.
        window: length of a window; cut to the axis.
        margin: pixels at both ends of a window that a neighbour answers for.
    """
    window = min(window, length)
    found = []
    begin = 0
    while begin < length:
        start = min(max(begin - margin, 0), length - window)
        end = length if start + window == length else start + window - margin
        found.append(Span(window=start, begin=begin, end=end))
        begin = end
    return found


@dataclass(frozen=True, kw_only=True)
class Mapper:
    """A trained model at work.

    Args:
        model: in evaluation mode, on its device.
        statistics: what its images are normalised by.
        window: side of a window in pixels, as in training.
        margin: see `spans`.
    """

    model: Segmentor
    statistics: Statistics
    window: int
    margin: int

    def windows(self, image: Image) -> list[tuple[Span, Span]]:
        """Rows and columns of every window."""
        rows, columns = (spans(length, self.window, self.margin) for length in (image.height, image.width))
        return list(product(rows, columns))

    @torch.no_grad()
    def labels(self, image: Image, out: DatasetWriter, advance: Callable[[], None]) -> npt.NDArray[np.int64]:
        """Write a class index for every pixel, `IGNORE` where there is no image; returns pixels per class."""
        counts = np.zeros(IGNORE + 1, np.int64)
        device = next(self.model.parameters()).device
        windows = self.windows(image)
        for group in (windows[i : i + _BATCH] for i in range(0, len(windows), _BATCH)):
            read = [image.read(self._window(rows, columns, image)) for rows, columns in group]
            batch = torch.stack([self.statistics.normalise(torch.from_numpy(pixels)) for pixels, _ in read])
            predicted = self.model.predict(batch.to(device)).cpu().numpy().astype(np.uint8)
            for (rows, columns), label, (_, valid) in zip(group, predicted, read, strict=True):
                inside = (
                    slice(rows.begin - rows.window, rows.end - rows.window),
                    slice(columns.begin - columns.window, columns.end - columns.window),
                )
                core = np.where(valid, label, np.uint8(IGNORE))[inside]
                out.write(core, 1, window=Window(columns.begin, rows.begin, core.shape[1], core.shape[0]))
                counts += np.bincount(core.ravel(), minlength=len(counts))
                advance()
        return counts

    def _window(self, rows: Span, columns: Span, image: Image) -> Window:
        height, width = min(self.window, image.height), min(self.window, image.width)
        return Window(columns.window, rows.window, width, height)

    def unlike(self, image: Image) -> str:
        """A warning if the image's values cannot be those of the sensor's product that was trained on, or nothing."""
        small = image.small()
        valid = small[valid_pixels(small)]
        if not len(valid):
            return "the image holds no data: nothing but zeros, or but the value that it declares to be none"
        if not self.statistics.mean:
            return ""  # each window is normalised by itself
        far = np.abs(np.median(valid, axis=0) - self.statistics.mean) / self.statistics.std
        band = int(far.argmax())
        if far[band] < _FAR:
            return ""
        mean, std = self.statistics.mean[band], self.statistics.std[band]
        return (
            f"band {image.bands[band]} has a median of {np.median(valid, axis=0)[band]:g}, the training data a mean of "
            f"{mean:g} and a deviation of {std:g}: other units, or bands in another order (--bands)?"
        )
