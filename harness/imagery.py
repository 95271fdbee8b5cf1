"""Images of any size on disk: bands read as stored, label rasters written in the same place, previews."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, DatasetWriter
from rasterio.windows import Window

from benchmarks.prepared.statistics import valid_pixels
from benchmarks.tasks import IGNORE, Task
from harness.stretch import stretch

_PREVIEW_PX = 1024
Palette = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, kw_only=True)
class Image:
    """An open raster and which of its bands are the task's, in the task's order (from 1, as GDAL counts)."""

    raster: DatasetReader
    bands: tuple[int, ...]

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.raster.height)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.raster.width)

    def read(self, window: Window) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Pixels [bands, h, w], and where there is an image [h, w].

        There is none where all bands are 0 or declared no-data, and where one of them is no number. Floats and signed
        integers hold none either where one band is the declared no-data, which no light gives; bytes and their like
        may reach it. Such pixels are 0, as in training.

        Raises:
            ValueError: the file is damaged.
        """
        return self._read(window, (int(window.height), int(window.width)))

    def _read(
        self, window: Window | None, shape: tuple[int, int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        try:
            stored = self.raster.read(self.bands, window=window, out_shape=(len(self.bands), *shape))
            # writers mark the fourth band of any image as transparency: a band of the task is none
            transparency = ColorInterp.alpha in (self.raster.colorinterp[band - 1] for band in self.bands)
            valid = True if transparency else self.raster.dataset_mask(window=window, out_shape=shape) > 0
        except RasterioError as error:
            raise ValueError(f"{self.raster.name} is damaged ({error}): copy it again") from error
        with np.errstate(over="ignore"):  # what is too large is no number here
            pixels = stored.astype(np.float32)
        finite = np.isfinite(pixels).all(0)
        valid = valid & finite & ~self._empty(stored) & valid_pixels(np.moveaxis(pixels, 0, -1))
        return np.where(valid, pixels, 0), valid

    def _empty(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Where the declared no-data of the bands leaves no image."""
        declared = [self.raster.nodatavals[band - 1] for band in self.bands]
        empty = np.stack([pixels == value for pixels, value in zip(stored, declared, strict=True)])
        return np.asarray(empty.all(0) if stored.dtype.kind == "u" or not any(declared) else empty.any(0))

    @property
    def placed(self) -> bool:
        """Whether the file says where it lies."""
        return bool(self.raster.crs or self.raster.gcps[0] or self.raster.rpcs)

    def small(self) -> npt.NDArray[np.float32]:
        """The image [h, w, bands] for a preview, 0 where there is none. Raises `ValueError` if the file is damaged."""
        pixels, _ = self._read(None, preview_shape(self.height, self.width))
        return np.moveaxis(pixels, 0, -1)


@contextmanager
def open_image(path: Path, task: Task, bands: Sequence[int]) -> Iterator[Image]:
    """Open a raster for a task.

    Args:
        path: of any format that GDAL reads; TIFF bands are taken as stored, without colour conversion.
        task: says which bands there must be.
        bands: the file's bands (from 1) in the task's order; empty for all as they come.

    Raises:
        ValueError: it cannot be read, or its bands are not those of the task. Names the remedy.
    """
    if not path.is_file():
        raise ValueError(f"image {path} does not exist")
    wanted = ", ".join(f"{band.name} ({band.centre_um:g} µm)" for band in task.bands)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `predict` says so itself, once
        try:
            raster = rasterio.open(path)
            if raster.driver == "GTiff":
                raster.close()
                raster = rasterio.open(f"GTIFF_RAW:{path}")  # a CMYK tag would turn four bands into inverted colours
        except RasterioError as error:
            raise ValueError(f"image {path} cannot be read ({error}): give a GeoTIFF") from error
        with raster:
            if wrong := [band for band in bands if not 1 <= band <= raster.count]:
                raise ValueError(
                    f"--bands {','.join(map(str, bands))}: {path} has no band {wrong[0]}, only {raster.count}"
                )
            chosen = tuple(bands) or tuple(range(1, raster.count + 1))
            if len(chosen) != len(task.bands):
                named = f", --bands names {len(chosen)}" if bands else ""
                raise ValueError(
                    f"{path} has {raster.count} bands{named}; the record was trained on {len(task.bands)}: {wanted}. "
                    "Say which of the file's bands these are, in this order: "
                    f"--bands {','.join(map(str, example_order(len(task.bands))))}"
                )
            yield Image(raster=raster, bands=chosen)


def example_order(count: int) -> list[int]:
    """As many numbers of bands as a task has, in an order that is not the plain one."""
    return [count, *range(1, count)]


def preview_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a preview of an image of that size."""
    shrink = max(1.0, max(height, width) / _PREVIEW_PX)
    return max(1, round(height / shrink)), max(1, round(width / shrink))


@contextmanager
def label_raster(path: Path, image: Image, classes: Sequence[str], palette: Palette) -> Iterator[DatasetWriter]:
    """A GeoTIFF of class indices in the image's place, whole or not at all.

    Raises:
        ValueError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    raster = image.raster
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": IGNORE, "compress": "deflate", "tiled": True}
    gcps, gcps_crs = raster.gcps
    placed = {"gcps": gcps, "crs": gcps_crs} if gcps else {"transform": raster.transform, "crs": raster.crs}
    if raster.rpcs:
        placed["rpcs"] = raster.rpcs
    try:
        with rasterio.open(temporary, "w", height=image.height, width=image.width, **profile, **placed) as out:
            out.write_colormap(1, {i: (*colour, 255) for i, colour in enumerate(palette)})
            out.update_tags(**{f"class_{i}": name for i, name in enumerate(classes)})
            yield out
        os.replace(temporary, path)
    except (RasterioError, OSError) as error:
        raise ValueError(f"{path} cannot be written ({error}): choose another file with --out") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_preview(
    path: Path, image: Image, labels: Path, rgb: Sequence[int], classes: Sequence[str], palette: Palette
) -> None:
    """A PNG of the image and its labels side by side, with a legend of the classes that occur."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    with rasterio.open(labels) as raster:
        small = raster.read(1, out_shape=preview_shape(image.height, image.width))
    colours = np.full((IGNORE + 1, 3), 255, np.uint8)
    colours[: len(palette)] = palette
    rows, columns = small.shape
    figure = Figure(figsize=(10, 5 * rows / columns + 0.8), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, picture, title in (
        (left, stretch(image.small()[..., list(rgb)]), "image"),
        (right, colours[small], "predicted classes"),
    ):
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    found = [i for i in np.unique(small) if i < len(classes)]
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*palette[i]), edgecolor="0.4", label=classes[i]) for i in found
    ]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(8, len(patches)), fontsize=7, frameon=False
        )
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format="png")
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): choose another file with --out") from error
    finally:
        temporary.unlink(missing_ok=True)
