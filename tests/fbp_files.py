"""Writes a small folder in the layout of Five-Billion-Pixels: real names, real TIFF tags, learnable content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from benchmarks.datasets.fbp import PALETTE

SCENES = {
    "gf2": (
        "GF2_PMS1__L1A0001064454-MSS1",
        "GF2_PMS1__L1A0001118839-MSS1",
        "GF2_PMS2__L1A0000607677-MSS2",
        "GF2_PMS1__L1A0001344822-MSS1",
        "GF2_PMS2__L1A0000718813-MSS2",
        "GF2_PMS1__L1A0001366278-MSS1",
    ),
    "planetscope": (
        "20190713_032217_1003_3B_AnalyticMS_SR",
        "20190821_024714_84_1069_3B_AnalyticMS_SR",
        "20190815_031457_0e20_3B_AnalyticMS_SR",
    ),
    "gf1": (
        "GF1_PMS1_E114.0_N30.5_20160328_L1A0001492006-MSS1",
        "GF1_PMS2_E113.7_N30.2_20160614_L1A0001642547-MSS2",
    ),
    "sentinel2": ("T50TMK_20210929T030539", "T49QGF_20210218T025749"),
}
"""Names of scenes by domain, as their authors give them."""

COLOURS = {
    0: (120, 120, 120, 120),
    3: (210, 80, 110, 70),
    6: (180, 40, 70, 60),
    12: (100, 170, 160, 160),
    13: (20, 40, 90, 120),
    17: (130, 190, 150, 110),
    21: (80, 110, 110, 115),
}
"""Mean NIR, R, G, B of each label value that occurs; 0 is unlabelled."""

_GAIN = {"gf2": 1.0, "planetscope": 0.9, "gf1": 1.1, "sentinel2": 0.8}


@dataclass(frozen=True, kw_only=True)
class Written:
    """A tile as it was written.

    Args:
        image_path: the TIFF.
        label_path: the PNG.
        image: [px, px, 4] uint8 in the order NIR, R, G, B.
        raw: [px, px] uint8, the values of the label file, 0..24.
    """

    image_path: Path
    label_path: Path
    image: npt.NDArray[np.uint8]
    raw: npt.NDArray[np.uint8]


def write_fbp(
    root: Path,
    *,
    scenes: int = 3,
    tiles_per_scene: int = 2,
    px: int = 64,
    seed: int = 0,
    compression: str | None = None,
) -> dict[str, Written]:
    """Write `GID` below a root and return its tiles by name.

    Args:
        root: the data root; made if absent.
        scenes: scenes per domain, as far as `SCENES` goes.
        tiles_per_scene: tiles in one row of a scene; the last one's right eighth is zero fill, as in the real cut.
        px: side of a tile in pixels.
        seed: of the content.
        compression: of the TIFFs, as tifffile names it.
    """
    rng = np.random.default_rng(seed)
    written: dict[str, Written] = {}
    for domain, names in SCENES.items():
        side = root / "GID" / ("source_dir" if domain == "gf2" else "target_dir")
        prefix = "" if domain == "gf2" else "crop_"
        for folder in ("image", "label"):
            (side / folder).mkdir(parents=True, exist_ok=True)
        for scene in names[:scenes]:
            image, raw = _scene(rng, px, tiles_per_scene, _GAIN[domain])
            for column in range(tiles_per_scene):
                box = np.s_[:, column * px : (column + 1) * px]
                name = f"{prefix}{scene}_r001_c{column + 1:03d}"
                tile = Written(
                    image_path=side / "image" / f"{name}.tif",
                    label_path=side / "label" / f"{name}.png",
                    image=np.ascontiguousarray(image[box]),
                    raw=np.ascontiguousarray(raw[box]),
                )
                write_image(tile.image_path, tile.image, compression=compression)
                write_label(tile.label_path, tile.raw, mode="PL"[column % 2])
                written[name] = tile
    return written


def write_image(path: Path, image: npt.NDArray[np.generic], **options: object) -> None:
    """Write bands [H, W, 4] as the data set does (tagged CMYK, no alpha); options of `tifffile.imwrite` override."""
    tifffile.imwrite(path, image, **{"photometric": "separated", "metadata": None, **options})  # type: ignore[arg-type]


def write_label(path: Path, raw: npt.NDArray[np.uint8], *, mode: str) -> None:
    """Write label values [H, W] as a PNG, of mode P (with the authors' colours) or L."""
    label = Image.frombytes(mode, (raw.shape[1], raw.shape[0]), raw.tobytes())
    if mode == "P":
        label.putpalette([channel for colour in ((0, 0, 0), *PALETTE) for channel in colour])
    label.save(path)


def _scene(
    rng: np.random.Generator, px: int, tiles: int, gain: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Blobs around random points, each of one class: image [px, px * tiles, 4] and label values."""
    height, width = px, px * tiles
    points = rng.uniform((0, 0), (height, width), size=(10 * tiles, 2))
    values = rng.permutation(np.resize(list(COLOURS), len(points)))
    rows, columns = np.mgrid[:height, :width]
    distance = (rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2
    raw = values[distance.argmin(-1)].astype(np.uint8)
    table = np.zeros((max(COLOURS) + 1, 4))
    for value, colour in COLOURS.items():
        table[value] = colour
    image = np.clip(table[raw] * gain + rng.normal(0, 12, (height, width, 4)), 1, 254).astype(np.uint8)
    image[:, width - px // 8 :] = 0
    raw[:, width - px // 8 :] = 0
    return image, raw
